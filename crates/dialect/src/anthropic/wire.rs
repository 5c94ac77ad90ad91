//! Events and messages as a vendor sends them, read as far as somebody needs them.

use std::borrow::Cow;

use penstock_domain::{Citation, Delta, FinishReason, Started, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::citation;

/// Blocks above this number are garbage.
const MAX_BLOCKS: u32 = 4096;
/// Most citations of one block that are told.
const MAX_CITATIONS: usize = 1024;

/// The top level of an event, of a message, or of an error.
#[derive(Deserialize)]
pub(super) struct View<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(default)]
    pub(super) index: Option<u32>,
    #[serde(default, borrow)]
    pub(super) message: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) content_block: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) delta: Option<&'a RawValue>,
    /// Of `message_delta`.
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
}

impl View<'_> {
    /// What a `message_delta` says about tokens; what cannot be read is not known.
    pub(super) fn tokens(&self) -> Option<Tokens> {
        serde_json::from_str(self.usage?.get()).ok()
    }
}

/// Reads the view of a JSON object; `None` when the text is none or has no type.
pub(super) fn view(data: &[u8]) -> Option<View<'_>> {
    // What is skipped while reading is passed on as well, so all of it must be text.
    serde_json::from_str(std::str::from_utf8(data).ok()?).ok()
}

/// A whole message, or the opening of one.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default, borrow)]
    pub(super) content: Option<Vec<&'a RawValue>>,
    #[serde(default, borrow)]
    pub(super) stop_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) stop_sequence: Option<Box<str>>,
    #[serde(default, borrow)]
    pub(super) stop_details: Option<&'a RawValue>,
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
}

impl Message<'_> {
    /// What it says about tokens; what cannot be read is not known.
    pub(super) fn tokens(&self) -> Tokens {
        self.usage.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    pub(super) fn started(&mut self) -> Delta {
        let (id, model) = (self.id.take(), self.model.take());
        Delta::Started(Started { id: id.unwrap_or_default(), model: model.unwrap_or_default() })
    }
}

/// The delta of `message_delta`.
#[derive(Deserialize)]
pub(super) struct End<'a> {
    #[serde(default, borrow)]
    pub(super) stop_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) stop_sequence: Option<Box<str>>,
    #[serde(default, borrow)]
    pub(super) stop_details: Option<&'a RawValue>,
}

/// What the vendor says about a refusal, in words for people.
pub(super) fn refusal(stop_details: Option<&RawValue>) -> Option<Delta> {
    #[derive(Deserialize)]
    struct Details {
        #[serde(default)]
        explanation: Option<String>,
    }
    let details: Details = serde_json::from_str(stop_details?.get()).ok()?;
    let text = details.explanation.filter(|text| !text.is_empty())?;
    Some(Delta::Refusal { choice: 0, text })
}

/// Usage as the dialect counts it: the input without what the prompt cache read or wrote.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Tokens {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation: Option<Kept>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    output_tokens_details: Option<Details>,
}

/// How much of what was written to the prompt cache is kept for how long.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Kept {
    #[serde(default)]
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Details {
    #[serde(default, alias = "reasoning_tokens")]
    thinking_tokens: Option<u64>,
}

impl Tokens {
    /// Takes over what a later event says; its numbers are totals, not additions.
    pub(super) fn update(&mut self, later: &Tokens) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.cache_creation_input_tokens =
            later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
    }

    /// In our arithmetic; `None` while input or output are unknown.
    pub(super) fn usage(&self) -> Option<Usage> {
        let (read, written) = (self.cache_read_input_tokens, self.cache_creation_input_tokens);
        let cached = read.unwrap_or(0).saturating_add(written.unwrap_or(0));
        Some(Usage {
            input: self.input_tokens?.saturating_add(cached),
            output: self.output_tokens?,
            cached_input: read,
            cache_write: written,
            cache_write_hour: self.cache_creation.and_then(|kept| kept.ephemeral_1h_input_tokens),
            doubtful: false,
            reasoning: self.output_tokens_details.and_then(|details| details.thinking_tokens),
        })
    }
}

/// Reads a `stop_reason`.
pub(super) fn finish(reason: &str) -> FinishReason {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::ContentFilter,
        // Also "end_turn", "stop_sequence", "pause_turn" and whatever comes next: the model ended by itself.
        _ => FinishReason::Stop,
    }
}

/// A content block, whole or just opened, or a piece of one.
#[derive(Deserialize)]
pub(super) struct Block<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    data: Option<String>,
    /// Of a whole text block.
    #[serde(default, borrow)]
    citations: Option<Vec<&'a RawValue>>,
    /// Of a piece.
    #[serde(default, borrow)]
    citation: Option<&'a RawValue>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, borrow)]
    input: Option<&'a RawValue>,
    #[serde(default)]
    partial_json: Option<String>,
}

/// Tells the blocks of one answer apart, and the calls among them.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    calls: u32,
    /// The open call: its block, and whether it has arguments by now.
    open: Option<(u32, bool)>,
    /// Characters of text so far, and where the open block's text begins.
    said: u32,
    since: u32,
    /// What the open block cites: told when its range is known.
    cited: Vec<Citation>,
}

impl Blocks {
    /// Appends what a block opens with; `None` when it makes no sense. Blocks that other dialects have no word for (a
    /// vendor's own tools) say nothing.
    pub(super) fn start(&mut self, index: u32, block: Block<'_>, out: &mut Vec<Delta>) -> Option<()> {
        if index >= MAX_BLOCKS {
            return None;
        }
        match block.kind.as_ref() {
            "tool_use" => {
                // Whole calls bring their arguments, streamed ones an empty object.
                let input = block.input.map(RawValue::get).filter(|text| *text != "{}");
                out.push(Delta::ToolCall {
                    choice: 0,
                    index: self.calls,
                    id: Some(block.id.filter(|id| !id.is_empty())?),
                    name: Some(block.name?),
                    arguments: input.unwrap_or_default().to_owned(),
                });
                self.calls += 1;
                self.open = Some((index, input.is_some()));
            }
            _ => {
                self.since = self.said;
                self.say(block, out);
            }
        }
        Some(())
    }

    /// Appends a piece of a block; `None` when it makes no sense.
    pub(super) fn piece(&mut self, index: u32, piece: Block<'_>, out: &mut Vec<Delta>) -> Option<()> {
        if piece.kind != "input_json_delta" {
            self.say(piece, out);
            return Some(());
        }
        // The arguments of a vendor's own tool are nobody's business.
        let Some((_, begun)) = self.open.as_mut().filter(|(open, _)| *open == index) else { return Some(()) };
        let arguments = piece.partial_json?;
        if !arguments.is_empty() {
            *begun = true;
            out.push(Delta::ToolCall { choice: 0, index: self.calls - 1, id: None, name: None, arguments });
        }
        Some(())
    }

    /// Ends a block: what it cites is told, and a call without arguments has an empty object of them.
    pub(super) fn stop(&mut self, index: u32, out: &mut Vec<Delta>) {
        let of = Some((self.since, self.said));
        out.extend(
            self.cited
                .drain(..)
                .map(|citation| Delta::Citation { choice: 0, citation: Citation { of, ..citation } }),
        );
        if let Some((_, false)) = self.open.take_if(|(open, _)| *open == index) {
            let arguments = "{}".to_owned();
            out.push(Delta::ToolCall { choice: 0, index: self.calls - 1, id: None, name: None, arguments });
        }
    }

    fn say(&mut self, block: Block<'_>, out: &mut Vec<Delta>) {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        match block.kind.as_ref() {
            "text" | "text_delta" | "citations_delta" => {
                if let Some(text) = some(block.text) {
                    let length = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
                    self.said = self.said.saturating_add(length);
                    out.push(Delta::Text { choice: 0, text, logprobs: Vec::new() });
                }
                let cited = block.citations.into_iter().flatten().chain(block.citation);
                let room = MAX_CITATIONS.saturating_sub(self.cited.len());
                self.cited.extend(cited.filter_map(citation::read).take(room));
            }
            "thinking" | "thinking_delta" | "signature_delta" => {
                out.extend(some(block.thinking).map(|text| Delta::Reasoning { choice: 0, text }));
                out.extend(some(block.signature).map(|text| Delta::Signature { choice: 0, text }));
            }
            "redacted_thinking" => out.extend(some(block.data).map(|text| Delta::Sealed { choice: 0, text })),
            _ => {}
        }
    }
}
