//! A finished response as the events that it would have been.
//!
//! What it promises: the order and the members of a live stream, with every text in one piece; the last event has the
//! response as it is. What it refuses to know: how long anything took.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use penstock_domain::Error;
use serde_json::{Map, Value, json};

use crate::openai::error::bad_response;

/// The events of a response whose numbers are greater than `after`.
///
/// # Errors
/// `upstream_bad_response` for what is no response.
pub fn events(response: &[u8], after: Option<u64>) -> Result<Bytes, Error> {
    let broken = || bad_response("is no response", response);
    let whole: Map<String, Value> = serde_json::from_slice(response).map_err(|_| broken())?;
    let output = whole.get("output").and_then(Value::as_array).ok_or_else(broken)?.clone();
    let end = match whole.get("status").and_then(Value::as_str) {
        Some("failed") => "response.failed",
        Some("incomplete") => "response.incomplete",
        _ => "response.completed",
    };
    let begun = begun(&whole);
    let mut tape = Tape { after, next: 0, out: String::new() };
    tape.put("response.created", json!({"response": begun}));
    tape.put("response.in_progress", json!({"response": begun}));
    for (index, item) in output.iter().enumerate() {
        play(item, index, &mut tape);
    }
    tape.put(end, json!({"response": whole}));
    Ok(Bytes::from(tape.out))
}

/// The response before anything had come.
fn begun(whole: &Map<String, Value>) -> Value {
    let mut begun = whole.clone();
    for (name, value) in [
        ("status", json!("in_progress")),
        ("output", json!([])),
        ("usage", Value::Null),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
    ] {
        begun.insert(name.to_owned(), value);
    }
    begun.shift_remove("completed_at");
    Value::Object(begun)
}

/// Numbers events and writes those that are wanted.
struct Tape {
    after: Option<u64>,
    next: u64,
    out: String,
}

impl Tape {
    fn put(&mut self, kind: &str, members: Value) {
        let number = self.next;
        self.next += 1;
        if self.after.is_some_and(|after| number <= after) {
            return;
        }
        let mut event = Map::new();
        event.insert("type".to_owned(), json!(kind));
        event.insert("sequence_number".to_owned(), json!(number));
        if let Value::Object(members) = members {
            event.extend(members);
        }
        self.out.push_str(&format!("event: {kind}\ndata: {}\n\n", Value::Object(event)));
    }
}

/// One output item from its beginning to its end.
fn play(item: &Value, index: usize, tape: &mut Tape) {
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
    let place = json!({"item_id": text("id"), "output_index": index});
    tape.put("response.output_item.added", json!({"output_index": index, "item": opened(item)}));
    match text("type") {
        "message" => {
            for (i, part) in list(item, "content").enumerate() {
                play_part(part, with(&place, json!({"content_index": i})), tape);
            }
        }
        "reasoning" => {
            for (i, part) in list(item, "summary").enumerate() {
                play_summary(part, with(&place, json!({"summary_index": i})), tape);
            }
            for (i, part) in list(item, "content").enumerate() {
                let place = with(&place, json!({"content_index": i}));
                let said = &part["text"];
                tape.put("response.reasoning_text.delta", with(&place, json!({"delta": said})));
                tape.put("response.reasoning_text.done", with(&place, json!({"text": said})));
            }
        }
        "function_call" => {
            let said = text("arguments");
            tape.put("response.function_call_arguments.delta", with(&place, json!({"delta": said})));
            let done = json!({"name": text("name"), "arguments": said});
            tape.put("response.function_call_arguments.done", with(&place, done));
        }
        "custom_tool_call" => {
            let said = text("input");
            tape.put("response.custom_tool_call_input.delta", with(&place, json!({"delta": said})));
            tape.put("response.custom_tool_call_input.done", with(&place, json!({"input": said})));
        }
        // What other tools do on the way is not kept: their items come and are done.
        _ => {}
    }
    tape.put("response.output_item.done", json!({"output_index": index, "item": item}));
}

/// One part of a message.
fn play_part(part: &Value, place: Value, tape: &mut Tape) {
    let opened = match part["type"].as_str() {
        Some("output_text") => with(part, json!({"text": "", "annotations": [], "logprobs": []})),
        Some("refusal") => with(part, json!({"refusal": ""})),
        _ => part.clone(),
    };
    tape.put("response.content_part.added", with(&place, json!({"part": opened})));
    match part["type"].as_str() {
        Some("output_text") => {
            let logprobs =
                part.get("logprobs").filter(|found| found.is_array()).cloned().unwrap_or(json!([]));
            let said = &part["text"];
            tape.put(
                "response.output_text.delta",
                with(&place, json!({"delta": said, "logprobs": logprobs})),
            );
            for (i, annotation) in list(part, "annotations").enumerate() {
                let added = json!({"annotation_index": i, "annotation": annotation});
                tape.put("response.output_text.annotation.added", with(&place, added));
            }
            tape.put("response.output_text.done", with(&place, json!({"text": said, "logprobs": logprobs})));
        }
        Some("refusal") => {
            let said = &part["refusal"];
            tape.put("response.refusal.delta", with(&place, json!({"delta": said})));
            tape.put("response.refusal.done", with(&place, json!({"refusal": said})));
        }
        _ => {}
    }
    tape.put("response.content_part.done", with(&place, json!({"part": part})));
}

/// One part of a summary of reasoning.
fn play_summary(part: &Value, place: Value, tape: &mut Tape) {
    let opened = with(part, json!({"text": ""}));
    let said = &part["text"];
    tape.put("response.reasoning_summary_part.added", with(&place, json!({"part": opened})));
    tape.put("response.reasoning_summary_text.delta", with(&place, json!({"delta": said})));
    tape.put("response.reasoning_summary_text.done", with(&place, json!({"text": said})));
    tape.put("response.reasoning_summary_part.done", with(&place, json!({"part": part})));
}

/// An item before anything of it had come.
fn opened(item: &Value) -> Value {
    let mut opened = item.clone();
    let Some(members) = opened.as_object_mut() else { return opened };
    members.shift_remove("encrypted_content");
    for (name, empty) in [
        ("status", json!("in_progress")),
        ("content", json!([])),
        ("summary", json!([])),
        ("arguments", json!("")),
        ("input", json!("")),
    ] {
        if let Some(value) = members.get_mut(name) {
            *value = empty;
        }
    }
    opened
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// The members of both, the second's where both have one.
fn with(first: &Value, second: Value) -> Value {
    let mut all = first.as_object().cloned().unwrap_or_default();
    if let Value::Object(second) = second {
        all.extend(second);
    }
    Value::Object(all)
}
