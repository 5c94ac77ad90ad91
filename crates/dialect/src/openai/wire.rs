//! Chunks and whole answers, read in full for those who need their content.
//!
//! What it promises: one reading for streams and whole bodies, lenient about what vendors leave out. What it refuses to
//! know: events and chunks of bytes.

use std::collections::BTreeMap;

use penstock_domain::{Citation, Delta, Error, FinishReason, Started, Task, TokenLogprob};
use serde::Deserialize;
use serde_json::Map;
use serde_json::value::RawValue;

use super::error::{bad_response, in_band_error};
use super::reasoning;
use super::view::{self, ChoiceSet, End};

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default, borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    data: Option<Vec<Row>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(default, alias = "message", borrow)]
    delta: Option<Said<'a>>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    finish_reason: Option<String>,
    /// The stop sequence that was met, as vLLM says it; a number is a token's id.
    #[serde(default, alias = "matched_stop", borrow)]
    stop_reason: Option<&'a RawValue>,
    #[serde(default)]
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default, alias = "thinking_blocks", borrow)]
    reasoning_details: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default, borrow)]
    annotations: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
    /// The old shape of a call.
    #[serde(default)]
    function_call: Option<Function>,
}

#[derive(Deserialize)]
struct Annotation {
    url_citation: UrlCitation,
}

#[derive(Deserialize)]
struct UrlCitation {
    url: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    start_index: Option<u32>,
    #[serde(default)]
    end_index: Option<u32>,
}

/// What is remembered from chunk to chunk.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The opening was told.
    pub(crate) started: bool,
    /// Bytes of reasoning since the last signature, by choice.
    thought: BTreeMap<u32, usize>,
    /// The old shape of a call began, by choice.
    called: ChoiceSet,
}

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    index: Option<u32>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

/// Log probabilities of a chat (`content`) or of a completion (`tokens` and its siblings).
#[derive(Deserialize)]
struct Logprobs {
    #[serde(default)]
    content: Option<Vec<Token>>,
    #[serde(default)]
    tokens: Option<Vec<String>>,
    #[serde(default)]
    token_logprobs: Option<Vec<Option<f32>>>,
    #[serde(default)]
    top_logprobs: Option<Vec<Option<Map<String, serde_json::Value>>>>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
    logprob: f32,
    #[serde(default)]
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Option<Vec<Token>>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    index: usize,
    embedding: Vector,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

/// Appends the deltas that one chunk, or one whole answer, amounts to.
///
/// `Started` comes with the first, `Usage` last.
pub(crate) fn read(task: Task, data: &[u8], memory: &mut Memory, out: &mut Vec<Delta>) -> Result<(), Error> {
    let first = data.iter().find(|b| !b.is_ascii_whitespace());
    let wire: Wire<'_> = match first {
        Some(b'{') => {
            serde_json::from_slice(data).map_err(|_| bad_response("is not what its dialect says", data))?
        }
        _ => return Err(bad_response("is not a JSON object", data)),
    };
    if wire.error.is_some() {
        return Err(in_band_error(data));
    }
    if !std::mem::replace(&mut memory.started, true) {
        let started = Started { id: wire.id.unwrap_or_default(), model: wire.model.unwrap_or_default() };
        out.push(Delta::Started(started));
    }
    for choice in wire.choices.unwrap_or_default() {
        read_choice(choice, data, memory, out)?;
    }
    if let Some(rows) = wire.data.filter(|_| task == Task::Embedding) {
        out.push(Delta::Vectors(vectors(rows, data)?));
    }
    out.extend(wire.usage.and_then(|raw| view::usage(raw, task)).map(Delta::Usage));
    Ok(())
}

fn read_choice(
    wire: Choice<'_>,
    data: &[u8],
    memory: &mut Memory,
    out: &mut Vec<Delta>,
) -> Result<(), Error> {
    let choice = wire.index;
    if choice >= view::MAX_CHOICE {
        return Err(bad_response("has a choice number out of range", data));
    }
    let logprobs = wire.logprobs.map(tokens).unwrap_or_default();
    let mut text = wire.text;
    if let Some(said) = wire.delta {
        let reasoning = said.reasoning_content.or(said.reasoning);
        if reasoning.is_some() || said.reasoning_details.is_some() {
            let pieces = said.reasoning_details.unwrap_or_default();
            reasoning::tell(pieces, reasoning, memory.thought.entry(choice).or_default(), (choice, out));
        }
        text = said.content.or(text);
        let text = text.take().filter(|t| !t.is_empty() || !logprobs.is_empty());
        out.extend(text.map(|text| Delta::Text { choice, text, logprobs }));
        let refusal = said.refusal.filter(|t| !t.is_empty());
        out.extend(refusal.map(|text| Delta::Refusal { choice, text }));
        out.extend(said.annotations.unwrap_or_default().into_iter().filter_map(|raw| cited(choice, raw)));
        for (i, call) in said.tool_calls.unwrap_or_default().into_iter().enumerate() {
            let (name, arguments) = call.function.map_or((None, None), |f| (f.name, f.arguments));
            out.push(Delta::ToolCall {
                choice,
                index: call.index.unwrap_or(u32::try_from(i).unwrap_or(u32::MAX)),
                id: call.id.filter(|t| !t.is_empty()),
                name: name.filter(|t| !t.is_empty()),
                arguments: arguments.unwrap_or_default(),
            });
        }
        if let Some(call) = said.function_call.filter(|call| call.name.is_some() || call.arguments.is_some())
        {
            let new = memory.called.insert(choice);
            out.push(Delta::ToolCall {
                choice,
                index: 0,
                id: new.then(|| format!("call_{choice}")),
                name: call.name.filter(|name| !name.is_empty()),
                arguments: call.arguments.unwrap_or_default(),
            });
        }
    } else if let Some(text) = text.filter(|t| !t.is_empty() || !logprobs.is_empty()) {
        out.push(Delta::Text { choice, text, logprobs });
    }
    match wire.finish_reason.as_deref().map_or(End::No, view::end) {
        End::No => Ok(()),
        End::Finished(reason) => {
            let stop = wire.stop_reason.filter(|_| reason == FinishReason::Stop);
            let stop: Option<Box<str>> = stop.and_then(|raw| serde_json::from_str(raw.get()).ok());
            out.push(Delta::Finished { choice, reason, stop });
            Ok(())
        }
        End::Broke => Err(in_band_error(data)),
    }
}

/// An annotation that names an address; others have no word here.
fn cited(choice: u32, raw: &RawValue) -> Option<Delta> {
    let UrlCitation { url, title, content, start_index, end_index } =
        serde_json::from_str::<Annotation>(raw.get()).ok()?.url_citation;
    let of = start_index.zip(end_index);
    let citation = Citation { quote: content, url: Some(url), title, of, ..Citation::default() };
    Some(Delta::Citation { choice, citation })
}

fn tokens(wire: Logprobs) -> Vec<TokenLogprob> {
    if let Some(content) = wire.content {
        return content.into_iter().map(token).collect();
    }
    let logprobs = wire.token_logprobs.unwrap_or_default();
    let top = wire.top_logprobs.unwrap_or_default();
    let alternatives = |i: usize| {
        let mut all: Vec<(String, Vec<u8>, f32)> = top
            .get(i)
            .and_then(Option::as_ref)
            .into_iter()
            .flatten()
            .filter_map(|(token, p)| Some((token.clone(), token.clone().into_bytes(), p.as_f64()? as f32)))
            .collect();
        all.sort_by(|a, b| b.2.total_cmp(&a.2));
        all
    };
    let one = |(i, token): (usize, String)| TokenLogprob {
        bytes: token.clone().into_bytes(),
        token,
        logprob: logprobs.get(i).copied().flatten().unwrap_or(0.0),
        top: alternatives(i),
    };
    wire.tokens.unwrap_or_default().into_iter().enumerate().map(one).collect()
}

fn token(wire: Token) -> TokenLogprob {
    let bytes = |token: &str, bytes: Option<Vec<u8>>| bytes.unwrap_or_else(|| token.as_bytes().to_vec());
    let top = wire.top_logprobs.unwrap_or_default();
    TokenLogprob {
        bytes: bytes(&wire.token, wire.bytes),
        token: wire.token,
        logprob: wire.logprob,
        top: top.into_iter().map(|t| (t.token.clone(), bytes(&t.token, t.bytes), t.logprob)).collect(),
    }
}

fn vectors(mut rows: Vec<Row>, data: &[u8]) -> Result<Vec<Vec<f32>>, Error> {
    rows.sort_by_key(|row| row.index);
    let vector = |row: Row| match row.embedding {
        Vector::Numbers(numbers) => Ok(numbers),
        Vector::Base64(text) => {
            super::base64::floats(&text).ok_or_else(|| bad_response("has a vector that is not base64", data))
        }
    };
    rows.into_iter().map(vector).collect()
}
