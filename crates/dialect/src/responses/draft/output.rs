//! Output items: as they are now, and what is told of them.

use serde_json::{Value, json};

use super::message::Message;
use crate::responses::request::input_of;
use crate::responses::tell::{Piece, Tell};

/// What events call an item by.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) id: String,
    /// Its place in the output.
    pub(super) at: u32,
}

impl Head {
    pub(super) fn id(&self) -> (&'static str, Piece<'_>) {
        ("item_id", Piece::Text(&self.id))
    }

    pub(super) fn place(&self) -> (&'static str, Piece<'_>) {
        ("output_index", Piece::Number(self.at))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) head: Head,
    pub(super) kind: Kind,
    status: Status,
}

#[derive(Debug)]
pub(super) enum Kind {
    Message(Message),
    Reasoning(Reasoning),
    Call(Call),
}

impl Kind {
    /// What ids of such items begin with.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Message(_) => "msg",
            Self::Reasoning(_) => "rs",
            Self::Call(call) if call.custom => "ctc",
            Self::Call(_) => "fc",
        }
    }
}

impl Item {
    pub(super) fn begin(id: String, at: usize, kind: Kind, tell: &mut impl Tell) -> Self {
        let head = Head { id, at: u32::try_from(at).unwrap_or(u32::MAX) };
        let item = Self { head, kind, status: Status::InProgress };
        if tell.listens() {
            let members = [item.head.place(), ("item", Piece::Json(item.json()))];
            tell.tell("response.output_item.added", &members);
        }
        item
    }

    pub(super) fn end(&mut self, status: Status, tell: &mut impl Tell) {
        self.status = status;
        if !tell.listens() {
            return;
        }
        match &self.kind {
            Kind::Message(message) => message.end(&self.head, tell),
            Kind::Reasoning(reasoning) => reasoning.end(&self.head, tell),
            Kind::Call(call) => call.end(&self.head, tell),
        }
        tell.tell("response.output_item.done", &[self.head.place(), ("item", Piece::Json(self.json()))]);
    }

    /// The item as it is now.
    pub(super) fn json(&self) -> Value {
        let (id, status) = (&self.head.id, self.status.name());
        match &self.kind {
            Kind::Message(message) => json!({
                "id": id, "type": "message", "status": status, "role": "assistant", "content": message.json(),
            }),
            Kind::Reasoning(reasoning) => {
                let mut item = json!({"id": id, "type": "reasoning", "summary": []});
                let part = reasoning.part().map(|part| Value::Array(vec![part]));
                if let Some(parts) = part {
                    item[if reasoning.summary { "summary" } else { "content" }] = parts;
                }
                if let Some(sealed) = &reasoning.sealed {
                    item["encrypted_content"] = json!(sealed);
                }
                item["status"] = json!(status);
                item
            }
            Kind::Call(call) if call.custom => json!({
                "id": id, "type": "custom_tool_call", "status": status, "call_id": call.id, "name": call.name,
                "input": if self.status == Status::InProgress { String::new() } else { call.input() },
            }),
            Kind::Call(call) => json!({
                "id": id, "type": "function_call", "status": status, "call_id": call.id, "name": call.name,
                "arguments": call.arguments,
            }),
        }
    }
}

/// Reasoning: shown as a summary or as what it is, and perhaps sealed.
#[derive(Debug)]
pub(super) struct Reasoning {
    summary: bool,
    text: String,
    pub(super) sealed: Option<String>,
}

impl Reasoning {
    pub(super) fn new(summary: bool) -> Self {
        Self { summary, text: String::new(), sealed: None }
    }

    fn part(&self) -> Option<Value> {
        let kind = if self.summary { "summary_text" } else { "reasoning_text" };
        (!self.text.is_empty()).then(|| json!({"type": kind, "text": self.text}))
    }

    fn index(&self) -> (&'static str, Piece<'static>) {
        (if self.summary { "summary_index" } else { "content_index" }, Piece::Number(0))
    }

    pub(super) fn say(&mut self, text: &str, head: &Head, tell: &mut impl Tell) {
        if text.is_empty() {
            return;
        }
        let first = self.text.is_empty();
        self.text.push_str(text);
        if self.summary && first {
            let part = json!({"type": "summary_text", "text": ""});
            let members = [head.id(), head.place(), self.index(), ("part", Piece::Json(part))];
            tell.tell("response.reasoning_summary_part.added", &members);
        }
        let kind = match self.summary {
            true => "response.reasoning_summary_text.delta",
            false => "response.reasoning_text.delta",
        };
        tell.tell(kind, &[head.id(), head.place(), self.index(), ("delta", Piece::Text(text))]);
    }

    fn end(&self, head: &Head, tell: &mut impl Tell) {
        let Some(part) = self.part() else { return };
        let kind = match self.summary {
            true => "response.reasoning_summary_text.done",
            false => "response.reasoning_text.done",
        };
        tell.tell(kind, &[head.id(), head.place(), self.index(), ("text", Piece::Text(&self.text))]);
        if self.summary {
            let members = [head.id(), head.place(), self.index(), ("part", Piece::Json(part))];
            tell.tell("response.reasoning_summary_part.done", &members);
        }
    }
}

/// A call of a function, or of a custom tool that was declared as one.
#[derive(Debug)]
pub(super) struct Call {
    id: String,
    name: String,
    arguments: String,
    custom: bool,
}

impl Call {
    pub(super) fn new(id: String, name: String, custom: bool) -> Self {
        Self { id, name, arguments: String::new(), custom }
    }

    fn input(&self) -> String {
        input_of(&self.arguments)
    }

    pub(super) fn say(&mut self, arguments: &str, head: &Head, tell: &mut impl Tell) {
        if arguments.is_empty() {
            return;
        }
        self.arguments.push_str(arguments);
        // The input of a custom tool stands inside arguments that are not whole yet.
        if !self.custom {
            let members = [head.id(), head.place(), ("delta", Piece::Text(arguments))];
            tell.tell("response.function_call_arguments.delta", &members);
        }
    }

    fn end(&self, head: &Head, tell: &mut impl Tell) {
        if self.custom {
            let input = self.input();
            let delta = [head.id(), head.place(), ("delta", Piece::Text(&input))];
            tell.tell("response.custom_tool_call_input.delta", &delta);
            let done = [head.id(), head.place(), ("input", Piece::Text(&input))];
            return tell.tell("response.custom_tool_call_input.done", &done);
        }
        let arguments = ("arguments", Piece::Text(&self.arguments));
        let members = [head.id(), head.place(), ("name", Piece::Text(&self.name)), arguments];
        tell.tell("response.function_call_arguments.done", &members);
    }
}
