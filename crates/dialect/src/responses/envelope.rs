//! What surrounds the output: the response object, which repeats the request's settings.
//!
//! What it promises: every member that OpenAI's description requires; what the asker did not say is null or OpenAI's
//! default, and their schemas and texts keep their spelling, line ends between tokens excepted.

use penstock_domain::{Error, FinishReason, Request, Usage};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::draft::Draft;
use super::item::object_text;
use super::request::custom_names;
use crate::json::{self, Object, Path};
use crate::openai::request::top_level;

/// Most tools that are repeated.
const MAX_TOOLS: usize = 4096;

/// Members that are repeated, and what stands for them when the asker left them out.
const ECHOED: &[(&str, &str)] = &[
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("store", "true"),
    ("temperature", "null"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", "\"auto\""),
    ("top_logprobs", "0"),
    ("top_p", "null"),
    ("truncation", "\"disabled\""),
];

/// Members that are repeated only when the asker sent them.
const ECHOED_IF_SENT: &[&str] = &["prompt_cache_key", "safety_identifier", "user"];

/// A response but for what becomes of it.
#[derive(Debug)]
pub(super) struct Envelope {
    id: String,
    created: u64,
    model: String,
    /// The repeated members, as the rest of an object: `"name":value,…`.
    echo: String,
}

/// How a response ended, or that it has not.
pub(super) enum End<'a> {
    Open,
    Whole(Option<FinishReason>),
    Failed(&'a Error),
}

impl End<'_> {
    /// The event that tells of it.
    pub(super) fn event(&self) -> &'static str {
        match self {
            Self::Open => "response.in_progress",
            Self::Whole(Some(FinishReason::Length | FinishReason::ContentFilter)) => "response.incomplete",
            Self::Whole(_) => "response.completed",
            Self::Failed(_) => "response.failed",
        }
    }
}

impl Envelope {
    /// The envelope of the answer to this request, and its output, of which nothing has come yet.
    pub(super) fn begin(request: &Request, created: u64, model: &str) -> (Self, Draft) {
        let text = std::str::from_utf8(request.body.bytes()).unwrap_or_default();
        // It was read before; should it be unreadable now, nothing of it is repeated.
        let object = top_level(text).unwrap_or_default();
        let reasoning = object.get("reasoning").and_then(|raw| json::object(raw, &Path::ROOT).ok());
        let wished = |name: &str| reasoning.as_ref().is_some_and(|reasoning| reasoning.get(name).is_some());
        let summary = wished("summary") || wished("generate_summary");
        // Ids are the request's own, without its prefix.
        let tail = request.id.as_str().trim_start_matches("req_");
        let draft = Draft::new(tail, summary, custom_names(&object));
        let model = if model.is_empty() { &request.model } else { model };
        let (id, model) = (format!("resp_{tail}"), model.to_owned());
        (Self { id, created, model, echo: echo(&object) }, draft)
    }

    /// The envelope of a response of which only the vendor's id is known.
    pub(super) fn bare(id: String, created: u64, model: &str) -> Self {
        Self { id, created, model: model.to_owned(), echo: echo(&Object::default()) }
    }

    /// The whole response as JSON text without line ends.
    pub(super) fn json(&self, end: &End<'_>, output: Vec<Value>, used: Option<&Usage>) -> String {
        let (status, details, error) = match end {
            End::Open => ("in_progress", Value::Null, Value::Null),
            End::Whole(Some(FinishReason::Length)) => {
                ("incomplete", json!({"reason": "max_output_tokens"}), Value::Null)
            }
            End::Whole(Some(FinishReason::ContentFilter)) => {
                ("incomplete", json!({"reason": "content_filter"}), Value::Null)
            }
            End::Whole(_) => ("completed", Value::Null, Value::Null),
            End::Failed(error) => {
                ("failed", Value::Null, json!({"code": error.code().name(), "message": error.say()}))
            }
        };
        let mut head = json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status, "error": error,
            "incomplete_details": details, "model": self.model, "output": output,
        });
        if let Some(used) = used {
            head["usage"] = usage(used);
        }
        let mut text = head.to_string();
        text.truncate(text.len() - 1);
        text.push(',');
        text.push_str(&self.echo);
        text.push('}');
        text
    }
}

/// Members without the braces around them.
fn echo(object: &Object<'_>) -> String {
    let tools = tools(object);
    let mut members = vec![("tools", tools.as_str())];
    for (name, usual) in ECHOED {
        members.push((name, object.get(name).map_or(*usual, RawValue::get)));
    }
    for name in ECHOED_IF_SENT {
        members.extend(object.get(name).map(|raw| (*name, raw.get())));
    }
    let text = object_text(members);
    // Line ends may stand between tokens, where a blank does as well, and an event cannot hold them.
    text[1..text.len() - 1].replace(['\n', '\r'], " ")
}

/// The tools with the members that functions must have.
fn tools(object: &Object<'_>) -> String {
    let items = object.get("tools").and_then(|raw| json::items(raw, MAX_TOOLS, &Path::ROOT).ok());
    let tool = |raw: &RawValue| {
        let Ok(tool) = json::object(raw, &Path::ROOT) else { return raw.get().to_owned() };
        if tool.get("type").is_none_or(|kind| kind.get() != "\"function\"") {
            return raw.get().to_owned();
        }
        let sent = tool.0.iter().map(|(name, raw)| (name.as_ref(), raw.get()));
        let has = |wanted: &str| tool.0.iter().any(|(name, _)| name == wanted);
        let missing = ["parameters", "strict"].into_iter().filter(|name| !has(name));
        object_text(sent.chain(missing.map(|name| (name, "null"))).collect::<Vec<_>>())
    };
    let tools: Vec<String> = items.unwrap_or_default().into_iter().map(tool).collect();
    format!("[{}]", tools.join(","))
}

/// Usage as this dialect counts it; details that nobody told are zero, because it demands them.
fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input.unwrap_or(0),
            "cache_write_tokens": usage.cache_write.unwrap_or(0),
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning.unwrap_or(0)},
        "total_tokens": usage.total(),
    })
}
