//! Anthropic messages, as a server speaks them.
//!
//! What it promises: requests into the shared words, answers and errors out of them, with Anthropic's arithmetic (input
//! tokens without the cached ones) and block order. What it refuses to know: reading an Anthropic vendor's answers.

pub mod error;
pub mod request;
pub mod response;
pub mod stream;

#[cfg(test)]
mod tests;

use penstock_domain::{FinishReason, Request, Started, Usage};
use serde_json::{Value, json};

/// Anthropic's `stop_reason`.
fn stop_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
    }
}

/// Anthropic's usage: input without what came from the cache.
fn usage(usage: &Usage) -> Value {
    let cached = usage.cached_input.unwrap_or(0);
    json!({
        "input_tokens": usage.input.saturating_sub(cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output,
    })
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
