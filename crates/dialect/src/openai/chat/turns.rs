//! The turns of a conversation as messages.
//!
//! What it promises: what a tool gave beside text reaches the model, although this dialect's tool messages hold text
//! alone: it follows in a message of the user, and the result says so. Documents of plain text become text.

use penstock_domain::{Media, MediaSource, Message, Part, Role};
use serde_json::{Map, Value, json};

use crate::openai::base64;

/// Every turn in order. After the results of parallel calls, which belong together, comes what they showed: at the head of
/// the user's next words, for many models want the roles to alternate.
pub(super) fn messages(turns: &[Message]) -> Vec<Value> {
    let mut all = Vec::with_capacity(turns.len());
    let mut shown = Vec::new();
    for turn in turns {
        if turn.role == Role::User && !shown.is_empty() {
            shown.extend(turn.parts.iter().filter_map(part));
            continue;
        }
        if turn.role != Role::Tool {
            show(&mut shown, &mut all);
        }
        all.extend(message(turn, &mut shown));
    }
    show(&mut shown, &mut all);
    all
}

/// Sends what tool results showed as a message of the user.
fn show(shown: &mut Vec<Value>, all: &mut Vec<Value>) {
    if !shown.is_empty() {
        all.push(json!({"role": "user", "content": std::mem::take(shown)}));
    }
}

/// One turn as one message, or as several where it holds several tool results.
fn message(message: &Message, shown: &mut Vec<Value>) -> Vec<Value> {
    let mut head = Map::new();
    head.insert("role".into(), json!(role(message.role)));
    if let Some(name) = &message.name {
        head.insert("name".into(), json!(name));
    }
    let results: Vec<_> = message.parts.iter().filter_map(|part| tool_result(part, shown)).collect();
    if !results.is_empty() {
        return results
            .into_iter()
            .map(|(id, content)| {
                let mut head = head.clone();
                head.insert("role".into(), json!("tool"));
                head.insert("tool_call_id".into(), json!(id));
                head.insert("content".into(), content);
                Value::Object(head)
            })
            .collect();
    }
    let calls: Vec<Value> = message.parts.iter().filter_map(tool_call).collect();
    let joined = |pick: fn(&Part) -> Option<&str>| {
        let found: Vec<&str> = message.parts.iter().filter_map(pick).collect();
        (!found.is_empty()).then(|| Value::String(found.concat()))
    };
    let assistant = message.role == Role::Assistant;
    let spoken: Vec<&Part> = message.parts.iter().filter(|p| is_spoken(p, assistant)).collect();
    if !spoken.is_empty() || !assistant {
        head.insert("content".into(), content(&spoken));
    }
    if assistant {
        let reasoning = joined(|p| if let Part::Reasoning(text) = p { Some(text) } else { None });
        let refusal = joined(|p| if let Part::Refusal(text) = p { Some(text) } else { None });
        head.extend(reasoning.map(|text| ("reasoning_content".into(), text)));
        head.extend(refusal.map(|text| ("refusal".into(), text)));
        if !calls.is_empty() {
            head.insert("tool_calls".into(), Value::Array(calls));
        }
    }
    vec![Value::Object(head)]
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// Whether a part belongs into `content`; an assistant's refusal, reasoning and calls have members of their own.
fn is_spoken(part: &Part, assistant: bool) -> bool {
    match part {
        Part::Text(_) | Part::Image(_) | Part::Audio(_) | Part::File(_) => true,
        Part::Refusal(_) => !assistant,
        Part::Reasoning(_)
        | Part::Signature(_)
        | Part::Sealed(_)
        | Part::CacheMark(_)
        | Part::ToolCall(_)
        | Part::ToolResult { .. } => false,
    }
}

/// The result of a call as text; what is no text goes to `shown`.
fn tool_result<'p>(part: &'p Part, shown: &mut Vec<Value>) -> Option<(&'p str, Value)> {
    let Part::ToolResult { call_id, parts, .. } = part else { return None };
    let (texts, rest): (Vec<&Part>, Vec<&Part>) = parts
        .iter()
        .filter(|part| is_spoken(part, false))
        .partition(|part| matches!(part, Part::Text(_) | Part::Refusal(_)));
    let rest: Vec<Value> = rest.into_iter().filter_map(self::part).collect();
    if rest.is_empty() {
        return Some((call_id, content(&texts)));
    }
    let mut text: Vec<Value> = texts.into_iter().filter_map(self::part).collect();
    text.push(json!({"type": "text", "text": "[what the tool returned besides text follows in the next user message]"}));
    shown.push(json!({"type": "text", "text": format!("[returned by the tool call {call_id}]")}));
    shown.extend(rest);
    Some((call_id, Value::Array(text)))
}

fn tool_call(part: &Part) -> Option<Value> {
    let Part::ToolCall(call) = part else { return None };
    let function = json!({"name": call.name, "arguments": call.arguments});
    Some(json!({"id": call.id, "type": "function", "function": function}))
}

fn content(parts: &[&Part]) -> Value {
    match parts {
        // A tool that said nothing: an empty array is no content to most vendors.
        [] => return json!(""),
        [Part::Text(text)] => return json!(text),
        _ => {}
    }
    let said: Vec<Value> = parts.iter().filter_map(|part| self::part(part)).collect();
    if said.is_empty() { json!("") } else { Value::Array(said) }
}

fn part(part: &Part) -> Option<Value> {
    match part {
        Part::Text(text) => Some(json!({"type": "text", "text": text})),
        Part::Refusal(text) => Some(json!({"type": "refusal", "refusal": text})),
        Part::Image(media) => {
            let mut image = json!({"url": address(media)?});
            if let (Some(note), Some(image)) = (&media.note, image.as_object_mut()) {
                image.insert("detail".into(), json!(note));
            }
            Some(json!({"type": "image_url", "image_url": image}))
        }
        Part::Audio(media) => {
            let format = match media.mime.as_deref() {
                Some("audio/mpeg") | None => "mp3",
                Some(mime) => mime.strip_prefix("audio/").unwrap_or(mime),
            };
            let MediaSource::Base64(data) = &media.source else { return None };
            Some(json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}))
        }
        Part::File(media)
            if is_text(media)
                && let MediaSource::Base64(data) = &media.source
                && let Some(text) = base64::text(data) =>
        {
            Some(json!({"type": "text", "text": document(media, &text)}))
        }
        Part::File(media) => {
            let mut file = Map::new();
            match &media.source {
                MediaSource::FileId(id) => file.insert("file_id".into(), json!(id)),
                MediaSource::Base64(_) => file.insert("file_data".into(), json!(address(media)?)),
                MediaSource::Url(_) => return None,
            };
            file.extend(media.note.as_ref().map(|note| ("filename".into(), json!(note))));
            Some(json!({"type": "file", "file": file}))
        }
        Part::Reasoning(_)
        | Part::Signature(_)
        | Part::Sealed(_)
        | Part::CacheMark(_)
        | Part::ToolCall(_)
        | Part::ToolResult { .. } => None,
    }
}

/// Where this dialect finds media: an address or a data URL. `None` for an uploaded file, whose id is no address.
pub(super) fn address(media: &Media) -> Option<String> {
    match (&media.source, &media.mime) {
        (MediaSource::FileId(_), _) => None,
        (MediaSource::Base64(data), Some(mime)) => Some(format!("data:{mime};base64,{data}")),
        (MediaSource::Base64(text) | MediaSource::Url(text), _) => Some(text.clone()),
    }
}

/// A document by address, which this dialect cannot say.
pub(super) fn by_url(media: &Media) -> bool {
    matches!(media.source, MediaSource::Url(_))
}

/// Whether a document is plain text in the request.
pub(super) fn is_text(media: &Media) -> bool {
    media.mime.as_deref() == Some("text/plain") && matches!(media.source, MediaSource::Base64(_))
}

/// A document of plain text, which this dialect knows as text alone.
fn document(media: &Media, text: &str) -> String {
    let mut whole = "<document".to_owned();
    for (name, value) in [("title", &media.note), ("context", &media.context)] {
        if let Some(value) = value {
            whole.push_str(&format!(" {name}={}", json!(value)));
        }
    }
    format!("{whole}>\n{text}\n</document>")
}
