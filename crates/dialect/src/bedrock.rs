//! Amazon Bedrock's Converse API, as a vendor speaks it: requests written, answers and event streams read.
//!
//! What it promises: one shape for every model family behind Bedrock; binary frames are checked by length and checksum
//! before anybody believes them; what Converse has no member for is named, and content that it cannot carry is refused.
//! What it refuses to know: regions, signatures, addresses.
//!
//! Source: the API reference of Amazon Bedrock Runtime (2023-09-30), `Converse`, `ConverseStream` and `CountTokens`.

mod answer;
mod frame;
mod lane;
mod request;

#[cfg(test)]
mod tests;

use penstock_domain::{Error, FinishReason};
use serde::Deserialize;

use crate::refusal;

pub(crate) use answer::unfold;
pub(crate) use lane::FrameLane;
pub(crate) use request::encode;

/// What an exception inside a stream means: its payload is `{"message": …}`, its kind stands in the frame's head.
fn exception(kind: &str, payload: &[u8]) -> Error {
    refusal::in_band_of(kind, payload)
}

/// Why an answer ended, in our words. A guardrail of the account that stepped in withheld content.
fn finish(reason: &str) -> FinishReason {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "guardrail_intervened" | "content_filtered" => FinishReason::ContentFilter,
        _ => FinishReason::Stop,
    }
}

/// `TokenUsage`: the input without what the prompt cache read or wrote.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
    #[serde(default)]
    total_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_write_input_tokens: Option<u64>,
    #[serde(default)]
    cache_details: Vec<CacheDetail>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheDetail {
    ttl: String,
    input_tokens: u64,
}

impl Usage {
    fn read(&self) -> penstock_domain::Usage {
        let cached = self
            .cache_read_input_tokens
            .unwrap_or(0)
            .saturating_add(self.cache_write_input_tokens.unwrap_or(0));
        let input = self.input_tokens.saturating_add(cached);
        let hour =
            self.cache_details.iter().filter(|detail| detail.ttl == "1h").map(|detail| detail.input_tokens);
        let sums =
            [input.saturating_add(self.output_tokens), self.input_tokens.saturating_add(self.output_tokens)];
        penstock_domain::Usage {
            input,
            output: self.output_tokens,
            cached_input: self.cache_read_input_tokens,
            cache_write: self.cache_write_input_tokens,
            cache_write_hour: (!self.cache_details.is_empty()).then(|| hour.fold(0, u64::saturating_add)),
            reasoning: None,
            // The total counts the cache for some model families and leaves it out for others.
            doubtful: self.total_tokens.is_some_and(|total| !sums.contains(&total)),
        }
    }
}
