//! Anthropic's messages, read and written by the mock itself.
//!
//! A second hand on purpose: what the gateway writes and reads in this dialect is held against an implementation that
//! shares no code with it.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use penstock_domain::{Code, Delta, Error, FinishReason, Usage};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::Head;

/// What the mock wants to know first of a request.
#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow, default)]
    model: Cow<'a, str>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    messages: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    stream: bool,
}

/// Reads the head of a request; `max_tokens` is required where an answer is wanted.
pub(crate) fn head(body: &[u8]) -> Result<Head, Error> {
    let wrong = |say: &str, param: &str| Error::new(Code::InvalidRequest, say).with_param(param);
    let outline: Outline<'_> = serde_json::from_slice(body).map_err(|error| {
        Error::new(Code::InvalidJson, format!("the body is not a messages request: {error}"))
    })?;
    if outline.model.is_empty() {
        return Err(wrong("model: field required", "model"));
    }
    if outline.messages.is_none_or(|messages| messages.is_empty()) {
        return Err(wrong("messages: at least one message is required", "messages"));
    }
    let Some(max_tokens) = outline.max_tokens.filter(|max| *max > 0) else {
        return Err(wrong("max_tokens: a number of at least 1 is required", "max_tokens"));
    };
    Ok(Head {
        model: outline.model.into_owned(),
        stream: outline.stream,
        choices: 1,
        max_tokens: Some(max_tokens),
    })
}

/// The stop reason in Anthropic's words.
fn stop_reason(reason: Option<FinishReason>, refused: bool) -> &'static str {
    match reason {
        _ if refused => "refusal",
        Some(FinishReason::Length) => "max_tokens",
        Some(FinishReason::ToolCalls) => "tool_use",
        Some(FinishReason::ContentFilter) => "refusal",
        Some(FinishReason::Stop) | None => "end_turn",
    }
}

/// Usage in Anthropic's arithmetic, where the input leaves out what was cached.
fn usage_json(usage: Usage) -> Value {
    let cached = usage.cached_input.unwrap_or(0);
    json!({
        "input_tokens": usage.input.saturating_sub(cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output,
    })
}

/// Writes an answer as events.
pub(crate) struct Encoder {
    /// The usage known at the start; `None` says nothing about usage.
    usage: Option<Usage>,
    block: Option<Block>,
    index: u32,
    reason: Option<FinishReason>,
    refused: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Block {
    Text,
    Thinking,
    Tool(u32),
}

impl Encoder {
    pub(crate) fn new(usage: Option<Usage>) -> Self {
        Self { usage, block: None, index: 0, reason: None, refused: false }
    }

    pub(crate) fn encode(&mut self, delta: Delta, out: &mut BytesMut) {
        match delta {
            Delta::Started(started) => {
                let mut message = json!({
                    "id": format!("msg_{}", started.id), "type": "message", "role": "assistant",
                    "model": started.model, "content": [], "stop_reason": null, "stop_sequence": null,
                });
                if let Some(usage) = self.usage {
                    message["usage"] = usage_json(Usage { output: 1, ..usage });
                }
                event(out, "message_start", &json!({"type": "message_start", "message": message}));
                event(out, "ping", &json!({"type": "ping"}));
            }
            Delta::Text { choice: 0, text, .. } => self.text(&text, out),
            Delta::Refusal { choice: 0, text } => {
                self.refused = true;
                self.text(&text, out);
            }
            Delta::Reasoning { choice: 0, text } => {
                self.open(
                    Block::Thinking,
                    &json!({"type": "thinking", "thinking": "", "signature": ""}),
                    out,
                );
                self.delta(&json!({"type": "thinking_delta", "thinking": text}), out);
            }
            Delta::ToolCall { choice: 0, index, id, name, arguments } => {
                self.open(
                    Block::Tool(index),
                    &json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                    out,
                );
                self.delta(&json!({"type": "input_json_delta", "partial_json": arguments}), out);
            }
            Delta::Finished { choice: 0, reason, .. } => {
                self.close(out);
                self.reason = Some(reason);
            }
            Delta::Usage(usage) => self.usage = Some(usage),
            _ => {}
        }
    }

    pub(crate) fn finish(&mut self, out: &mut BytesMut) {
        let stop = stop_reason(self.reason, self.refused);
        let mut end = json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}});
        if let Some(usage) = self.usage {
            end["usage"] = usage_json(usage);
        }
        event(out, "message_delta", &end);
        event(out, "message_stop", &json!({"type": "message_stop"}));
    }

    fn text(&mut self, text: &str, out: &mut BytesMut) {
        self.open(Block::Text, &json!({"type": "text", "text": ""}), out);
        self.delta(&json!({"type": "text_delta", "text": text}), out);
    }

    fn open(&mut self, block: Block, start: &Value, out: &mut BytesMut) {
        if self.block == Some(block) {
            return;
        }
        self.close(out);
        self.block = Some(block);
        let index = self.index;
        event(
            out,
            "content_block_start",
            &json!({"type": "content_block_start", "index": index, "content_block": start}),
        );
    }

    fn delta(&self, delta: &Value, out: &mut BytesMut) {
        let delta = json!({"type": "content_block_delta", "index": self.index, "delta": delta});
        event(out, "content_block_delta", &delta);
    }

    fn close(&mut self, out: &mut BytesMut) {
        let Some(block) = self.block.take() else { return };
        if block == Block::Thinking {
            self.delta(&json!({"type": "signature_delta", "signature": "bW9jaw=="}), out);
        }
        event(out, "content_block_stop", &json!({"type": "content_block_stop", "index": self.index}));
        self.index += 1;
    }
}

fn event(out: &mut BytesMut, name: &str, data: &Value) {
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: ");
    out.put_slice(data.to_string().as_bytes());
    out.put_slice(b"\n\n");
}

/// Gathers an answer into one body.
#[derive(Default)]
pub(crate) struct Folder {
    id: String,
    model: String,
    thinking: String,
    text: String,
    tools: Vec<(String, String, String)>,
    reason: Option<FinishReason>,
    refused: bool,
    usage: Option<Usage>,
}

impl Folder {
    pub(crate) fn push(&mut self, delta: Delta) {
        match delta {
            Delta::Started(started) => (self.id, self.model) = (started.id, started.model),
            Delta::Text { choice: 0, text, .. } => self.text.push_str(&text),
            Delta::Refusal { choice: 0, text } => {
                self.refused = true;
                self.text.push_str(&text);
            }
            Delta::Reasoning { choice: 0, text } => self.thinking.push_str(&text),
            Delta::ToolCall { choice: 0, id: Some(id), name, arguments, .. } => {
                self.tools.push((id, name.unwrap_or_default(), arguments));
            }
            Delta::ToolCall { choice: 0, arguments, .. } => {
                if let Some(tool) = self.tools.last_mut() {
                    tool.2.push_str(&arguments);
                }
            }
            Delta::Finished { choice: 0, reason, .. } => self.reason = Some(reason),
            Delta::Usage(usage) => self.usage = Some(usage),
            _ => {}
        }
    }

    pub(crate) fn finish(self) -> Bytes {
        let mut content = Vec::new();
        if !self.thinking.is_empty() {
            content.push(json!({"type": "thinking", "thinking": self.thinking, "signature": "bW9jaw=="}));
        }
        if !self.text.is_empty() {
            content.push(json!({"type": "text", "text": self.text}));
        }
        for (id, name, arguments) in self.tools {
            // Anthropic parses the arguments itself; what is no JSON cannot be said in a whole answer.
            let input: Value = serde_json::from_str(&arguments).unwrap_or_else(|_| json!({}));
            content.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
        }
        let mut message = json!({
            "id": format!("msg_{}", self.id), "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": stop_reason(self.reason, self.refused), "stop_sequence": null,
        });
        if let Some(usage) = self.usage {
            message["usage"] = usage_json(usage);
        }
        message.to_string().into()
    }
}
