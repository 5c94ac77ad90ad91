//! The pieces of JSON that streams and whole answers share on their way out.

use bytes::{BufMut, BytesMut};
use penstock_domain::{Request, Started, Task, TokenLogprob, Usage};
use serde::Serialize;

/// Appends a value as JSON.
pub(crate) fn json<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    let mark = out.len();
    if serde_json::to_writer(out.writer(), value).is_err() {
        // Memory cannot refuse bytes and no value of ours refuses to be written; null keeps the text well formed.
        out.truncate(mark);
        out.put_slice(b"null");
    }
}

/// The id of an answer: the vendor's, or one made from the request's.
pub(crate) fn answer_id(started: &Started, request: &Request) -> String {
    if !started.id.is_empty() {
        return started.id.clone();
    }
    let tail = request.id.as_str().trim_start_matches("req_");
    format!("{}-{tail}", if request.task == Task::Chat { "chatcmpl" } else { "cmpl" })
}

/// The model of an answer as the vendor names it, or as it was asked for.
pub(crate) fn answer_model<'a>(started: &'a Started, request: &'a Request) -> &'a str {
    if started.model.is_empty() { &request.model } else { &started.model }
}

/// A number that JSON can hold: a probability of zero has a logarithm that JSON has not.
fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}

#[derive(Serialize)]
struct Token<'a> {
    token: &'a str,
    logprob: f32,
    bytes: &'a [u8],
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<Token<'a>>>,
}

/// Appends the `logprobs` member's value of a chat choice.
pub(crate) fn chat_logprobs(out: &mut BytesMut, tokens: &[TokenLogprob]) {
    if tokens.is_empty() {
        return out.put_slice(b"null");
    }
    let bare = |(token, bytes, logprob): &'_ (String, Vec<u8>, f32)| -> (String, Vec<u8>, f32) {
        (token.clone(), bytes.clone(), finite(*logprob))
    };
    out.put_slice(b"{\"content\":[");
    for (i, token) in tokens.iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        let top: Vec<_> = token.top.iter().map(bare).collect();
        let top = top.iter().map(|(token, bytes, logprob)| Token {
            token,
            bytes,
            logprob: *logprob,
            top_logprobs: None,
        });
        let wire = Token {
            token: &token.token,
            bytes: &token.bytes,
            logprob: finite(token.logprob),
            top_logprobs: Some(top.collect()),
        };
        json(out, &wire);
    }
    out.put_slice(b"],\"refusal\":null}");
}

/// Appends the `logprobs` member's value of a completion choice; `offset` is the first token's place in the text, in
/// characters.
pub(crate) fn completion_logprobs(out: &mut BytesMut, tokens: &[TokenLogprob], mut offset: usize) {
    if tokens.is_empty() {
        return out.put_slice(b"null");
    }
    #[derive(Serialize)]
    struct Wire<'a> {
        tokens: Vec<&'a str>,
        token_logprobs: Vec<f32>,
        top_logprobs: Vec<serde_json::Map<String, serde_json::Value>>,
        text_offset: Vec<usize>,
    }
    let mut wire = Wire { tokens: vec![], token_logprobs: vec![], top_logprobs: vec![], text_offset: vec![] };
    for token in tokens {
        wire.tokens.push(&token.token);
        wire.token_logprobs.push(finite(token.logprob));
        let top = token.top.iter().map(|(token, _, p)| (token.clone(), serde_json::json!(finite(*p))));
        wire.top_logprobs.push(top.collect());
        wire.text_offset.push(offset);
        offset += token.token.chars().count();
    }
    json(out, &wire);
}

/// Appends a usage object.
pub(crate) fn usage(out: &mut BytesMut, usage: &Usage, task: Task) {
    #[derive(Serialize)]
    struct Input {
        #[serde(skip_serializing_if = "Option::is_none")]
        cached_tokens: Option<u64>,
        /// OpenRouter's name: OpenAI itself has none, because it does not charge for writing.
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_write_tokens: Option<u64>,
    }
    #[derive(Serialize)]
    struct Output {
        reasoning_tokens: u64,
    }
    #[derive(Serialize)]
    struct Wire {
        prompt_tokens: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        completion_tokens: Option<u64>,
        total_tokens: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        prompt_tokens_details: Option<Input>,
        #[serde(skip_serializing_if = "Option::is_none")]
        completion_tokens_details: Option<Output>,
    }
    let wire = Wire {
        prompt_tokens: usage.input,
        completion_tokens: (task != Task::Embedding).then_some(usage.output),
        total_tokens: usage.total(),
        prompt_tokens_details: (usage.cached_input.or(usage.cache_write))
            .map(|_| Input { cached_tokens: usage.cached_input, cache_write_tokens: usage.cache_write }),
        completion_tokens_details: usage.reasoning.map(|reasoning_tokens| Output { reasoning_tokens }),
    };
    json(out, &wire);
}
