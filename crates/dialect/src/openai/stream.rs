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
    Code, Delta, Dialect, Error, FinishReason, Request, Started, Task, TokenLogprob, Usage,
};

use super::raw_lane::Chunks;
use super::view::ChoiceSet;
use super::{error, response, wire, write};
use crate::asker::Encode;
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
        write::json(out, &finish.map(FinishReason::name));
        out.put_slice(if self.request.stream_usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" });
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
            Delta::Raw(_) | Delta::Whole(_) => self.fail(&foreign(), out),
            Delta::Text { choice, text, logprobs } => self.text(choice, &text, &logprobs, out),
            Delta::Reasoning { choice, text } => self.said(choice, "reasoning_content", &text, out),
            Delta::Refusal { choice, text } => self.said(choice, "refusal", &text, out),
            Delta::ToolCall { choice, index, id, name, arguments } => {
                self.open(choice, out);
                let call = serde_json::json!({"index": index});
                self.chunk(choice, None, out, |out| {
                    out.put_slice(b"\"tool_calls\":[");
                    write::json(out, &call);
                    out.truncate(out.len() - 1);
                    if let Some(id) = &id {
                        out.put_slice(b",\"id\":");
                        write::json(out, id);
                        out.put_slice(b",\"type\":\"function\"");
                    }
                    out.put_slice(b",\"function\":{");
                    if let Some(name) = &name {
                        out.put_slice(b"\"name\":");
                        write::json(out, name);
                        out.put_u8(b',');
                    }
                    out.put_slice(b"\"arguments\":");
                    write::json(out, &arguments);
                    out.put_slice(b"}}]");
                });
            }
            Delta::Finished { choice, reason, .. } => {
                self.open(choice, out);
                if self.request.task == Task::Completion {
                    self.text_chunk(choice, "", &[], out);
                    self.end(Some(reason), out);
                } else {
                    self.chunk(choice, Some(reason), out, |_| {});
                }
            }
            Delta::Usage(usage) => self.usage(&usage, out),
            Delta::Vectors(_) => {
                self.fail(&Error::new(Code::InternalError, "vectors cannot be streamed"), out)
            }
            // Neither has a place in this dialect's chunks.
            Delta::Dropped(_)
            | Delta::Signature { .. }
            | Delta::Sealed { .. }
            | Delta::Citation { .. }
            | Delta::Counted { .. } => {}
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
        Self::over(Read::by(Chunks::new(task, choices), Said { task, started: false }))
    }
}

/// What chunks say.
#[derive(Debug)]
pub struct Said {
    task: Task,
    started: bool,
}

impl Meaning for Said {
    fn read(&mut self, data: &[u8], out: &mut Vec<Delta>) -> Result<(), Error> {
        wire::read(self.task, data, &mut self.started, out)
    }
}

/// The semantic deltas of whole raw events.
pub(crate) fn read_events(
    task: Task,
    bytes: Bytes,
    started: &mut bool,
    out: &mut Vec<Delta>,
) -> Result<(), Error> {
    let mut sse = SseDecoder::new(usize::MAX);
    // Without a bound nothing can be too large; the lane has bounded these events before.
    let _ = sse.push(bytes);
    while let Some(frame) = sse.next() {
        if let Frame::Event(event) = frame {
            wire::read(task, &event.data, started, out)?;
        }
    }
    Ok(())
}
