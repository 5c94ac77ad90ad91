//! Turns as input items.
//!
//! What it promises: order is kept; what only another vendor could read is named and left out, what a model must not
//! miss is refused.

use penstock_domain::{Code, Error, Media, MediaSource, Message, Part, Role};
use serde_json::{Map, Value, json};

use super::sealed;
use crate::request::Lost;

/// How a PDF begins, in base64.
const PDF: &str = "JVBERi";

/// Writes the items of a conversation.
pub(super) fn write(messages: &[Message], lost: &mut Lost) -> Result<Vec<Value>, Error> {
    let mut out = Vec::with_capacity(messages.len());
    for message in messages {
        lost.note(message.name.is_some(), "messages.name");
        match message.role {
            Role::Assistant => assistant(&message.parts, &mut out, lost),
            Role::System => others("system", &message.parts, &mut out, lost)?,
            Role::Developer => others("developer", &message.parts, &mut out, lost)?,
            Role::User | Role::Tool => others("user", &message.parts, &mut out, lost)?,
        }
    }
    Ok(out)
}

/// What the model said: its text in a row is one message, calls and reasoning are items of their own.
fn assistant(parts: &[Part], out: &mut Vec<Value>, lost: &mut Lost) {
    let mut said = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        match part {
            Part::Text(text) if text.is_empty() => {}
            Part::Text(text) => said.push(json!({
                "type": "output_text", "text": text, "annotations": [], "logprobs": [],
            })),
            Part::Refusal(text) => said.push(json!({"type": "refusal", "refusal": text})),
            Part::ToolCall(call) => {
                speak(&mut said, out);
                out.push(json!({
                    "type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments,
                }));
            }
            Part::Reasoning(_) => {
                let sealed =
                    matches!(parts.get(i + 1), Some(Part::Sealed(text)) if sealed::own(text).is_some());
                // Reasoning that this vendor did not seal is another's, and refused.
                lost.note(!sealed, "messages.reasoning_content");
            }
            Part::Sealed(text) => match sealed::own(text) {
                Some((id, text)) => {
                    speak(&mut said, out);
                    let summary: Vec<Value> = match i.checked_sub(1).and_then(|before| parts.get(before)) {
                        Some(Part::Reasoning(text)) => vec![json!({"type": "summary_text", "text": text})],
                        _ => Vec::new(),
                    };
                    out.push(json!({
                        "type": "reasoning", "id": id, "summary": summary, "encrypted_content": text,
                    }));
                }
                None => lost.note(true, "messages.redacted_thinking"),
            },
            Part::Signature(_) => lost.note(true, "messages.thinking.signature"),
            Part::CacheMark(_) => lost.note(true, "messages.cache_control"),
            // A model has said neither.
            Part::Image(_) | Part::Audio(_) | Part::File(_) | Part::ToolResult { .. } => {
                lost.note(true, "messages.content");
            }
        }
    }
    speak(&mut said, out);
}

/// Ends a message of the model. Text alone is sent as text; anything else is a whole output item, which has an id.
fn speak(said: &mut Vec<Value>, out: &mut Vec<Value>) {
    if said.is_empty() {
        return;
    }
    let parts = std::mem::take(said);
    let item = match parts.as_slice() {
        [one] if one["type"] == "output_text" => {
            json!({"type": "message", "role": "assistant", "content": one["text"]})
        }
        _ => json!({
            "type": "message", "id": format!("msg_{}", out.len()), "status": "completed", "role": "assistant",
            "content": parts,
        }),
    };
    out.push(item);
}

fn others(role: &str, parts: &[Part], out: &mut Vec<Value>, lost: &mut Lost) -> Result<(), Error> {
    let mut said = Vec::new();
    for part in parts {
        match part {
            Part::ToolResult { call_id, parts, failed } => {
                lost.note(*failed, "messages.is_error");
                let parts = content(parts, lost)?;
                out.push(json!({
                    "type": "function_call_output", "call_id": call_id, "output": simple(parts),
                }));
            }
            part => said.extend(input(part, lost)?),
        }
    }
    if !said.is_empty() {
        out.push(json!({"type": "message", "role": role, "content": simple(said)}));
    }
    Ok(())
}

fn content(parts: &[Part], lost: &mut Lost) -> Result<Vec<Value>, Error> {
    parts.iter().filter_map(|part| input(part, lost).transpose()).collect()
}

/// One text as itself, anything else as a list of parts.
fn simple(parts: Vec<Value>) -> Value {
    match parts.as_slice() {
        [] => json!(""),
        [one] if one["type"] == "input_text" => one["text"].clone(),
        _ => Value::Array(parts),
    }
}

/// A part of what the model is given; `None` for one that is left out.
fn input(part: &Part, lost: &mut Lost) -> Result<Option<Value>, Error> {
    Ok(Some(match part {
        Part::Text(text) | Part::Refusal(text) => json!({"type": "input_text", "text": text}),
        Part::Image(media) => image(media)?,
        Part::File(media) => {
            lost.note(media.context.is_some(), "messages.document.context");
            lost.note(media.cited, "messages.document.citations");
            file(media)?
        }
        Part::Audio(_) => {
            let say = "the provider of this model takes no sound from this API; leave it out or choose another model";
            return Err(Error::new(Code::Unsupported, say).with_param("messages"));
        }
        Part::CacheMark(_) => {
            lost.note(true, "messages.cache_control");
            return Ok(None);
        }
        Part::Reasoning(_)
        | Part::Signature(_)
        | Part::Sealed(_)
        | Part::ToolCall(_)
        | Part::ToolResult { .. } => {
            lost.note(true, "messages.content");
            return Ok(None);
        }
    }))
}

fn image(media: &Media) -> Result<Value, Error> {
    let mut image = Map::new();
    image.insert("type".into(), json!("input_image"));
    image.insert("detail".into(), json!(media.note.as_deref().unwrap_or("auto")));
    match &media.source {
        MediaSource::FileId(id) => image.insert("file_id".into(), json!(id)),
        MediaSource::Url(url) => image.insert("image_url".into(), json!(url)),
        MediaSource::Base64(data) => image.insert("image_url".into(), json!(data_url(media, data)?)),
    };
    Ok(Value::Object(image))
}

fn file(media: &Media) -> Result<Value, Error> {
    let mut file = Map::new();
    file.insert("type".into(), json!("input_file"));
    match &media.source {
        MediaSource::FileId(id) => {
            file.insert("file_id".into(), json!(id));
        }
        MediaSource::Url(url) => {
            file.insert("file_url".into(), json!(url));
        }
        MediaSource::Base64(data) => {
            // Bytes without a name are refused.
            file.insert("filename".into(), json!(media.note.as_deref().unwrap_or("document")));
            file.insert("file_data".into(), json!(data_url(media, data)?));
        }
    }
    Ok(Value::Object(file))
}

fn data_url(media: &Media, data: &str) -> Result<String, Error> {
    let mime = match &media.mime {
        Some(mime) => mime.as_str(),
        None if data.starts_with(PDF) => "application/pdf",
        None => {
            let say =
                "a picture or document must tell its media type for this provider; send it as a data URL";
            return Err(Error::new(Code::Unsupported, say).with_param("messages"));
        }
    };
    Ok(format!("data:{mime};base64,{data}"))
}
