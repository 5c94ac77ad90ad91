//! Log probabilities as this dialect lists them.

use penstock_domain::TokenLogprob;
use serde_json::{Value, json};

/// The list of a text's tokens.
pub(super) fn json(tokens: &[TokenLogprob]) -> Value {
    let token = |token: &TokenLogprob| {
        let top = token.top.iter();
        let top: Vec<Value> = top
            .map(|(token, bytes, logprob)| json!({"token": token, "logprob": number(*logprob), "bytes": bytes}))
            .collect();
        json!({
            "token": token.token, "logprob": number(token.logprob), "bytes": token.bytes, "top_logprobs": top,
        })
    };
    tokens.iter().map(token).collect()
}

/// Through text: f32 to f64 would turn -0.7 into -0.699999988. A probability of zero has a logarithm that JSON has not.
fn number(logprob: f32) -> Value {
    let logprob = if logprob.is_finite() { logprob } else { -9999.0 };
    logprob.to_string().parse::<f64>().map_or(Value::Null, |number| json!(number))
}
