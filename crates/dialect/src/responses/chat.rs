//! A conversation as a responses body: the inverse of decoding one.
//!
//! What it promises: schemas and arguments keep their text; what the dialect has no member for is named, and content that
//! it cannot carry is refused, never left out; a vendor is asked to keep nothing. What it refuses to know: what a certain
//! model can do.

use bytes::Bytes;
use penstock_domain::{
    Code, Conversation, Error, Logprobs, ResponseFormat, Sampling, Thinking, Tier, Tool, ToolChoice,
    Verbosity,
};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::input;
use crate::Encoded;
use crate::openai::effort;
use crate::request::Lost;

#[derive(Serialize)]
struct Wire<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    store: bool,
    input: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Function<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_identifier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: &'a RawValue,
    strict: bool,
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Format<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// Writes the body of `POST /v1/responses`.
///
/// # Errors
/// `unsupported` for several answers and for sound.
pub fn encode_body(conversation: &Conversation, model: &str, stream: bool) -> Result<Encoded, Error> {
    let sampling = &conversation.sampling;
    if sampling.choices.is_some_and(|choices| choices > 1) {
        let say = "`n` must be 1 for this provider, which gives one answer; ask several times";
        return Err(Error::new(Code::Unsupported, say).with_param("n"));
    }
    let mut lost = lost(conversation);
    let input = input::write(&conversation.messages, &mut lost)?;
    let wanted = sampling.logprobs != Logprobs::Off;
    let wire = Wire {
        model,
        stream,
        store: false,
        input,
        tools: conversation.tools.iter().map(function).collect::<Result<_, _>>()?,
        tool_choice: conversation.tool_choice.as_ref().map(choice),
        parallel_tool_calls: conversation.parallel_tool_calls,
        text: text(conversation)?,
        reasoning: reasoning(conversation.thinking, model, &mut lost),
        max_output_tokens: sampling.max_output_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        include: wanted.then_some(["message.output_text.logprobs"]),
        top_logprobs: match sampling.logprobs {
            Logprobs::Top(top) if top > 0 => Some(top),
            _ => None,
        },
        safety_identifier: conversation.user.as_deref(),
        prompt_cache_key: conversation.cache_key.as_deref(),
        service_tier: conversation.tier.map(Tier::name),
    };
    written(&wire, lost)
}

/// Writes the body of `POST /v1/responses/input_tokens`: the part of a request that has tokens.
///
/// # Errors
/// As [`encode_body`].
pub fn count_body(conversation: &Conversation, model: &str) -> Result<Encoded, Error> {
    #[derive(Serialize)]
    struct Count<'a> {
        model: &'a str,
        input: Vec<Value>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tools: Vec<Function<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tool_choice: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<Text<'a>>,
    }
    let mut lost = Lost::default();
    let input = input::write(&conversation.messages, &mut lost)?;
    let wire = Count {
        model,
        input,
        tools: conversation.tools.iter().map(function).collect::<Result<_, _>>()?,
        tool_choice: conversation.tool_choice.as_ref().map(choice),
        text: text(conversation)?,
    };
    written(&wire, lost)
}

fn written<T: Serialize>(wire: &T, lost: Lost) -> Result<Encoded, Error> {
    let body = serde_json::to_vec(wire).map_err(|e| {
        Error::new(Code::InternalError, "the request could not be written for this provider").with_source(e)
    })?;
    Ok(Encoded { body: Bytes::from(body), dropped: lost.names() })
}

/// What of the settings this dialect has no member for. A penalty of zero is none.
fn lost(conversation: &Conversation) -> Lost {
    let mut lost = Lost::default();
    lost.extend(&conversation.unsaid);
    let Sampling { top_k, min_p, seed, presence_penalty, frequency_penalty, .. } = conversation.sampling;
    lost.note(top_k.is_some(), "top_k");
    lost.note(min_p.is_some_and(|share| share > 0.0), "min_p");
    lost.note(seed.is_some(), "seed");
    lost.note(presence_penalty.is_some_and(|penalty| penalty != 0.0), "presence_penalty");
    lost.note(frequency_penalty.is_some_and(|penalty| penalty != 0.0), "frequency_penalty");
    lost.note(!conversation.sampling.logit_bias.is_empty(), "logit_bias");
    lost.note(!conversation.sampling.stop.is_empty(), "stop");
    lost.note(conversation.tools.iter().any(|tool| tool.cache_mark.is_some()), "tools.cache_control");
    lost
}

fn raw(text: &str) -> Result<&RawValue, Error> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(Code::InternalError, "a schema is no JSON any more").with_source(e))
}

fn function(tool: &Tool) -> Result<Function<'_>, Error> {
    // A function without parameters takes none.
    let parameters =
        tool.parameters.as_ref().map_or(r#"{"type":"object","properties":{}}"#, |json| json.as_str());
    Ok(Function {
        kind: "function",
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters: raw(parameters)?,
        // Here alone silence means strict.
        strict: tool.strict.unwrap_or(false),
    })
}

fn choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "name": name}),
    }
}

fn text(conversation: &Conversation) -> Result<Option<Text<'_>>, Error> {
    let format = match &conversation.response_format {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => Some(Format { kind: "json_object", ..Format::default() }),
        ResponseFormat::JsonSchema { name, schema, strict } => Some(Format {
            kind: "json_schema",
            name: Some(name),
            schema: Some(raw(schema.as_str())?),
            strict: *strict,
        }),
    };
    let verbosity = conversation.verbosity.map(Verbosity::name);
    Ok((format.is_some() || verbosity.is_some()).then_some(Text { format, verbosity }))
}

/// How much to think, and whether to show it: those who speak of thinking in tokens see it where they come from.
fn reasoning(thinking: Option<Thinking>, model: &str, lost: &mut Lost) -> Option<Value> {
    let shown = matches!(thinking, Some(Thinking::Adaptive | Thinking::Budget(_)));
    lost.note(matches!(thinking, Some(Thinking::Budget(_))), "thinking.budget_tokens");
    let word = effort::word(thinking, model);
    lost.note(word.lost, "reasoning_effort");
    let effort = word.effort?;
    Some(if shown { json!({"effort": effort, "summary": "auto"}) } else { json!({"effort": effort}) })
}
