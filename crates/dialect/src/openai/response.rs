//! Whole answers, both ways.
//!
//! What it promises: [`Folder`] makes one JSON body of whatever deltas came, passing a vendor's own body through
//! untouched; [`read_whole`] accepts an answer and nothing that only looks like one. Memory is bounded.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use penstock_domain::{
    Code, Content, Delta, Dialect, Error, FinishReason, Notes, RawBody, Request, Started, Task, TokenLogprob,
    Usage,
};

use super::error::{bad_response, in_band_error};
use super::reasoning::{Piece, Pieces};
use super::wire::{self, Memory};
use super::{base64, stream, view, write};
use serde_json::Value;

use crate::asker::Fold;
use crate::gemini;
use crate::{json, said};

/// Most bytes that are folded into one answer.
const MAX_ANSWER: usize = 64 << 20;
/// Most calls in one choice.
const MAX_CALLS: usize = 4096;

/// Folds deltas into one JSON body: `chat.completion`, `text_completion`, or a list of embeddings.
#[derive(Debug)]
pub struct Folder {
    request: Request,
    created: u64,
    started: Option<Started>,
    whole: Option<Bytes>,
    choices: BTreeMap<u32, Choice>,
    vectors: Option<Vec<Vec<f32>>>,
    usage: Option<Usage>,
    memory: Memory,
    size: usize,
}

#[derive(Debug, Default)]
struct Choice {
    text: Option<String>,
    reasoning: String,
    refusal: String,
    pieces: Pieces,
    details: Vec<(Piece, u32)>,
    annotations: Vec<Value>,
    calls: BTreeMap<u32, Call>,
    /// Google's thought signature of the part that comes next.
    signature: Option<String>,
    logprobs: Vec<TokenLogprob>,
    finish: Option<FinishReason>,
}

#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
    signature: Option<String>,
}

impl Folder {
    /// A folder for the answer to this request; `created` in seconds since the Unix epoch.
    pub fn new(request: &Request, created: u64) -> Self {
        Self {
            request: request.clone(),
            created,
            started: None,
            whole: None,
            choices: BTreeMap::new(),
            vectors: None,
            usage: None,
            memory: Memory::default(),
            size: 0,
        }
    }

    fn grow(&mut self, more: usize) -> Result<(), Error> {
        self.size = self.size.saturating_add(more);
        if self.size > MAX_ANSWER {
            return Err(bad_response("is larger than 64 MiB", b""));
        }
        Ok(())
    }

    fn choice(&mut self, choice: u32) -> Result<&mut Choice, Error> {
        if choice >= view::MAX_CHOICE {
            return Err(bad_response("has a choice number out of range", b""));
        }
        Ok(self.choices.entry(choice).or_default())
    }

    fn completion(&self, out: &mut BytesMut) {
        let started = self.started.clone().unwrap_or_default();
        let chat = self.request.task == Task::Chat;
        let legacy =
            self.choices.values().any(|choice| !choice.calls.is_empty()) && write::is_legacy(&self.request);
        out.put_slice(b"{\"id\":");
        write::json(out, &write::answer_id(&started, &self.request));
        let object = if chat { "chat.completion" } else { "text_completion" };
        out.put_slice(format!(r#","object":"{object}","created":{},"model":"#, self.created).as_bytes());
        write::json(out, write::answer_model(&started, &self.request));
        out.put_slice(b",\"choices\":[");
        for (i, (index, choice)) in self.choices.iter().enumerate() {
            if i > 0 {
                out.put_u8(b',');
            }
            out.put_slice(format!("{{\"index\":{index},").as_bytes());
            if chat {
                choice.message(legacy, out)
            } else {
                choice.text(out)
            }
            let reason = write::finish(choice.finish.unwrap_or(FinishReason::Stop), legacy);
            out.put_slice(format!(",\"finish_reason\":\"{reason}\"}}").as_bytes());
        }
        out.put_u8(b']');
        self.end(out);
    }

    fn list(&self, vectors: &[Vec<f32>], out: &mut BytesMut) -> Result<(), Error> {
        let base64 = matches!(self.request.body.content()?, Content::Embedding(asked) if asked.base64);
        out.put_slice(b"{\"object\":\"list\",\"data\":[");
        for (index, vector) in vectors.iter().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            out.put_slice(format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":").as_bytes());
            if base64 {
                write::json(out, &base64::vector(vector))
            } else {
                write::json(out, vector)
            }
            out.put_u8(b'}');
        }
        out.put_slice(b"],\"model\":");
        write::json(out, write::answer_model(&self.started.clone().unwrap_or_default(), &self.request));
        self.end(out);
        Ok(())
    }

    fn end(&self, out: &mut BytesMut) {
        if let Some(usage) = &self.usage {
            out.put_slice(b",\"usage\":");
            write::usage(out, usage, self.request.task);
        }
        out.put_u8(b'}');
    }
}

impl Fold for Folder {
    fn push(&mut self, delta: Delta) -> Result<(), Error> {
        match delta {
            Delta::Started(started) => {
                self.started.get_or_insert(started);
            }
            Delta::Text { choice, text, mut logprobs } => {
                self.grow(text.len() + logprobs.len() * 64)?;
                let choice = self.choice(choice)?;
                choice.signature = None;
                choice.text.get_or_insert_default().push_str(&text);
                choice.logprobs.append(&mut logprobs);
            }
            Delta::Reasoning { choice, text } => {
                self.grow(text.len())?;
                let choice = self.choice(choice)?;
                choice.reasoning.push_str(&text);
                choice.pieces.text(&text);
            }
            Delta::Signature { choice, text } => {
                self.grow(text.len())?;
                let choice = self.choice(choice)?;
                match gemini::unsealed(&text) {
                    Some(signature) => choice.signature = Some(signature.to_owned()),
                    None => choice.details.extend(choice.pieces.signed(text)),
                }
            }
            Delta::Sealed { choice, text } => {
                self.grow(text.len())?;
                let choice = self.choice(choice)?;
                choice.details.push(choice.pieces.sealed(text));
            }
            Delta::Citation { choice, citation } => {
                let annotation = write::annotation(&citation);
                self.grow(annotation.as_ref().map_or(0, |_| 256 + citation.url.map_or(0, |url| url.len())))?;
                self.choice(choice)?.annotations.extend(annotation);
            }
            // None has a place in this dialect's answers.
            Delta::Dropped(_) | Delta::Counted { .. } | Delta::Resumed => {}
            Delta::Refusal { choice, text } => {
                self.grow(text.len())?;
                self.choice(choice)?.refusal.push_str(&text);
            }
            Delta::ToolCall { choice, index, id, name, arguments } => {
                self.grow(
                    arguments.len()
                        + name.as_ref().map_or(0, String::len)
                        + id.as_ref().map_or(0, String::len),
                )?;
                let Choice { calls, signature, .. } = self.choice(choice)?;
                if calls.len() >= MAX_CALLS && !calls.contains_key(&index) {
                    return Err(bad_response("has too many tool calls", b""));
                }
                let call = calls.entry(index).or_default();
                call.signature = signature.take().or(call.signature.take());
                call.id.push_str(&id.unwrap_or_default());
                call.name.push_str(&name.unwrap_or_default());
                call.arguments.push_str(&arguments);
            }
            Delta::Finished { choice, reason, .. } => self.choice(choice)?.finish = Some(reason),
            Delta::Vectors(mut vectors) => {
                self.grow(vectors.iter().map(|v| v.len() * 4).sum())?;
                self.vectors.get_or_insert_default().append(&mut vectors);
            }
            Delta::Usage(usage) => self.usage = Some(usage),
            Delta::Raw(raw) if raw.dialect == Dialect::OpenAi => {
                let mut deltas = Vec::new();
                stream::read_events(self.request.task, raw.bytes, &mut self.memory, &mut deltas)?;
                deltas.into_iter().try_for_each(|delta| self.push(delta))?;
            }
            Delta::Whole(whole) if whole.dialect == Dialect::OpenAi => self.whole = Some(whole.bytes),
            Delta::Raw(_) | Delta::Whole(_) | Delta::Relayed(_) => {
                let say = "bytes of another dialect reached the folder; they have to be read first";
                return Err(Error::new(Code::InternalError, say));
            }
            Delta::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Bytes, Error> {
        if let Some(whole) = self.whole {
            return Ok(whole);
        }
        let mut out = BytesMut::with_capacity(self.size + 512);
        match (self.request.task, &self.vectors) {
            (Task::Embedding, Some(vectors)) => self.list(vectors, &mut out)?,
            (Task::Chat | Task::Completion, _) if !self.choices.is_empty() => self.completion(&mut out),
            _ => return Err(bad_response("has no content", b"")),
        }
        Ok(out.freeze())
    }
}

impl Choice {
    fn message(&self, legacy: bool, out: &mut BytesMut) {
        out.put_slice(b"\"message\":{\"role\":\"assistant\",\"content\":");
        // Like OpenAI: null beside calls or a refusal, a string otherwise.
        let silent = self.calls.is_empty() && self.refusal.is_empty();
        write::json(out, &self.text.as_deref().or(silent.then_some("")));
        out.put_slice(b",\"refusal\":");
        write::json(out, &Some(&self.refusal).filter(|text| !text.is_empty()));
        if !self.reasoning.is_empty() {
            out.put_slice(b",\"reasoning_content\":");
            write::json(out, &self.reasoning);
        }
        if !self.details.is_empty() {
            out.put_slice(b",\"reasoning_details\":");
            write::json(out, &self.details.iter().map(|(piece, at)| piece.detail(*at)).collect::<Vec<_>>());
        }
        if !self.annotations.is_empty() {
            out.put_slice(b",\"annotations\":");
            write::json(out, &self.annotations);
        }
        match self.calls.values().next() {
            Some(call) if legacy => {
                out.put_slice(b",\"function_call\":");
                write::function(out, Some(&call.name), &call.arguments);
            }
            Some(_) => self.calls(out),
            None => {}
        }
        out.put_slice(b"},\"logprobs\":");
        write::chat_logprobs(out, &self.logprobs);
    }

    fn calls(&self, out: &mut BytesMut) {
        out.put_slice(b",\"tool_calls\":[");
        for (i, call) in self.calls.values().enumerate() {
            if i > 0 {
                out.put_u8(b',');
            }
            out.put_slice(b"{\"id\":");
            write::json(out, &call.id);
            out.put_slice(b",\"type\":\"function\"");
            write::thought_signature(out, call.signature.as_deref());
            out.put_slice(b",\"function\":");
            write::function(out, Some(&call.name), &call.arguments);
            out.put_u8(b'}');
        }
        out.put_u8(b']');
    }

    fn text(&self, out: &mut BytesMut) {
        out.put_slice(b"\"text\":");
        write::json(out, self.text.as_deref().unwrap_or_default());
        out.put_slice(b",\"logprobs\":");
        write::completion_logprobs(out, &self.logprobs, 0);
    }
}

/// Checks a vendor's non-streaming 200 and gives it as [`Delta::Whole`], bytes untouched.
///
/// # Errors
/// The error that the body carries, mapped as a vendor's; `upstream_bad_response` for HTML, garbage, cut JSON, and JSON
/// without choices or vectors.
pub fn read_whole(task: Task, body: Bytes) -> Result<Delta, Error> {
    let Some(view) = view::view(&body) else {
        return Err(bad_response("is not JSON of its dialect", &body));
    };
    if view.error.is_some() || view.choices.broke {
        return Err(in_band_error(&body));
    }
    let whole = match task {
        Task::Embedding => view.data.is_some_and(|raw| raw.get().starts_with('[') && json::has_content(raw)),
        Task::Chat | Task::Completion | Task::CountTokens | Task::Relay => {
            view.choices.count > 0 && !view.choices.hollow
        }
    };
    if !whole {
        let what = if task == Task::Embedding { "has no vectors" } else { "has no choices with content" };
        return Err(bad_response(what, &body));
    }
    let notes = Notes {
        content: true,
        events: 0,
        usage: view.usage.and_then(|raw| view::usage(raw, task)),
        finish: view.choices.finish,
        text: view.choices.text,
        version: view.model.and_then(said::name),
    };
    Ok(Delta::Whole(RawBody { dialect: Dialect::OpenAi, bytes: body, notes }))
}

/// The semantic deltas of a whole body, in order: for askers of another dialect, and for streams from vendors that
/// answer in one piece.
///
/// # Errors
/// As [`read_whole`].
pub fn unfold(task: Task, body: &[u8]) -> Result<Vec<Delta>, Error> {
    let mut deltas = Vec::new();
    wire::read(task, body, &mut Memory::default(), &mut deltas)?;
    Ok(deltas)
}
