//! A conversation as an OpenAI chat body: the inverse of decoding one.
//!
//! What it promises: what was absent stays absent; schemas and arguments keep their text; what cannot be said, in this
//! dialect or to this vendor, is named. What it refuses to know: which vendor it is; what that one understands is told.

mod turns;

use bytes::Bytes;
use penstock_domain::{Conversation, Logprobs, Part, ResponseFormat, Sampling, Tool, ToolChoice};
use serde_json::{Value, json};

use super::effort;
use crate::Encoded;
use crate::request::Lost;
use crate::vendor::{Ask, Chats};

/// The longest name of a person that OpenAI takes, in characters.
const MAX_USER: usize = 64;

/// Writes the body of `POST /v1/chat/completions`.
pub fn encode_body(conversation: &Conversation, ask: &Ask<'_>) -> Encoded {
    let mut out = Vec::with_capacity(1024);
    let mut writer = Writer { out: &mut out, first: true };
    writer.value("model", &json!(ask.model));
    if ask.stream {
        writer.value("stream", &json!(true));
    }
    if ask.stream && ask.ask_usage {
        writer.value("stream_options", &json!({"include_usage": true}));
    }
    let messages = turns::messages(&conversation.messages);
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
    let mut lost = lost(conversation);
    sampling(&mut writer, &conversation.sampling, ask.chats);
    own_members(&mut writer, conversation, ask.chats, &mut lost);
    let word = effort::word(conversation.thinking, ask.model);
    if let Some(effort) = word.effort {
        writer.value("reasoning_effort", &json!(effort));
    }
    lost.note(word.lost, "thinking");
    out.push(b'}');
    Encoded { body: Bytes::from(out), dropped: lost.names() }
}

/// What OpenAI itself knows and its imitators ignore, or refuse together with the request; and the other way round.
fn own_members(writer: &mut Writer<'_>, conversation: &Conversation, chats: Chats, lost: &mut Lost) {
    let Sampling { top_k, min_p, ref logit_bias, logprobs, .. } = conversation.sampling;
    lost.note(!chats.open_members && top_k.is_some(), "top_k");
    lost.note(!chats.open_members && min_p.is_some_and(|share| share > 0.0), "min_p");
    lost.note(!chats.token_members && !logit_bias.is_empty(), "logit_bias");
    lost.note(!chats.token_members && logprobs != Logprobs::Off, "logprobs");
    let person = if chats.own_members { "safety_identifier" } else { "user" };
    match &conversation.user {
        Some(user) if chats.user && user.chars().count() <= MAX_USER => writer.value(person, &json!(user)),
        user => lost.note(user.is_some(), "user"),
    }
    if !chats.own_members {
        return lost.own_members(conversation);
    }
    if let Some(verbosity) = conversation.verbosity {
        writer.value("verbosity", &json!(verbosity.name()));
    }
    if let Some(key) = &conversation.cache_key {
        writer.value("prompt_cache_key", &json!(key));
    }
    if let Some(tier) = conversation.tier {
        writer.value("service_tier", &json!(tier.name()));
    }
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
            lost.note(matches!(part, Part::ToolResult { failed: true, .. }), "messages.is_error");
            if let Part::File(media) = part {
                lost.note(media.context.is_some() && !turns::is_text(media), "messages.document.context");
                lost.note(media.cited, "messages.document.citations");
            }
            lost.note(matches!(part, Part::Signature(_)), "messages.thinking.signature");
            lost.note(matches!(part, Part::Sealed(_)), "messages.redacted_thinking");
            lost.note(
                matches!(part, Part::Image(media) if turns::address(media).is_none()),
                "messages.image.file_id",
            );
            lost.note(matches!(part, Part::File(media) if turns::by_url(media)), "messages.document.url");
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

fn sampling(writer: &mut Writer<'_>, sampling: &Sampling, chats: Chats) {
    let mut number = |name, value: Option<f32>| {
        if let Some(value) = value {
            // Through text: f32 to f64 would turn 0.7 into 0.699999988.
            writer.text(name, &value.to_string());
        }
    };
    number("temperature", sampling.temperature);
    number("top_p", sampling.top_p);
    number("min_p", sampling.min_p.filter(|_| chats.open_members));
    number("presence_penalty", sampling.presence_penalty);
    number("frequency_penalty", sampling.frequency_penalty);
    let mut count = |name, value: Option<i64>| {
        if let Some(value) = value {
            writer.text(name, &value.to_string());
        }
    };
    let bound = if chats.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
    count(bound, sampling.max_output_tokens.map(i64::from));
    count("n", sampling.choices.map(i64::from));
    count("top_k", sampling.top_k.filter(|_| chats.open_members).map(i64::from));
    count(chats.seed, sampling.seed);
    if !sampling.stop.is_empty() {
        writer.value("stop", &json!(sampling.stop));
    }
    if !chats.token_members {
        return;
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
