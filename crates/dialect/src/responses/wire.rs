//! Events and responses as a vendor sends them, read as far as somebody needs them.

use std::borrow::Cow;

use penstock_domain::{Citation, Error, FinishReason, TokenLogprob, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::openai::error::{bad_response, in_band_error};

/// Items above this number are garbage.
pub(super) const MAX_ITEMS: u32 = 4096;

/// The top level of an event.
#[derive(Deserialize)]
pub(super) struct View<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(default, borrow)]
    pub(super) delta: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) response: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) item: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) annotation: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) output_index: Option<u32>,
    #[serde(default)]
    pub(super) summary_index: Option<u32>,
}

/// Reads the view of a JSON object; `None` when the text is none or has no type.
pub(super) fn view(data: &[u8]) -> Option<View<'_>> {
    serde_json::from_slice(data).ok()
}

/// A response, its items unread.
#[derive(Deserialize)]
pub(super) struct Head<'a> {
    #[serde(default, borrow)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(super) status: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) incomplete_details: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) output: Option<Vec<&'a RawValue>>,
    #[serde(default, borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

/// Reads a response; `None` when it is none.
pub(super) fn head(raw: &RawValue) -> Option<Head<'_>> {
    serde_json::from_str(raw.get()).ok()
}

/// What a failed response failed of.
pub(super) fn failure(response: Option<&RawValue>, data: &[u8]) -> Error {
    let failed = response.and_then(head).and_then(|head| head.error);
    match (failed, response) {
        (Some(_), Some(response)) => in_band_error(response.get().as_bytes()),
        _ => bad_response("failed without a reason", data),
    }
}

/// Why an answer is incomplete; what no vendor says yet is a bound of some kind.
pub(super) fn incomplete(details: Option<&RawValue>) -> FinishReason {
    #[derive(Deserialize)]
    struct Details<'a> {
        #[serde(borrow)]
        reason: Cow<'a, str>,
    }
    let details: Option<Details<'_>> = details.and_then(|raw| serde_json::from_str(raw.get()).ok());
    match details {
        Some(details) if details.reason == "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Length,
    }
}

/// What an item is.
pub(super) fn item_kind(item: Option<&RawValue>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
    }
    serde_json::from_str::<Kind<'_>>(item?.get()).ok().map(|item| item.kind)
}

/// Reads a usage object; `None` when it is null or does not say what we ask.
pub(super) fn usage(raw: &RawValue) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Details {
        cached_tokens: Option<u64>,
        cache_write_tokens: Option<u64>,
        reasoning_tokens: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Wire {
        input_tokens: u64,
        output_tokens: u64,
        total_tokens: Option<u64>,
        input_tokens_details: Option<Details>,
        output_tokens_details: Option<Details>,
    }
    let wire: Wire = serde_json::from_str(raw.get()).ok()?;
    let usage = Usage {
        input: wire.input_tokens,
        output: wire.output_tokens,
        cached_input: wire.input_tokens_details.as_ref().and_then(|d| d.cached_tokens),
        // Who does not charge for writing says zero.
        cache_write: wire.input_tokens_details.and_then(|d| d.cache_write_tokens).filter(|n| *n > 0),
        reasoning: wire.output_tokens_details.and_then(|d| d.reasoning_tokens),
        ..Usage::default()
    };
    let doubtful = wire.total_tokens.is_some_and(|total| total != usage.total());
    Some(Usage { doubtful, ..usage })
}

/// An item, whole or just begun.
#[derive(Deserialize)]
pub(super) struct Item {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) call_id: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) arguments: Option<String>,
    #[serde(default)]
    pub(super) encrypted_content: Option<String>,
    #[serde(default)]
    pub(super) content: Option<Vec<Part>>,
    #[serde(default)]
    pub(super) summary: Option<Vec<Part>>,
}

/// A part of a message or of reasoning.
#[derive(Deserialize)]
pub(super) struct Part {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) refusal: Option<String>,
    #[serde(default)]
    pub(super) annotations: Option<Vec<Annotation>>,
    #[serde(default)]
    pub(super) logprobs: Option<Vec<Token>>,
}

/// Where a text comes from; of the kinds that there are, those that name a source.
#[derive(Deserialize)]
pub(super) struct Annotation {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    filename: Option<String>,
    #[serde(default)]
    start_index: Option<u32>,
    #[serde(default)]
    end_index: Option<u32>,
}

impl Annotation {
    /// `None` for what is no source.
    pub(super) fn citation(self) -> Option<Citation> {
        let known =
            matches!(self.kind.as_str(), "url_citation" | "file_citation" | "container_file_citation");
        known.then(|| Citation {
            url: self.url,
            title: self.title.or(self.filename),
            of: self.start_index.zip(self.end_index),
            ..Citation::default()
        })
    }
}

/// A token and its log probability.
#[derive(Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    logprob: f32,
    #[serde(default)]
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Option<Vec<Token>>,
}

impl From<Token> for TokenLogprob {
    fn from(wire: Token) -> Self {
        let spelt = |token: &str, bytes: Option<Vec<u8>>| bytes.unwrap_or_else(|| token.as_bytes().to_vec());
        let top = wire.top_logprobs.unwrap_or_default();
        Self {
            bytes: spelt(&wire.token, wire.bytes),
            token: wire.token,
            logprob: wire.logprob,
            top: top.into_iter().map(|t| (t.token.clone(), spelt(&t.token, t.bytes), t.logprob)).collect(),
        }
    }
}
