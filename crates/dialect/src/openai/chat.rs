//! A conversation as an OpenAI chat body: the inverse of decoding one.
//!
//! What it promises: what was absent stays absent; schemas and arguments keep their text. What it refuses to know:
//! which members a certain vendor lacks. What the dialect itself cannot say is named.

use bytes::Bytes;
use penstock_domain::{
    Conversation, Logprobs, Media, MediaSource, Message, Part, ResponseFormat, Role, Sampling, Tool,
    ToolChoice,
};
use serde_json::{Map, Value, json};

use crate::Encoded;
use crate::request::Lost;

/// Writes the body of `POST /v1/chat/completions`. `stream`: ask for events; `ask_usage`: with usage at their end.
pub fn encode_body(conversation: &Conversation, model: &str, stream: bool, ask_usage: bool) -> Encoded {
    let mut out = Vec::with_capacity(1024);
    let mut writer = Writer { out: &mut out, first: true };
    writer.value("model", &json!(model));
    if stream {
        writer.value("stream", &json!(true));
    }
    if stream && ask_usage {
        writer.value("stream_options", &json!({"include_usage": true}));
    }
    let messages: Vec<Value> = conversation.messages.iter().flat_map(message).collect();
    writer.value("messages", &Value::Array(messages));
    if !conversation.tools.is_empty() {
        writer.text("tools", &list(conversation.tools.iter().map(tool)));
    }
    match &conversation.tool_choice {
        None => {}
        Some(ToolChoice::Auto) => writer.value("tool_choice", &json!("auto")),
        Some(ToolChoice::None) => writer.value("tool_choice", &json!("none")),
        Some(ToolChoice::Required) => writer.value("tool_choice", &json!("required")),
        Some(ToolChoice::Named(name)) => {
            writer.value("tool_choice", &json!({"type": "function", "function": {"name": name}}));
        }
    }
    if let Some(parallel) = conversation.parallel_tool_calls {
        writer.value("parallel_tool_calls", &json!(parallel));
    }
    match &conversation.response_format {
        ResponseFormat::Text => {}
        ResponseFormat::JsonObject => writer.value("response_format", &json!({"type": "json_object"})),
        ResponseFormat::JsonSchema { name, schema, strict } => {
            let mut text =
                format!(r#"{{"type":"json_schema","json_schema":{{"name":{},"schema":"#, json!(name));
            text.push_str(schema.as_str());
            if let Some(strict) = strict {
                text.push_str(&format!(r#","strict":{strict}"#));
            }
            text.push_str("}}");
            writer.text("response_format", &text);
        }
    }
    sampling(&mut writer, &conversation.sampling);
    if let Some(user) = &conversation.user {
        writer.value("user", &json!(user));
    }
    out.push(b'}');
    Encoded { body: Bytes::from(out), dropped: lost(conversation).names() }
}

/// What of a conversation this dialect has no member for.
fn lost(conversation: &Conversation) -> Lost {
    let mut lost = Lost::default();
    lost.extend(&conversation.unsaid);
    lost.note(conversation.tools.iter().any(|tool| tool.cache_mark.is_some()), "tools.cache_control");
    for part in conversation.messages.iter().flat_map(|message| &message.parts) {
        let inner = if let Part::ToolResult { parts, .. } = part { &parts[..] } else { &[] };
        for part in std::iter::once(part).chain(inner) {
            lost.note(matches!(part, Part::CacheMark(_)), "messages.cache_control");
            lost.note(matches!(part, Part::Signature(_)), "messages.thinking.signature");
            lost.note(matches!(part, Part::Sealed(_)), "messages.redacted_thinking");
            lost.note(
                matches!(part, Part::Image(media) if address(media).is_none()),
                "messages.image.file_id",
            );
            lost.note(matches!(part, Part::File(media) if by_url(media)), "messages.document.url");
        }
    }
    lost
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl Writer<'_> {
    fn value(&mut self, name: &str, value: &Value) {
        self.text(name, &value.to_string());
    }

    /// `text` must be JSON; `name` must need no escapes.
    fn text(&mut self, name: &str, text: &str) {
        let open = if std::mem::take(&mut self.first) { b'{' } else { b',' };
        self.out.push(open);
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out.extend_from_slice(text.as_bytes());
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn tool(tool: &Tool) -> String {
    let mut text = format!(r#"{{"type":"function","function":{{"name":{}"#, json!(tool.name));
    if let Some(description) = &tool.description {
        text.push_str(&format!(r#","description":{}"#, json!(description)));
    }
    if let Some(parameters) = &tool.parameters {
        text.push_str(r#","parameters":"#);
        text.push_str(parameters.as_str());
    }
    if let Some(strict) = tool.strict {
        text.push_str(&format!(r#","strict":{strict}"#));
    }
    text.push_str("}}");
    text
}

fn sampling(writer: &mut Writer<'_>, sampling: &Sampling) {
    let mut number = |name, value: Option<f32>| {
        if let Some(value) = value {
            // Through text: f32 to f64 would turn 0.7 into 0.699999988.
            writer.text(name, &value.to_string());
        }
    };
    number("temperature", sampling.temperature);
    number("top_p", sampling.top_p);
    number("min_p", sampling.min_p);
    number("presence_penalty", sampling.presence_penalty);
    number("frequency_penalty", sampling.frequency_penalty);
    let mut count = |name, value: Option<i64>| {
        if let Some(value) = value {
            writer.text(name, &value.to_string());
        }
    };
    count("max_completion_tokens", sampling.max_output_tokens.map(i64::from));
    count("n", sampling.choices.map(i64::from));
    count("top_k", sampling.top_k.map(i64::from));
    count("seed", sampling.seed);
    if !sampling.stop.is_empty() {
        writer.value("stop", &json!(sampling.stop));
    }
    if !sampling.logit_bias.is_empty() {
        let pairs = sampling.logit_bias.iter().map(|(id, bias)| format!("\"{id}\":{bias}"));
        writer.text("logit_bias", &format!("{{{}}}", pairs.collect::<Vec<_>>().join(",")));
    }
    if let Logprobs::Top(top) = sampling.logprobs {
        writer.value("logprobs", &json!(true));
        if top > 0 {
            writer.value("top_logprobs", &json!(top));
        }
    }
}

/// One turn as one message, or as several where it holds several tool results.
fn message(message: &Message) -> Vec<Value> {
    let mut head = Map::new();
    head.insert("role".into(), json!(role(message.role)));
    if let Some(name) = &message.name {
        head.insert("name".into(), json!(name));
    }
    let results: Vec<_> = message.parts.iter().filter_map(tool_result).collect();
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

fn tool_result(part: &Part) -> Option<(&str, Value)> {
    let Part::ToolResult { call_id, parts } = part else { return None };
    let parts: Vec<&Part> = parts.iter().filter(|part| is_spoken(part, false)).collect();
    Some((call_id, content(&parts)))
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
fn address(media: &Media) -> Option<String> {
    match (&media.source, &media.mime) {
        (MediaSource::FileId(_), _) => None,
        (MediaSource::Base64(data), Some(mime)) => Some(format!("data:{mime};base64,{data}")),
        (MediaSource::Base64(text) | MediaSource::Url(text), _) => Some(text.clone()),
    }
}

/// A document by address, which this dialect cannot say.
fn by_url(media: &Media) -> bool {
    matches!(media.source, MediaSource::Url(_))
}
