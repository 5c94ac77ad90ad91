//! A `GenerateContentResponse`, whole or one of a stream, read into deltas.
//!
//! What it promises: one reading for both; a candidate that broke is an error and never an empty success; every number
//! and text that the vendor controls is bounded. What it refuses to know: events and chunks of bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use penstock_domain::{Citation, Code, Delta, Error, FinishReason, Started, TokenLogprob, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error;
use crate::refusal::{bad_response, filtered};

/// Candidates above this number are garbage: the API documents 8.
const MAX_CANDIDATES: u32 = 128;
/// How much of a candidate's text is kept for the places of its sources, in bytes.
const MAX_CITED: usize = 1 << 20;
/// What stands for an answer that is media and nothing else.
const MEDIA_ALONE: &str = "[the model answered with media, which this API cannot carry]";
/// Most sources of one candidate.
const MAX_CITATIONS: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(default, borrow)]
    candidates: Option<Vec<Candidate<'a>>>,
    #[serde(default)]
    prompt_feedback: Option<Feedback>,
    #[serde(default, borrow)]
    usage_metadata: Option<&'a RawValue>,
    #[serde(default)]
    model_version: Option<String>,
    #[serde(default)]
    response_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    #[serde(default)]
    block_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default)]
    index: u32,
    #[serde(default, borrow)]
    content: Option<Content<'a>>,
    #[serde(default, borrow)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    logprobs_result: Option<Logprobs>,
    #[serde(default)]
    citation_metadata: Option<CitationMetadata>,
    #[serde(default)]
    grounding_metadata: Option<Grounding>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(default, borrow)]
    parts: Option<Vec<Piece<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thought: Option<bool>,
    #[serde(default)]
    thought_signature: Option<String>,
    #[serde(default, borrow)]
    function_call: Option<Call<'a>>,
    #[serde(default)]
    inline_data: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    file_data: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, borrow)]
    args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logprobs {
    #[serde(default)]
    chosen_candidates: Vec<Token>,
    #[serde(default)]
    top_candidates: Vec<Top>,
}

#[derive(Deserialize)]
struct Top {
    #[serde(default)]
    candidates: Vec<Token>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    log_probability: f32,
}

/// Sources that the model recites; the REST name and the name in Google's SDK.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CitationMetadata {
    #[serde(default, alias = "citations")]
    citation_sources: Vec<Source>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    #[serde(default)]
    start_index: u32,
    #[serde(default)]
    end_index: Option<u32>,
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    title: Option<String>,
}

/// Sources that a search found.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grounding {
    #[serde(default)]
    grounding_chunks: Vec<Chunk>,
    #[serde(default)]
    grounding_supports: Vec<Support>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    #[serde(default)]
    web: Option<Found>,
    #[serde(default)]
    retrieved_context: Option<Found>,
    #[serde(default)]
    maps: Option<Found>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Support {
    #[serde(default)]
    segment: Option<Segment>,
    #[serde(default)]
    grounding_chunk_indices: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Segment {
    #[serde(default)]
    part_index: u32,
    #[serde(default)]
    start_index: u32,
    #[serde(default)]
    end_index: Option<u32>,
}

/// What a stream, or a body, has told so far.
#[derive(Debug)]
pub(super) struct Reading {
    /// What the ids of calls are made from that the model gave none.
    id: String,
    /// How many candidates were asked for.
    expected: u32,
    started: bool,
    choices: BTreeMap<u32, Choice>,
}

#[derive(Debug, Default)]
struct Choice {
    calls: u32,
    /// Something was said.
    spoke: bool,
    /// It answered with media, which were left out.
    showed: bool,
    finished: bool,
    /// The text so far, for the places of sources; at most [`MAX_CITED`] bytes.
    text: String,
    /// What it recites, and what a search found; both are told again with every response that has them.
    recited: Vec<Citation>,
    found: Vec<Citation>,
}

impl Reading {
    /// Nothing read yet of an answer of which `expected` candidates were asked; `id` tells its calls from others'.
    pub(super) fn new(id: &str, expected: u32) -> Self {
        Self {
            id: id.trim_start_matches("req_").to_owned(),
            expected: expected.clamp(1, MAX_CANDIDATES),
            started: false,
            choices: BTreeMap::new(),
        }
    }

    /// Whether every candidate that was asked for told why it ended.
    pub(super) fn complete(&self) -> bool {
        self.choices.values().filter(|choice| choice.finished).count() as u64 >= u64::from(self.expected)
    }

    /// Appends what one response says; gives the usage up to there, where it tells.
    ///
    /// # Errors
    /// The error that it carries; `upstream_bad_response` for what is no response and for a candidate that broke.
    pub(super) fn read(&mut self, data: &[u8], out: &mut Vec<Delta>) -> Result<Option<Usage>, Error> {
        if let Some(error) = error::in_band(data) {
            return Err(error);
        }
        let first = data.iter().find(|b| !b.is_ascii_whitespace());
        let wire: Wire<'_> = match first {
            Some(b'{') => serde_json::from_slice(data)
                .map_err(|_| bad_response("is not what its dialect says", data))?,
            _ => return Err(bad_response("is not a JSON object", data)),
        };
        if !std::mem::replace(&mut self.started, true) {
            let (id, model) = (wire.response_id, wire.model_version);
            let started = Started { id: id.unwrap_or_default(), model: model.unwrap_or_default() };
            out.push(Delta::Started(started));
        }
        let usage = wire.usage_metadata.and_then(usage);
        let candidates = wire.candidates.unwrap_or_default();
        let blocked = wire.prompt_feedback.and_then(|feedback| feedback.block_reason);
        if let Some(reason) = blocked.filter(|reason| !reason.ends_with("_UNSPECIFIED"))
            && candidates.is_empty()
        {
            // Before anything was said it is a refusal like any other vendor's: routing may ask somebody else.
            if self.choices.is_empty() {
                return Err(filtered(&reason, data));
            }
            self.block(out);
        }
        for candidate in candidates {
            self.candidate(candidate, data, out)?;
        }
        Ok(usage)
    }

    /// What was asked is refused after all: no candidate will say anything more.
    fn block(&mut self, out: &mut Vec<Delta>) {
        for choice in 0..self.expected {
            let state = self.choices.entry(choice).or_default();
            if !std::mem::replace(&mut state.finished, true) {
                out.push(Delta::Finished { choice, reason: FinishReason::ContentFilter, stop: None });
            }
        }
    }

    /// Ends the candidates of a whole body that did not tell why they ended: the body did.
    pub(super) fn end_all(&mut self, out: &mut Vec<Delta>) {
        for (choice, state) in &mut self.choices {
            if !state.finished {
                state.end(*choice, FinishReason::Stop, out);
            }
        }
    }

    /// Whether no candidate was told about.
    pub(super) fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    fn candidate(&mut self, wire: Candidate<'_>, data: &[u8], out: &mut Vec<Delta>) -> Result<(), Error> {
        let index = wire.index;
        if index >= MAX_CANDIDATES {
            return Err(bad_response("has a candidate number out of range", data));
        }
        let state = self.choices.entry(index).or_default();
        if state.finished {
            return Ok(());
        }
        let mut logprobs = wire.logprobs_result.map(tokens).unwrap_or_default();
        for piece in wire.content.and_then(|content| content.parts).unwrap_or_default() {
            state.piece(piece, (index, &self.id), &mut logprobs, out);
        }
        if let Some(metadata) = wire.citation_metadata {
            state.recited = state.recited(metadata);
        }
        if let Some(grounding) = wire.grounding_metadata {
            state.found = state.grounded(&grounding);
        }
        match wire.finish_reason.as_deref().map_or(End::No, end) {
            End::No => {}
            End::Finished(reason) => state.end(index, reason, out),
            End::Broke(what) => return Err(bad_response(what, data)),
            End::Disabled => {
                let say =
                    "the provider has limited or disabled this gateway's account; an operator has to act";
                return Err(Error::new(Code::UpstreamAuth, say));
            }
        }
        Ok(())
    }
}

impl Choice {
    fn piece(
        &mut self,
        piece: Piece<'_>,
        (choice, id): (u32, &str),
        logprobs: &mut Vec<TokenLogprob>,
        out: &mut Vec<Delta>,
    ) {
        let media = [(piece.inline_data.is_some(), "inlineData"), (piece.file_data.is_some(), "fileData")];
        for (_, name) in media.into_iter().filter(|(is_there, _)| *is_there) {
            // No asker's dialect has a word for it; once is enough to know.
            if !std::mem::replace(&mut self.showed, true) {
                out.push(Delta::Dropped(vec![format!("candidates.content.parts.{name}")]));
            }
        }
        let text = piece.text.filter(|text| !text.is_empty());
        let thought = piece.thought == Some(true);
        let thoughts = text.clone().filter(|_| thought);
        out.extend(thoughts.map(|text| Delta::Reasoning { choice, text }));
        // Before what it stands on: that is where reasoning stands in every asker's dialect.
        let signature = piece.thought_signature.filter(|signature| !signature.is_empty());
        out.extend(signature.map(|text| Delta::Signature { choice, text: super::sealed(&text) }));
        if let Some(text) = text.filter(|_| !thought) {
            let room = MAX_CITED.saturating_sub(self.text.len());
            self.text.push_str(&text[..text.floor_char_boundary(room)]);
            self.spoke = true;
            out.push(Delta::Text { choice, text, logprobs: std::mem::take(logprobs) });
        }
        if let Some(call) = piece.function_call {
            let index = self.calls;
            self.calls = self.calls.saturating_add(1);
            let own = || format!("{}{id}_{choice}_{index}", super::OWN_ID);
            let call_id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(own);
            let args = call.args.map(RawValue::get).filter(|args| *args != "null");
            out.push(Delta::ToolCall {
                choice,
                index,
                id: Some(call_id),
                name: Some(call.name.unwrap_or_default()),
                arguments: args.map_or_else(|| "{}".to_owned(), compact),
            });
        }
    }

    fn end(&mut self, choice: u32, reason: FinishReason, out: &mut Vec<Delta>) {
        self.finished = true;
        self.text = String::new();
        if self.showed && !self.spoke && self.calls == 0 {
            // An empty answer would look like the model's own.
            out.push(Delta::Text { choice, text: MEDIA_ALONE.to_owned(), logprobs: Vec::new() });
        }
        let citations = std::mem::take(&mut self.recited).into_iter().chain(std::mem::take(&mut self.found));
        out.extend(citations.map(|citation| Delta::Citation { choice, citation }));
        // The API ends calls like any other answer.
        let reason = match reason {
            FinishReason::Stop if self.calls > 0 => FinishReason::ToolCalls,
            reason => reason,
        };
        out.push(Delta::Finished { choice, reason, stop: None });
    }

    fn recited(&self, metadata: CitationMetadata) -> Vec<Citation> {
        let source = |source: Source| Citation {
            url: source.uri,
            title: source.title,
            of: self.range(source.start_index, source.end_index),
            ..Citation::default()
        };
        metadata.citation_sources.into_iter().take(MAX_CITATIONS).map(source).collect()
    }

    fn grounded(&self, grounding: &Grounding) -> Vec<Citation> {
        let source = |chunk: &Chunk, of| {
            let found = chunk.web.as_ref().or(chunk.retrieved_context.as_ref()).or(chunk.maps.as_ref())?;
            let (url, title, quote) = (found.uri.clone(), found.title.clone(), found.text.clone());
            Some(Citation { quote, url, title, of, ..Citation::default() })
        };
        let chunks = &grounding.grounding_chunks;
        if grounding.grounding_supports.is_empty() {
            return chunks.iter().take(MAX_CITATIONS).filter_map(|chunk| source(chunk, None)).collect();
        }
        let supported = |support: &Support| {
            let segment = support.segment.as_ref().filter(|segment| segment.part_index == 0);
            let of = segment.and_then(|segment| self.range(segment.start_index, segment.end_index));
            let indices = support.grounding_chunk_indices.iter();
            indices.filter_map(|index| source(chunks.get(*index)?, of)).collect::<Vec<_>>()
        };
        grounding.grounding_supports.iter().flat_map(supported).take(MAX_CITATIONS).collect()
    }

    /// A range of bytes of the text in characters; `None` when it lies outside of what is known.
    fn range(&self, start: u32, end: Option<u32>) -> Option<(u32, u32)> {
        let characters = |bytes: u32| {
            let before = self.text.get(..usize::try_from(bytes).ok()?)?;
            u32::try_from(before.chars().count()).ok()
        };
        Some((characters(start)?, characters(end?)?))
    }
}

/// How a candidate ended.
enum End {
    No,
    Finished(FinishReason),
    Broke(&'static str),
    Disabled,
}

fn end(reason: &str) -> End {
    use FinishReason::{ContentFilter, Length, Stop};
    match reason {
        "" | "FINISH_REASON_UNSPECIFIED" => End::No,
        "STOP" => End::Finished(Stop),
        "MAX_TOKENS" | "CONTINUATION" => End::Finished(Length),
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "ESCALATION"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => End::Finished(ContentFilter),
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" => {
            End::Broke("ended with a tool call that is malformed or that names no tool of the request")
        }
        "TOO_MANY_TOOL_CALLS" => End::Broke("ended with too many tool calls"),
        "MISSING_THOUGHT_SIGNATURE" => End::Broke("ended because the request lacks a thought signature"),
        "PUP_LIMITED_DISABLED" => End::Disabled,
        // OTHER, MALFORMED_RESPONSE and whatever comes next: nobody can say that the answer is whole.
        _ => End::Broke("ended early, for a reason that it does not tell"),
    }
}

/// Usage in our arithmetic; `None` when it says nothing about the prompt.
fn usage(raw: &RawValue) -> Option<Usage> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        #[serde(default)]
        prompt_token_count: Option<u64>,
        #[serde(default)]
        cached_content_token_count: Option<u64>,
        #[serde(default)]
        candidates_token_count: Option<u64>,
        #[serde(default)]
        thoughts_token_count: Option<u64>,
        #[serde(default)]
        tool_use_prompt_token_count: Option<u64>,
        #[serde(default)]
        total_token_count: Option<u64>,
    }
    let told: Told = serde_json::from_str(raw.get()).ok()?;
    // Counts of zero are left out on this wire, but a prompt always has some.
    let input = told.prompt_token_count?.saturating_add(told.tool_use_prompt_token_count.unwrap_or(0));
    let thoughts = told.thoughts_token_count;
    let output = told.candidates_token_count.unwrap_or(0).saturating_add(thoughts.unwrap_or(0));
    let mut usage = Usage {
        input,
        output,
        cached_input: told.cached_content_token_count,
        reasoning: thoughts,
        ..Usage::default()
    };
    usage.doubtful = told.total_token_count.is_some_and(|total| total != usage.total());
    Some(usage)
}

fn tokens(wire: Logprobs) -> Vec<TokenLogprob> {
    let mut tops = wire.top_candidates.into_iter();
    let one = |token: Token| TokenLogprob {
        bytes: token.token.clone().into_bytes(),
        token: token.token,
        logprob: token.log_probability,
        top: tops.next().map(alternatives).unwrap_or_default(),
    };
    wire.chosen_candidates.into_iter().map(one).collect()
}

fn alternatives(top: Top) -> Vec<(String, Vec<u8>, f32)> {
    let one = |token: Token| (token.token.clone(), token.token.into_bytes(), token.log_probability);
    top.candidates.into_iter().map(one).collect()
}

/// JSON without the white space between its tokens: Google writes whole answers over many lines.
fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            quoted = c == '"';
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_from_between_tokens_and_from_nowhere_else() {
        let text = "{\n  \"a b\" : [ 1.50, \"x \\\" y\\\\\" ],\t\"c\": \"\\\\\\\" \"\r\n}";
        assert_eq!(compact(text), "{\"a b\":[1.50,\"x \\\" y\\\\\"],\"c\":\"\\\\\\\" \"}");
        let same = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(same(&compact(text)), same(text));
    }

    #[test]
    fn ranges_of_bytes_become_ranges_of_characters_or_nothing() {
        let choice = Choice { text: "Grüße an alle".to_owned(), ..Choice::default() };
        assert_eq!(choice.range(0, Some(7)), Some((0, 5)));
        assert_eq!(choice.range(8, Some(10)), Some((6, 8)));
        assert_eq!(choice.range(0, Some(3)), None, "inside of a character");
        assert_eq!(choice.range(0, Some(99)), None);
        assert_eq!(choice.range(0, None), None);
    }
}
