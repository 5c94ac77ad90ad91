//! Answers, whole and by pieces, in words of every dialect.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use penstock_domain::{Citation, CitedPlace, Delta, Error, Started, Task};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::openai::error::bad_response;

/// Blocks above this number are garbage.
const MAX_BLOCKS: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    #[serde(borrow)]
    output: Output<'a>,
    #[serde(borrow)]
    stop_reason: Cow<'a, str>,
    #[serde(default)]
    usage: Option<super::Usage>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Vec<Block<'a>>,
}

/// A block of a whole message. A kind that nobody here has a word for reads as nothing.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Block<'a> {
    text: Option<String>,
    #[serde(borrow)]
    tool_use: Option<ToolUse<'a>>,
    reasoning_content: Option<Reasoning>,
    citations_content: Option<Cited>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse<'a> {
    tool_use_id: String,
    name: String,
    #[serde(borrow)]
    input: &'a RawValue,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Reasoning {
    reasoning_text: Option<ReasoningText>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningText {
    text: String,
    #[serde(default)]
    signature: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cited {
    content: Vec<TextOnly>,
    citations: Vec<Source>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TextOnly {
    text: String,
}

/// `Citation` and `CitationsDelta`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Source {
    title: Option<String>,
    source_content: Vec<TextOnly>,
    location: Location,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Location {
    web: Option<Web>,
    document_char: Option<Range>,
    document_page: Option<Range>,
    document_chunk: Option<Range>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Web {
    url: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Range {
    document_index: Option<u32>,
    start: u32,
    end: u32,
}

impl Source {
    fn read(self) -> Citation {
        let Location { web, document_char, document_page, document_chunk } = self.location;
        let ranges = [
            (document_char, CitedPlace::Characters as fn(u32, u32) -> CitedPlace),
            (document_page, CitedPlace::Pages),
            (document_chunk, CitedPlace::Blocks),
        ];
        let found = ranges.into_iter().find_map(|(range, place)| {
            range.map(|Range { document_index, start, end }| (document_index, place(start, end)))
        });
        let quote: String = self.source_content.into_iter().map(|piece| piece.text).collect();
        Citation {
            quote: (!quote.is_empty()).then_some(quote),
            url: web.and_then(|web| web.url),
            title: self.title,
            document: found.as_ref().and_then(|(document, _)| *document),
            place: found.map(|(_, place)| place),
            of: None,
        }
    }
}

/// `ContentBlockStart`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Opening<'a> {
    #[serde(borrow)]
    tool_use: Option<OpeningCall<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpeningCall<'a> {
    #[serde(borrow)]
    tool_use_id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// `ContentBlockDelta`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Piece<'a> {
    text: Option<String>,
    #[serde(borrow)]
    tool_use: Option<CallPiece<'a>>,
    reasoning_content: Option<ReasoningPiece>,
    citation: Option<Source>,
}

#[derive(Deserialize)]
struct CallPiece<'a> {
    #[serde(borrow)]
    input: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ReasoningPiece {
    text: Option<String>,
    redacted_content: Option<String>,
    signature: Option<String>,
}

/// Which blocks are tool calls, and which call each of them is.
#[derive(Debug, Default)]
pub(super) struct Reading {
    calls: BTreeMap<u32, u32>,
}

impl Reading {
    pub(super) fn open(&mut self, index: u32, opening: Opening<'_>, out: &mut VecDeque<Delta>) -> Option<()> {
        let Some(call) = opening.tool_use else { return Some(()) };
        let number = self.calls.len();
        if number >= MAX_BLOCKS || self.calls.contains_key(&index) {
            return None;
        }
        self.calls.insert(index, number as u32);
        out.push_back(Delta::ToolCall {
            choice: 0,
            index: number as u32,
            id: Some(call.tool_use_id.into_owned()),
            name: Some(call.name.into_owned()),
            arguments: String::new(),
        });
        Some(())
    }

    pub(super) fn piece(&mut self, index: u32, piece: Piece<'_>, out: &mut VecDeque<Delta>) -> Option<()> {
        let Piece { text, tool_use, reasoning_content, citation } = piece;
        out.extend(text.map(said));
        if let Some(CallPiece { input }) = tool_use {
            let (index, arguments) = (*self.calls.get(&index)?, input.into_owned());
            out.push_back(Delta::ToolCall { choice: 0, index, id: None, name: None, arguments });
        }
        if let Some(ReasoningPiece { text, redacted_content, signature }) = reasoning_content {
            out.extend(text.map(|text| Delta::Reasoning { choice: 0, text }));
            out.extend(signature.map(|text| Delta::Signature { choice: 0, text }));
            out.extend(redacted_content.map(|text| Delta::Sealed { choice: 0, text }));
        }
        out.extend(citation.map(|source| Delta::Citation { choice: 0, citation: source.read() }));
        Some(())
    }
}

fn said(text: String) -> Delta {
    Delta::Text { choice: 0, text, logprobs: Vec::new() }
}

/// The deltas of a whole 200, in order.
///
/// # Errors
/// `upstream_bad_response` for what is no answer.
pub(crate) fn unfold(task: Task, body: &[u8]) -> Result<Vec<Delta>, Error> {
    if task == Task::CountTokens {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Counted {
            input_tokens: u64,
        }
        let counted: Counted =
            serde_json::from_slice(body).map_err(|_| bad_response("has no number of tokens", body))?;
        return Ok(vec![Delta::Counted { input: counted.input_tokens, estimated: false }]);
    }
    let whole: Whole<'_> = serde_json::from_slice(body).map_err(|_| bad_response("is no message", body))?;
    let mut deltas = vec![Delta::Started(Started::default())];
    let mut calls = 0;
    for block in whole.output.message.content {
        let Block { text, tool_use, reasoning_content, citations_content } = block;
        deltas.extend(text.map(said));
        if let Some(ToolUse { tool_use_id, name, input }) = tool_use {
            let arguments = input.get().to_owned();
            let (id, name) = (Some(tool_use_id), Some(name));
            deltas.push(Delta::ToolCall { choice: 0, index: calls, id, name, arguments });
            calls += 1;
        }
        if let Some(Reasoning { reasoning_text, redacted_content }) = reasoning_content {
            if let Some(ReasoningText { text, signature }) = reasoning_text {
                deltas.push(Delta::Reasoning { choice: 0, text });
                deltas.extend(signature.map(|text| Delta::Signature { choice: 0, text }));
            }
            deltas.extend(redacted_content.map(|text| Delta::Sealed { choice: 0, text }));
        }
        if let Some(Cited { content, citations }) = citations_content {
            deltas.extend(content.into_iter().map(|piece| said(piece.text)));
            deltas
                .extend(citations.into_iter().map(|one| Delta::Citation { choice: 0, citation: one.read() }));
        }
    }
    deltas.push(Delta::Finished { choice: 0, reason: super::finish(&whole.stop_reason), stop: None });
    deltas.extend(whole.usage.map(|usage| Delta::Usage(usage.read())));
    Ok(deltas)
}
