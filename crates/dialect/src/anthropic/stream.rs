//! Streams of message events.

mod calls;

use bytes::{BufMut, BytesMut};
use penstock_domain::{Code, Delta, Dialect, Error, RawEvents, Request, Started, Usage};
use serde_json::{Value, json};

use self::calls::{Arguments, Call, Calls};
use super::{Ending, block, citation, error};
use crate::asker::Encode;
use crate::sse;

/// Writes deltas as events for an Anthropic asker. Of several choices only the first is written.
#[derive(Debug)]
pub struct StreamEncoder {
    request: Request,
    begun: bool,
    /// The open block and its number; blocks never overlap.
    open: Option<Kind>,
    calls: Calls,
    blocks: u32,
    /// The arguments of the open call: they must become an object.
    arguments: Arguments,
    /// The open text was cited: what follows is another block.
    cited: bool,
    usage: Usage,
    ending: Ending,
    /// Raw events passed: the vendor's own end is among them.
    raw: bool,
    over: bool,
    failed: bool,
}

/// Most bytes of arguments of one call.
const MAX_ARGUMENTS: usize = 4 << 20;

fn no_object() -> Error {
    Error::new(Code::UpstreamBadResponse, "the model wrote tool arguments that are no JSON object")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Sealed,
    Call(u32),
}

impl StreamEncoder {
    /// An encoder for the answer to this request.
    pub fn new(request: &Request) -> Self {
        Self {
            request: request.without_body(),
            begun: false,
            open: None,
            calls: Calls::default(),
            blocks: 0,
            arguments: Arguments::default(),
            cited: false,
            usage: Usage::default(),
            ending: Ending::of(request),
            raw: false,
            over: false,
            failed: false,
        }
    }

    /// Whether a terminal error was written.
    pub fn failed(&self) -> bool {
        self.failed
    }

    fn begin(&mut self, started: &Started, out: &mut BytesMut) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let message = json!({
            "id": super::message_id(started, &self.request), "type": "message", "role": "assistant",
            "model": super::model(started, &self.request), "content": [], "stop_reason": null,
            "stop_sequence": null, "usage": super::usage(&self.usage),
        });
        event(out, "message_start", &json!({"type": "message_start", "message": message}));
    }

    fn think(&mut self, out: &mut BytesMut) {
        self.enter(Kind::Thinking, || json!({"type": "thinking", "thinking": "", "signature": ""}), out);
    }

    /// Takes a piece of a call: now if its block is open or can be, later if another call's is not finished.
    fn call(&mut self, piece: Call, out: &mut BytesMut) {
        if self.open == Some(Kind::Call(piece.index)) {
            self.argue(&piece.arguments, out);
            if self.arguments.is_whole() {
                self.release(out);
            }
            return;
        }
        if self.calls.has_begun(piece.index) {
            if !piece.arguments.trim().is_empty() {
                let say = "the provider went on with a tool call that was finished";
                self.fail(&Error::new(Code::UpstreamBadResponse, say), out);
            }
            return;
        }
        let busy = matches!(self.open, Some(Kind::Call(_))) && !self.arguments.is_whole();
        if !busy && !self.calls.is_waiting() {
            return self.begin_call(piece, out);
        }
        if !self.calls.wait(piece) {
            let say = "the provider mixed the pieces of several tool calls so that more than 1 MiB of them would have to wait";
            self.fail(&Error::new(Code::UpstreamBadResponse, say), out);
        }
    }

    /// Opens the block of a call.
    fn begin_call(&mut self, call: Call, out: &mut BytesMut) {
        if !self.calls.begin(call.index) {
            let say = "the provider's answer has too many tool calls";
            return self.fail(&Error::new(Code::UpstreamBadResponse, say), out);
        }
        let start = || {
            let id = call.id.unwrap_or_else(|| format!("toolu_{}", call.index));
            json!({"type": "tool_use", "id": id, "name": call.name.unwrap_or_default(), "input": {}})
        };
        self.enter(Kind::Call(call.index), start, out);
        self.argue(&call.arguments, out);
    }

    /// Begins the calls that wait, up to the first that is not finished.
    fn release(&mut self, out: &mut BytesMut) {
        while !self.over && self.arguments.is_whole() {
            let Some(call) = self.calls.next() else { return };
            self.begin_call(call, out);
        }
    }

    /// Begins every call that waits: what has come of them is all that comes.
    fn release_all(&mut self, out: &mut BytesMut) {
        while !self.over
            && let Some(call) = self.calls.next()
        {
            self.begin_call(call, out);
        }
    }

    /// Goes on with the arguments of the open call.
    fn argue(&mut self, more: &str, out: &mut BytesMut) {
        if self.over || more.is_empty() {
            return;
        }
        let so_far = &self.arguments.text;
        let first = so_far.trim_start().bytes().next().or(more.trim_start().bytes().next());
        if first.is_some_and(|first| first != b'{') || so_far.len() + more.len() > MAX_ARGUMENTS {
            return self.fail(&no_object(), out);
        }
        self.arguments.push(more);
        self.piece(&json!({"type": "input_json_delta", "partial_json": more}), out);
    }

    /// Makes sure that a block of this kind is open.
    fn enter(&mut self, kind: Kind, start: impl FnOnce() -> Value, out: &mut BytesMut) {
        self.begin(&Started::default(), out);
        if self.open == Some(kind) {
            return;
        }
        if !matches!(kind, Kind::Call(_)) {
            self.release_all(out);
        }
        self.leave(out);
        if self.over {
            return;
        }
        self.open = Some(kind);
        event(
            out,
            "content_block_start",
            &json!({
                "type": "content_block_start", "index": self.blocks, "content_block": start(),
            }),
        );
    }

    /// Closes the open block. A call whose arguments are no object fails the stream: a client that ran the tool would run
    /// something else than the model meant.
    fn leave(&mut self, out: &mut BytesMut) {
        if self.over {
            return;
        }
        self.cited = false;
        let arguments = std::mem::take(&mut self.arguments);
        if matches!(self.open, Some(Kind::Call(_))) && block::arguments(&arguments.text).is_none() {
            return self.fail(&no_object(), out);
        }
        if self.open.take().is_some() {
            event(out, "content_block_stop", &json!({"type": "content_block_stop", "index": self.blocks}));
            self.blocks = self.blocks.saturating_add(1);
        }
    }

    fn piece(&self, delta: &Value, out: &mut BytesMut) {
        if self.over {
            return;
        }
        event(
            out,
            "content_block_delta",
            &json!({
                "type": "content_block_delta", "index": self.blocks, "delta": delta,
            }),
        );
    }

    fn fail(&mut self, error: &Error, out: &mut BytesMut) {
        self.over = true;
        self.failed = true;
        sse::encode_event(out, Some("error"), &error::error_body(error, &self.request.id));
    }
}

impl Encode for StreamEncoder {
    fn encode(&mut self, delta: Delta, out: &mut BytesMut) {
        if self.over {
            return;
        }
        self.ending.refused |= matches!(delta, Delta::Refusal { choice: 0, .. });
        match delta {
            Delta::Started(started) => self.begin(&started, out),
            Delta::Text { choice: 0, text, .. } | Delta::Refusal { choice: 0, text } => {
                if self.cited {
                    self.leave(out);
                }
                self.enter(Kind::Text, || json!({"type": "text", "text": ""}), out);
                self.piece(&json!({"type": "text_delta", "text": text}), out);
            }
            Delta::Reasoning { choice: 0, text } => {
                self.think(out);
                self.piece(&json!({"type": "thinking_delta", "thinking": text}), out);
            }
            Delta::Signature { choice: 0, text } => {
                self.think(out);
                self.piece(&json!({"type": "signature_delta", "signature": text}), out);
                // What comes next is other reasoning, which has a signature of its own.
                self.leave(out);
            }
            Delta::Sealed { choice: 0, text } => {
                self.enter(Kind::Sealed, || json!({"type": "redacted_thinking", "data": text}), out);
                self.leave(out);
            }
            Delta::Citation { choice: 0, citation } if self.open == Some(Kind::Text) => {
                if let Some(citation) = citation::write(&citation) {
                    self.piece(&json!({"type": "citations_delta", "citation": citation}), out);
                    self.cited = true;
                }
            }
            Delta::ToolCall { choice: 0, index, id, name, arguments } => {
                self.call(Call { index, id, name, arguments }, out);
            }
            Delta::Finished { choice: 0, reason, stop } => {
                self.ending.finish = Some(reason);
                self.ending.stop = stop;
            }
            Delta::Usage(usage) => self.usage = usage,
            Delta::Raw(raw) if raw.dialect == Dialect::Anthropic => {
                self.raw = true;
                out.put_slice(&raw.bytes);
            }
            Delta::Raw(_) | Delta::Whole(_) | Delta::Vectors(_) | Delta::Relayed(_) => {
                let say = "these bytes are no message events; they have to be read first";
                self.fail(&Error::new(Code::InternalError, say), out);
            }
            Delta::Failed(error) => self.fail(&error, out),
            Delta::Dropped(_)
            | Delta::Signature { .. }
            | Delta::Sealed { .. }
            | Delta::Citation { .. }
            | Delta::Counted { .. }
            | Delta::Resumed
            | Delta::Text { .. }
            | Delta::Refusal { .. }
            | Delta::Reasoning { .. }
            | Delta::ToolCall { .. }
            | Delta::Finished { .. } => {}
        }
    }

    fn passed(&mut self, _raw: &RawEvents) {
        self.raw = true;
    }

    fn finish(&mut self, out: &mut BytesMut) {
        if self.over || self.raw {
            self.over = true;
            return;
        }
        self.begin(&Started::default(), out);
        self.release_all(out);
        self.leave(out);
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let (reason, stop) = self.ending.told();
        let mut delta = json!({"stop_reason": reason, "stop_sequence": stop});
        if let Some(details) = super::stop_details(reason) {
            delta["stop_details"] = details;
        }
        event(
            out,
            "message_delta",
            &json!({
                "type": "message_delta", "delta": delta, "usage": super::usage(&self.usage),
            }),
        );
        event(out, "message_stop", &json!({"type": "message_stop"}));
    }
}

fn event(out: &mut BytesMut, name: &str, data: &Value) {
    sse::encode_event(out, Some(name), data.to_string().as_bytes());
}
