//! Streams of message events.

use std::collections::BTreeSet;

use bytes::{BufMut, BytesMut};
use penstock_domain::{Code, Delta, Dialect, Error, FinishReason, Request, Started, Usage};
use serde_json::{Value, json};

use super::error;
use crate::asker::Encode;
use crate::sse;

/// Writes deltas as events for an Anthropic asker. Of several choices only the first is written.
#[derive(Debug)]
pub struct StreamEncoder {
    request: Request,
    begun: bool,
    /// The open block and its number; blocks never overlap.
    open: Option<Kind>,
    /// Calls that have begun: a block that was left cannot be entered again.
    calls: BTreeSet<u32>,
    blocks: u32,
    usage: Usage,
    finish: Option<FinishReason>,
    /// The model declined in its own words.
    refused: bool,
    /// Raw events passed: the vendor's own end is among them.
    raw: bool,
    over: bool,
    failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call(u32),
}

impl StreamEncoder {
    /// An encoder for the answer to this request.
    pub fn new(request: &Request) -> Self {
        Self {
            request: request.without_body(),
            begun: false,
            open: None,
            calls: BTreeSet::new(),
            blocks: 0,
            usage: Usage::default(),
            finish: None,
            refused: false,
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

    fn call(
        &mut self,
        index: u32,
        (id, name): (Option<String>, Option<String>),
        arguments: &str,
        out: &mut BytesMut,
    ) {
        let new = self.calls.insert(index);
        if !new && self.open != Some(Kind::Call(index)) {
            let say = "the provider mixed the pieces of several tool calls, which this API cannot express";
            return self.fail(&Error::new(Code::UpstreamBadResponse, say), out);
        }
        let start = || {
            let id = id.unwrap_or_else(|| format!("toolu_{index}"));
            json!({"type": "tool_use", "id": id, "name": name.unwrap_or_default(), "input": {}})
        };
        self.enter(Kind::Call(index), start, out);
        if !arguments.is_empty() {
            self.piece(&json!({"type": "input_json_delta", "partial_json": arguments}), out);
        }
    }

    /// Makes sure that a block of this kind is open.
    fn enter(&mut self, kind: Kind, start: impl FnOnce() -> Value, out: &mut BytesMut) {
        self.begin(&Started::default(), out);
        if self.open == Some(kind) {
            return;
        }
        self.leave(out);
        self.open = Some(kind);
        event(
            out,
            "content_block_start",
            &json!({
                "type": "content_block_start", "index": self.blocks, "content_block": start(),
            }),
        );
    }

    fn leave(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            event(out, "content_block_stop", &json!({"type": "content_block_stop", "index": self.blocks}));
            self.blocks = self.blocks.saturating_add(1);
        }
    }

    fn piece(&self, delta: &Value, out: &mut BytesMut) {
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
        self.refused |= matches!(delta, Delta::Refusal { choice: 0, .. });
        match delta {
            Delta::Started(started) => self.begin(&started, out),
            Delta::Text { choice: 0, text, .. } | Delta::Refusal { choice: 0, text } => {
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
            Delta::ToolCall { choice: 0, index, id, name, arguments } => {
                self.call(index, (id, name), &arguments, out);
            }
            Delta::Finished { choice: 0, reason, .. } => self.finish = Some(reason),
            Delta::Usage(usage) => self.usage = usage,
            Delta::Raw(raw) if raw.dialect == Dialect::Anthropic => {
                self.raw = true;
                out.put_slice(&raw.bytes);
            }
            Delta::Raw(_) | Delta::Whole(_) | Delta::Vectors(_) => {
                let say = "these bytes are no message events; they have to be read first";
                self.fail(&Error::new(Code::InternalError, say), out);
            }
            Delta::Failed(error) => self.fail(&error, out),
            Delta::Dropped(_)
            | Delta::Signature { .. }
            | Delta::Sealed { .. }
            | Delta::Citation { .. }
            | Delta::Counted { .. }
            | Delta::Text { .. }
            | Delta::Refusal { .. }
            | Delta::Reasoning { .. }
            | Delta::ToolCall { .. }
            | Delta::Finished { .. } => {}
        }
    }

    fn passed(&mut self) {
        self.raw = true;
    }

    fn finish(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.over, true) || self.raw {
            return;
        }
        self.begin(&Started::default(), out);
        self.leave(out);
        let reason = super::stop_reason(self.finish, self.refused);
        let delta = json!({"stop_reason": reason, "stop_sequence": null});
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
