//! Streams of chunks, both ways.
//!
//! What it promises: [`StreamEncoder`] writes what OpenAI's own clients expect, ends with `[DONE]` only after a complete
//! answer, and turns a failure into one error event after which it is silent. [`ChunkReader`] reads a vendor's stream
//! into words of every dialect and never takes a cut one for a complete one.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use penstock_domain::{
    Citation, Code, Delta, Dialect, Error, FinishReason, Request, Started, Task, TokenLogprob, Usage,
};

use super::raw_lane::Chunks;
use super::reasoning::{Piece, Pieces};
use super::view::ChoiceSet;
use super::wire::{self, Memory};
use super::{error, response, write};
use crate::asker::Encode;
use crate::gemini;
use crate::sse::lane::{EventLane, Meaning, Read};
use crate::sse::{self, Frame, SseDecoder};

/// Writes deltas as events for an OpenAI asker.
#[derive(Debug)]
pub struct StreamEncoder {
    request: Request,
    created: u64,
    /// The members that every chunk begins with; empty until the answer began.
    head: BytesMut,
    opened: ChoiceSet,
    /// Characters written per choice of a completion, for the offsets of log probabilities.
    offsets: BTreeMap<u32, usize>,
    /// Google's thought signatures, by choice, for the calls that they stand on.
    signatures: BTreeMap<u32, String>,
    /// Reasoning that may yet be signed, by choice.
    pieces: BTreeMap<u32, Pieces>,
    /// Whether the asker knows calls in the old shape alone.
    legacy: bool,
    over: bool,
    failed: bool,
}

impl StreamEncoder {
    /// An encoder for the answer to this request; `created` in seconds since the Unix epoch.
    pub fn new(request: &Request, created: u64) -> Self {
        Self {
            request: request.without_body(),
            created,
            head: BytesMut::new(),
            opened: ChoiceSet::default(),
            offsets: BTreeMap::new(),
            signatures: BTreeMap::new(),
            pieces: BTreeMap::new(),
            legacy: write::is_legacy(request),
            over: false,
            failed: false,
        }
    }

    /// Whether a terminal error was written.
    pub fn failed(&self) -> bool {
        self.failed
    }

    fn fail(&mut self, error: &Error, out: &mut BytesMut) {
        self.over = true;
        self.failed = true;
        sse::encode_event(out, None, &error::error_body(error, &self.request.id));
    }

    fn start(&mut self, started: &Started, out: &mut BytesMut) {
        if !self.head.is_empty() {
            return;
        }
        let object =
            if self.request.task == Task::Chat { "chat.completion.chunk" } else { "text_completion" };
        self.head.put_slice(b"data: {\"id\":");
        write::json(&mut self.head, &write::answer_id(started, &self.request));
        self.head
            .put_slice(format!(r#","object":"{object}","created":{},"model":"#, self.created).as_bytes());
        write::json(&mut self.head, write::answer_model(started, &self.request));
        self.head.put_slice(b",\"choices\":[");
        for choice in 0..self.request.choices.min(128) {
            self.open(choice, out);
        }
    }

    /// Makes sure that a choice's first chunk, which names the role, is out.
    fn open(&mut self, choice: u32, out: &mut BytesMut) {
        if self.head.is_empty() {
            self.start(&Started::default(), out);
        }
        if self.opened.insert(choice) && self.request.task == Task::Chat {
            self.chunk(choice, None, out, |out| out.put_slice(b"\"role\":\"assistant\",\"content\":\"\""));
        }
    }

    fn said(&mut self, choice: u32, member: &str, text: &str, out: &mut BytesMut) {
        if self.request.task == Task::Completion {
            return;
        }
        self.open(choice, out);
        self.chunk(choice, None, out, |out| {
            out.put_u8(b'"');
            out.put_slice(member.as_bytes());
            out.put_slice(b"\":");
            write::json(out, text);
        });
    }

    fn text(&mut self, choice: u32, text: &str, logprobs: &[TokenLogprob], out: &mut BytesMut) {
        self.open(choice, out);
        if self.request.task == Task::Completion {
            self.text_chunk(choice, text, logprobs, out);
            return self.end(None, out);
        }
        self.begin(choice, out);
        out.put_slice(b",\"delta\":{\"content\":");
        write::json(out, text);
        out.put_slice(b"},\"logprobs\":");
        write::chat_logprobs(out, logprobs);
        self.end(None, out);
    }

    /// One chunk of one choice of a completion, up to its end.
    fn text_chunk(&mut self, choice: u32, text: &str, logprobs: &[TokenLogprob], out: &mut BytesMut) {
        self.begin(choice, out);
        out.put_slice(b",\"text\":");
        write::json(out, text);
        out.put_slice(b",\"logprobs\":");
        let offset = self.offsets.entry(choice).or_default();
        write::completion_logprobs(out, logprobs, *offset);
        *offset += text.chars().count();
    }

    /// One chunk of one choice of a chat; `delta` writes the members of its delta.
    fn chunk(
        &self,
        choice: u32,
        finish: Option<FinishReason>,
        out: &mut BytesMut,
        delta: impl FnOnce(&mut BytesMut),
    ) {
        self.begin(choice, out);
        out.put_slice(b",\"delta\":{");
        delta(out);
        out.put_slice(b"},\"logprobs\":null");
        self.end(finish, out);
    }

    fn begin(&self, choice: u32, out: &mut BytesMut) {
        out.put_slice(&self.head);
        out.put_slice(b"{\"index\":");
        write::json(out, &choice);
    }

    fn end(&self, finish: Option<FinishReason>, out: &mut BytesMut) {
        out.put_slice(b",\"finish_reason\":");
        write::json(out, &finish.map(|reason| write::finish(reason, self.legacy)));
        out.put_slice(if self.request.stream_usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" });
    }

    /// One piece of a call.
    fn call(
        &mut self,
        choice: u32,
        (index, id, name, arguments): (u32, Option<String>, Option<String>, String),
        out: &mut BytesMut,
    ) {
        let signature = self.signatures.remove(&choice);
        self.chunk(choice, None, out, |out| {
            out.put_slice(b"\"tool_calls\":[{\"index\":");
            write::json(out, &index);
            if let Some(id) = &id {
                out.put_slice(b",\"id\":");
                write::json(out, id);
                out.put_slice(b",\"type\":\"function\"");
                write::thought_signature(out, signature.as_deref());
            }
            out.put_slice(b",\"function\":");
            write::function(out, name.as_deref(), &arguments);
            out.put_slice(b"}]");
        });
    }

    /// One piece of a call in the old shape, which has one call and no ids.
    fn function_call(
        &self,
        choice: u32,
        index: u32,
        (name, arguments): (Option<String>, String),
        out: &mut BytesMut,
    ) {
        if index == 0 {
            self.chunk(choice, None, out, |out| {
                out.put_slice(b"\"function_call\":");
                write::function(out, name.as_deref(), &arguments);
            });
        }
    }

    /// Reasoning with its signature, or sealed.
    fn detail(&mut self, choice: u32, piece: Option<(Piece, u32)>, out: &mut BytesMut) {
        let Some((piece, index)) = piece.filter(|_| self.request.task != Task::Completion) else { return };
        self.open(choice, out);
        self.chunk(choice, None, out, |out| {
            out.put_slice(b"\"reasoning_details\":[");
            write::json(out, &piece.detail(index));
            out.put_u8(b']');
        });
    }

    fn cite(&mut self, choice: u32, citation: &Citation, out: &mut BytesMut) {
        let annotation = write::annotation(citation).filter(|_| self.request.task != Task::Completion);
        let Some(annotation) = annotation else { return };
        self.open(choice, out);
        self.chunk(choice, None, out, |out| {
            out.put_slice(b"\"annotations\":[");
            write::json(out, &annotation);
            out.put_u8(b']');
        });
    }

    fn usage(&mut self, usage: &Usage, out: &mut BytesMut) {
        if !self.request.stream_usage {
            return;
        }
        if self.head.is_empty() {
            self.start(&Started::default(), out);
        }
        out.put_slice(&self.head);
        out.put_slice(b"],\"usage\":");
        write::usage(out, usage, self.request.task);
        out.put_slice(b"}\n\n");
    }
}

impl Encode for StreamEncoder {
    fn encode(&mut self, delta: Delta, out: &mut BytesMut) {
        if self.over {
            return;
        }
        match delta {
            Delta::Started(started) => self.start(&started, out),
            Delta::Raw(raw) if raw.dialect == Dialect::OpenAi => out.put_slice(&raw.bytes),
            Delta::Whole(whole) if whole.dialect == Dialect::OpenAi => {
                match response::unfold(self.request.task, &whole.bytes) {
                    Ok(deltas) => deltas.into_iter().for_each(|delta| self.encode(delta, out)),
                    Err(error) => self.fail(&error, out),
                }
            }
            Delta::Raw(_) | Delta::Whole(_) | Delta::Relayed(_) => self.fail(&foreign(), out),
            Delta::Text { choice, text, logprobs } => {
                self.signatures.remove(&choice);
                self.text(choice, &text, &logprobs, out);
            }
            Delta::Signature { choice, text } => match gemini::unsealed(&text) {
                Some(signature) => drop(self.signatures.insert(choice, signature.to_owned())),
                None => {
                    let piece = self.pieces.entry(choice).or_default().signed(text);
                    self.detail(choice, piece, out);
                }
            },
            Delta::Sealed { choice, text } => {
                let piece = self.pieces.entry(choice).or_default().sealed(text);
                self.detail(choice, Some(piece), out);
            }
            Delta::Reasoning { choice, text } => {
                self.pieces.entry(choice).or_default().text(&text);
                self.said(choice, "reasoning_content", &text, out);
            }
            Delta::Citation { choice, citation } => self.cite(choice, &citation, out),
            Delta::Refusal { choice, text } => self.said(choice, "refusal", &text, out),
            Delta::ToolCall { choice, index, id, name, arguments } => {
                self.open(choice, out);
                if self.legacy {
                    return self.function_call(choice, index, (name, arguments), out);
                }
                self.call(choice, (index, id, name, arguments), out);
            }
            Delta::Finished { choice, reason, .. } => {
                self.open(choice, out);
                if self.request.task == Task::Completion {
                    self.text_chunk(choice, "", &[], out);
                    self.end(Some(reason), out);
                } else {
                    self.chunk(choice, Some(reason), out, |_| {});
                    self.pieces.remove(&choice);
                }
            }
            Delta::Usage(usage) => self.usage(&usage, out),
            Delta::Vectors(_) => {
                self.fail(&Error::new(Code::InternalError, "vectors cannot be streamed"), out)
            }
            // Neither has a place in this dialect's chunks.
            Delta::Dropped(_) | Delta::Counted { .. } | Delta::Resumed => {}
            Delta::Failed(error) => self.fail(&error, out),
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.over, true) {
            out.put_slice(sse::DONE);
        }
    }
}

fn foreign() -> Error {
    Error::new(
        Code::InternalError,
        "bytes of another dialect reached the encoder; they have to be read first",
    )
}

/// Reads a vendor's stream into semantic deltas, for askers of another dialect.
pub type ChunkReader = EventLane<Read<Chunks, Said>>;

impl ChunkReader {
    /// A reader at the start of a stream of which `choices` choices are expected.
    pub fn new(task: Task, choices: u32) -> Self {
        Self::over(Read::by(Chunks::new(task, choices), Said { task, memory: Memory::default() }))
    }
}

/// What chunks say.
#[derive(Debug)]
pub struct Said {
    task: Task,
    memory: Memory,
}

impl Meaning for Said {
    fn read(&mut self, data: &[u8], out: &mut Vec<Delta>) -> Result<(), Error> {
        wire::read(self.task, data, &mut self.memory, out)
    }
}

/// The semantic deltas of whole raw events.
pub(crate) fn read_events(
    task: Task,
    bytes: Bytes,
    memory: &mut Memory,
    out: &mut Vec<Delta>,
) -> Result<(), Error> {
    let mut sse = SseDecoder::new(usize::MAX);
    // Without a bound nothing can be too large; the lane has bounded these events before.
    let _ = sse.push(bytes);
    while let Some(frame) = sse.next() {
        if let Frame::Event(event) = frame {
            wire::read(task, &event.data, memory, out)?;
        }
    }
    Ok(())
}
