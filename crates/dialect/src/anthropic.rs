//! Anthropic messages, both ways: as a server speaks them and as a vendor does.
//!
//! What it promises: requests into the shared words and back, answers and errors likewise, with Anthropic's arithmetic
//! (input tokens without the cached ones) and block order. What it refuses to know: who asks whom.

mod block;
pub mod chat;
mod citation;
pub mod error;
pub mod models;
pub mod raw_lane;
pub mod reader;
pub mod request;
pub mod response;
pub mod stream;
pub(crate) mod thinking;
mod wire;

#[cfg(test)]
mod tests;

use penstock_domain::{FinishReason, Request, Started, Usage};
use serde_json::{Value, json};

/// How an answer ended, as far as it was told.
#[derive(Debug, Default)]
struct Ending {
    /// The stop sequences that the asker sent.
    asked: Vec<String>,
    finish: Option<FinishReason>,
    /// The stop sequence that the vendor says it met.
    stop: Option<Box<str>>,
    /// The model declined in its own words.
    refused: bool,
}

impl Ending {
    /// For the answer to this request, of which only the stop sequences are kept.
    fn of(request: &Request) -> Self {
        Self { asked: request::stop_sequences(request.body.bytes()), ..Self::default() }
    }

    /// Anthropic's `stop_reason` and `stop_sequence`. The sequence is one that the asker sent, whatever a vendor says.
    fn told(&self) -> (&'static str, Option<&str>) {
        let asked = |stop: &str| self.asked.iter().any(|asked| asked == stop);
        match stop_reason(self.finish, self.refused) {
            "end_turn" => match self.stop.as_deref().filter(|stop| asked(stop)) {
                Some(stop) => ("stop_sequence", Some(stop)),
                None => ("end_turn", None),
            },
            reason => (reason, None),
        }
    }
}

/// Anthropic's `stop_reason`. OpenAI ends a refusal like any other answer; here it has a reason of its own.
fn stop_reason(finish: Option<FinishReason>, refused: bool) -> &'static str {
    let reason = match finish {
        None | Some(FinishReason::Stop) if refused => FinishReason::ContentFilter,
        None => FinishReason::Stop,
        Some(reason) => reason,
    };
    match reason {
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
    }
}

/// What an answer tells besides why it stopped. Of a refusal other dialects know no more than that it is one: what the
/// model said about it is its text.
fn stop_details(stop_reason: &str) -> Option<Value> {
    (stop_reason == "refusal").then(|| json!({"type": "refusal", "category": null, "explanation": null}))
}

/// Anthropic's usage: input without what the cache read or wrote. What nobody said is null, not zero.
fn usage(usage: &Usage) -> Value {
    let cached = usage.cached_input.unwrap_or(0).saturating_add(usage.cache_write.unwrap_or(0));
    let mut wire = json!({
        "input_tokens": usage.input.saturating_sub(cached),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached_input,
        "output_tokens": usage.output,
    });
    if let Some(hour) = usage.cache_write_hour {
        wire["cache_creation"] = json!({
            "ephemeral_5m_input_tokens": usage.cache_write.unwrap_or(0).saturating_sub(hour),
            "ephemeral_1h_input_tokens": hour,
        });
    }
    if let Some(reasoning) = usage.reasoning {
        wire["output_tokens_details"] = json!({"thinking_tokens": reasoning});
    }
    wire
}

/// The id of a message: the vendor's, or one made from the request's.
fn message_id(started: &Started, request: &Request) -> String {
    match started.id.as_str() {
        "" => format!("msg_{}", request.id.as_str().trim_start_matches("req_")),
        id => id.to_owned(),
    }
}

/// The model of an answer as the vendor names it, or as it was asked for.
fn model<'a>(started: &'a Started, request: &'a Request) -> &'a str {
    if started.model.is_empty() { &request.model } else { &started.model }
}
