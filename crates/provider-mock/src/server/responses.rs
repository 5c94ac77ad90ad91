//! OpenAI's responses, read and written by the mock itself.
//!
//! A second hand on purpose: what the gateway writes and reads in this dialect is held against an implementation that
//! shares no code with it. Like OpenAI it keeps nothing for a gateway that tells it not to, and so refuses to go on from an
//! earlier answer and items that are only named.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use penstock_domain::{Code, Delta, Error, FinishReason, TokenLogprob, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Head;
use crate::asked::{Asked, MAX_TEXT, bounded};
use crate::tokens;

/// When every answer was made.
const CREATED: u64 = 1_700_000_000;

#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow, default)]
    model: Cow<'a, str>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(default)]
    max_output_tokens: Option<u32>,
    #[serde(default)]
    top_logprobs: Option<u8>,
    #[serde(default)]
    include: Option<Vec<String>>,
    #[serde(default)]
    previous_response_id: Option<String>,
    #[serde(borrow, default)]
    mock: Option<&'a RawValue>,
}

/// Reads a request: its head, its facts, and the script that it brings.
pub(crate) fn read(body: &[u8]) -> Result<(Head, Asked, Option<String>), Error> {
    let wrong = |say: &str, param: &str| Error::new(Code::InvalidRequest, say).with_param(param);
    let outline: Outline<'_> = serde_json::from_slice(body).map_err(|error| {
        Error::new(Code::InvalidJson, format!("the body is not a responses request: {error}"))
    })?;
    if outline.model.is_empty() {
        return Err(wrong("Missing required parameter: 'model'.", "model"));
    }
    if outline.previous_response_id.is_some() {
        return Err(wrong("Previous response not found.", "previous_response_id"));
    }
    let mut asked = Asked { model: outline.model.into_owned(), choices: 1, ..Asked::default() };
    asked.prompt_tokens = outline.instructions.as_deref().map_or(0, tokens::count);
    match &outline.input {
        Value::String(text) => hear("user", text, &mut asked),
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                self::item(item, &mut asked)?;
            }
        }
        _ => return Err(wrong("Missing required parameter: 'input'.", "input")),
    }
    let wanted = |name: &String| name == "message.output_text.logprobs";
    if outline.include.iter().flatten().any(wanted) {
        asked.logprobs = Some(outline.top_logprobs.unwrap_or(0));
    }
    asked.max_tokens = outline.max_output_tokens.map(u64::from);
    let head = Head {
        model: asked.model.clone(),
        stream: outline.stream.unwrap_or(false),
        choices: 1,
        max_tokens: outline.max_output_tokens,
    };
    Ok((head, asked, outline.mock.map(|own| own.get().to_owned())))
}

fn item(item: &Value, asked: &mut Asked) -> Result<(), Error> {
    let wrong = |say: &str| Error::new(Code::InvalidRequest, say).with_param("input");
    match item["type"].as_str() {
        None | Some("message") => {
            let role = item["role"].as_str().ok_or_else(|| wrong("an item has no role"))?;
            said(role, &item["content"], asked);
        }
        Some("function_call_output" | "custom_tool_call_output") => said("tool", &item["output"], asked),
        Some("item_reference") => return Err(wrong("Items are not persisted when `store` is set to false.")),
        Some("reasoning") if item["encrypted_content"].as_str().is_none() => {
            return Err(wrong("Items are not persisted when `store` is set to false."));
        }
        Some(_) => {}
    }
    Ok(())
}

/// A text, or the texts of parts.
fn said(role: &str, content: &Value, asked: &mut Asked) {
    match content {
        Value::String(text) => hear(role, text, asked),
        content => {
            let texts: Vec<&str> =
                content.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect();
            hear(role, &texts.join("\n"), asked);
        }
    }
}

fn hear(role: &str, text: &str, asked: &mut Asked) {
    asked.prompt_tokens += tokens::count(text);
    if role == "user" {
        bounded(text, MAX_TEXT).clone_into(&mut asked.text);
    }
}

/// An answer as it grows: events if somebody wants them, and one response in the end.
#[derive(Default)]
pub(crate) struct Writer {
    id: String,
    model: String,
    output: Vec<Value>,
    /// The item that goes on, with its text so far.
    open: Option<(Kind, String)>,
    logprobs: Vec<Value>,
    reason: Option<FinishReason>,
    usage: Option<Usage>,
    number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Refusal,
    Reasoning,
    Call(u32),
}

impl Writer {
    /// Takes a delta; its events go to `out`.
    pub(crate) fn encode(&mut self, delta: Delta, out: &mut BytesMut) {
        match delta {
            Delta::Started(started) => {
                (self.id, self.model) = (started.id, started.model);
                for kind in ["response.created", "response.in_progress"] {
                    let response = self.response("in_progress");
                    self.event(kind, json!({"response": response}), out);
                }
            }
            Delta::Text { choice: 0, text, logprobs } => {
                let spelt: Vec<Value> = logprobs.iter().map(logprob).collect();
                self.enter(Kind::Text, (None, None), out);
                self.piece("response.output_text.delta", &text, json!({"logprobs": spelt}), out);
                self.logprobs.extend(spelt);
            }
            Delta::Refusal { choice: 0, text } => {
                self.enter(Kind::Refusal, (None, None), out);
                self.piece("response.refusal.delta", &text, json!({}), out);
            }
            Delta::Reasoning { choice: 0, text } => {
                self.enter(Kind::Reasoning, (None, None), out);
                self.piece("response.reasoning_summary_text.delta", &text, json!({}), out);
            }
            Delta::ToolCall { choice: 0, index, id, name, arguments } => {
                self.enter(Kind::Call(index), (id, name), out);
                self.piece("response.function_call_arguments.delta", &arguments, json!({}), out);
            }
            Delta::Finished { choice: 0, reason, .. } => {
                self.leave(out);
                self.reason = Some(reason);
            }
            Delta::Usage(usage) => self.usage = Some(usage),
            _ => {}
        }
    }

    /// Ends the stream.
    pub(crate) fn finish(&mut self, out: &mut BytesMut) {
        self.leave(out);
        let (status, kind) = match self.reason {
            Some(FinishReason::Length | FinishReason::ContentFilter) => ("incomplete", "response.incomplete"),
            _ => ("completed", "response.completed"),
        };
        let response = self.response(status);
        self.event(kind, json!({"response": response}), out);
    }

    /// The whole body.
    pub(crate) fn whole(mut self) -> Bytes {
        let mut events = BytesMut::new();
        self.finish(&mut events);
        let cut = matches!(self.reason, Some(FinishReason::Length | FinishReason::ContentFilter));
        self.response(if cut { "incomplete" } else { "completed" }).to_string().into()
    }

    fn response(&self, status: &str) -> Value {
        let details = match (status, self.reason) {
            ("incomplete", Some(FinishReason::ContentFilter)) => json!({"reason": "content_filter"}),
            ("incomplete", _) => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        json!({
            "id": format!("resp_{}", self.id), "object": "response", "created_at": CREATED, "status": status,
            "background": false, "error": null, "incomplete_details": details, "instructions": null,
            "max_output_tokens": null, "model": self.model, "output": self.output, "parallel_tool_calls": true,
            "previous_response_id": null, "reasoning": {"effort": null, "summary": null}, "store": false,
            "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
            "top_p": 1.0, "truncation": "disabled", "usage": self.usage.map(usage), "metadata": {},
        })
    }

    fn at(&self) -> usize {
        self.output.len().saturating_sub(1)
    }

    fn event(&mut self, kind: &str, mut members: Value, out: &mut BytesMut) {
        members["type"] = json!(kind);
        members["sequence_number"] = json!(self.number);
        self.number += 1;
        out.put_slice(format!("event: {kind}\ndata: {members}\n\n").as_bytes());
    }

    /// An event about the item that goes on.
    fn about(&mut self, kind: &str, mut members: Value, out: &mut BytesMut) {
        let at = self.at();
        members["item_id"] = self.output.get(at).map_or(Value::Null, |item| item["id"].clone());
        members["output_index"] = json!(at);
        match self.open {
            Some((Kind::Text | Kind::Refusal, _)) => members["content_index"] = json!(0),
            Some((Kind::Reasoning, _)) => members["summary_index"] = json!(0),
            _ => {}
        }
        self.event(kind, members, out);
    }

    fn enter(&mut self, kind: Kind, (id, name): (Option<String>, Option<String>), out: &mut BytesMut) {
        if self.open.as_ref().is_some_and(|(open, _)| *open == kind) {
            return;
        }
        self.leave(out);
        let own = format!("{}_{}", self.id, self.output.len());
        let item = match kind {
            Kind::Text | Kind::Refusal => json!({
                "id": format!("msg_{own}"), "type": "message", "status": "in_progress", "role": "assistant", "content": [],
            }),
            Kind::Reasoning => json!({"id": format!("rs_{own}"), "type": "reasoning", "summary": []}),
            Kind::Call(_) => json!({
                "id": format!("fc_{own}"), "type": "function_call", "status": "in_progress", "call_id": id, "name": name,
                "arguments": "",
            }),
        };
        self.output.push(item.clone());
        self.open = Some((kind, String::new()));
        self.event("response.output_item.added", json!({"output_index": self.at(), "item": item}), out);
        match kind {
            Kind::Text | Kind::Refusal => {
                let part = part(kind, "", &[]);
                self.about("response.content_part.added", json!({"part": part}), out);
            }
            Kind::Reasoning => {
                let part = json!({"type": "summary_text", "text": ""});
                self.about("response.reasoning_summary_part.added", json!({"part": part}), out);
            }
            Kind::Call(_) => {}
        }
    }

    fn piece(&mut self, kind: &str, text: &str, mut members: Value, out: &mut BytesMut) {
        if let Some((_, so_far)) = &mut self.open {
            so_far.push_str(text);
        }
        members["delta"] = json!(text);
        self.about(kind, members, out);
    }

    fn leave(&mut self, out: &mut BytesMut) {
        let Some((kind, text)) = self.open.clone() else { return };
        let logprobs = std::mem::take(&mut self.logprobs);
        let at = self.at();
        match kind {
            Kind::Text | Kind::Refusal => {
                let part = part(kind, &text, &logprobs);
                let (name, whole) = match kind {
                    Kind::Text => ("response.output_text.done", json!({"text": text, "logprobs": logprobs})),
                    _ => ("response.refusal.done", json!({"refusal": text})),
                };
                self.about(name, whole, out);
                self.about("response.content_part.done", json!({"part": part}), out);
                self.output[at]["content"] = json!([part]);
                self.output[at]["status"] = json!("completed");
            }
            Kind::Reasoning => {
                let part = json!({"type": "summary_text", "text": text});
                self.about("response.reasoning_summary_text.done", json!({"text": text}), out);
                self.about("response.reasoning_summary_part.done", json!({"part": part}), out);
                self.output[at]["summary"] = json!([part]);
                self.output[at]["encrypted_content"] = json!("bW9jaw==");
            }
            Kind::Call(_) => {
                let name = self.output[at]["name"].clone();
                let whole = json!({"arguments": text, "name": name});
                self.about("response.function_call_arguments.done", whole, out);
                self.output[at]["arguments"] = json!(text);
                self.output[at]["status"] = json!("completed");
            }
        }
        self.open = None;
        let item = self.output[at].clone();
        self.event("response.output_item.done", json!({"output_index": at, "item": item}), out);
    }
}

fn part(kind: Kind, text: &str, logprobs: &[Value]) -> Value {
    match kind {
        Kind::Refusal => json!({"type": "refusal", "refusal": text}),
        _ => json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}),
    }
}

fn logprob(token: &TokenLogprob) -> Value {
    let top = token.top.iter();
    let top: Vec<Value> = top
        .map(|(token, bytes, logprob)| json!({"token": token, "bytes": bytes, "logprob": logprob}))
        .collect();
    json!({"token": token.token, "bytes": token.bytes, "logprob": token.logprob, "top_logprobs": top})
}

fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached_input.unwrap_or(0), "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning.unwrap_or(0)},
        "total_tokens": usage.total(),
    })
}
