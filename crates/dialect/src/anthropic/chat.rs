//! A conversation as a messages body, or as one to be counted: the inverse of decoding one.
//!
//! What it promises: schemas keep their text; what the dialect has no member for is named, and content that it cannot
//! carry is refused, never left out. What it refuses to know: what a certain model can do.

use bytes::Bytes;
use penstock_domain::{
    Code, Conversation, Error, Logprobs, Media, MediaSource, Message, Part, ResponseFormat, Role, Sampling,
    Tier, Tool, ToolCall, ToolChoice,
};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::block::{self, Block};
use super::thinking;
use crate::Encoded;
use crate::gemini::unsealed;
use crate::openai::base64;
use crate::request::Lost;
use crate::responses;

/// How a PDF begins, in base64.
const PDF: &str = "JVBERi";

#[derive(Serialize)]
struct Wire<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "is_false")]
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolWire<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Output<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
struct ToolWire<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Output<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
}

#[derive(Serialize)]
struct Format<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'a RawValue,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the serializer calls it so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Writes the body of `POST /v1/messages`. The dialect demands a bound of the answer: `max_tokens` is that of an asker
/// who gave none.
///
/// # Errors
/// `unsupported` for several answers and for sound; `invalid_request` for tool arguments that are no JSON object.
pub fn encode_body(
    conversation: &Conversation,
    model: &str,
    stream: bool,
    max_tokens: u32,
) -> Result<Encoded, Error> {
    let sampling = &conversation.sampling;
    if sampling.choices.is_some_and(|choices| choices > 1) {
        let say = "`n` must be 1 for this provider, which gives one answer; ask several times";
        return Err(Error::new(Code::Unsupported, say).with_param("n"));
    }
    let mut lost = lost(conversation);
    let wire = wire(conversation, model, &mut lost)?;
    let plan = thinking::plan(conversation, model, &mut lost);
    let thinks = plan.thinking.as_ref().is_some_and(|thinking| thinking["type"] != "disabled");
    // What the API refuses beside thinking.
    lost.note(thinks && sampling.temperature.is_some_and(|temperature| temperature != 1.0), "temperature");
    lost.note(thinks && sampling.top_k.is_some(), "top_k");
    lost.note(thinks && sampling.top_p.is_some_and(|top_p| top_p < 0.95), "top_p");
    let wire = Wire {
        max_tokens: sampling.max_output_tokens.or(Some(max_tokens.saturating_add(plan.room))),
        stream,
        thinking: plan.thinking,
        output_config: output(conversation, plan.effort)?,
        temperature: sampling.temperature.filter(|_| !thinks).map(|temperature| temperature.min(1.0)),
        top_p: sampling.top_p.filter(|top_p| !thinks || *top_p >= 0.95),
        top_k: sampling.top_k.filter(|_| !thinks),
        stop_sequences: &sampling.stop,
        metadata: conversation.user.as_ref().map(|user| json!({"user_id": user})),
        service_tier: tier(conversation.tier, &mut lost),
        ..wire
    };
    written(&wire, lost)
}

/// Writes the body of `POST /v1/messages/count_tokens`: the part of a request that has tokens.
///
/// # Errors
/// As [`encode_body`].
pub fn count_body(conversation: &Conversation, model: &str) -> Result<Encoded, Error> {
    let mut lost = Lost::default();
    let wire = wire(conversation, model, &mut lost)?;
    written(&wire, lost)
}

fn written(wire: &Wire<'_>, lost: Lost) -> Result<Encoded, Error> {
    let body = serde_json::to_vec(wire).map_err(|e| {
        Error::new(Code::InternalError, "the request could not be written for this provider").with_source(e)
    })?;
    Ok(Encoded { body: Bytes::from(body), dropped: lost.names() })
}

/// What is said and what may be called; nothing of how.
fn wire<'a>(conversation: &'a Conversation, model: &'a str, lost: &mut Lost) -> Result<Wire<'a>, Error> {
    let (system, messages) = turns(&conversation.messages, lost)?;
    Ok(Wire {
        model,
        max_tokens: None,
        stream: false,
        system,
        messages,
        tools: conversation.tools.iter().map(tool).collect::<Result<_, _>>()?,
        tool_choice: choice(conversation),
        thinking: None,
        output_config: None,
        temperature: None,
        top_p: None,
        top_k: None,
        stop_sequences: &[],
        metadata: None,
        service_tier: None,
    })
}

/// Slower and dearer capacities are not sold by the request here.
fn tier(tier: Option<Tier>, lost: &mut Lost) -> Option<&'static str> {
    match tier? {
        Tier::Auto => Some("auto"),
        Tier::Default => Some("standard_only"),
        Tier::Flex | Tier::Priority | Tier::Scale => {
            lost.note(true, "service_tier");
            None
        }
    }
}

fn output<'a>(
    conversation: &'a Conversation,
    effort: Option<&'static str>,
) -> Result<Option<Output<'a>>, Error> {
    let format = match &conversation.response_format {
        ResponseFormat::JsonSchema { schema, .. } => {
            Some(Format { kind: "json_schema", schema: raw(schema.as_str())? })
        }
        ResponseFormat::Text | ResponseFormat::JsonObject => None,
    };
    Ok((effort.is_some() || format.is_some()).then_some(Output { effort, format }))
}

/// What of the settings this dialect has no member for. A penalty of zero is none.
fn lost(conversation: &Conversation) -> Lost {
    let mut lost = Lost::default();
    lost.extend(&conversation.unsaid);
    lost.wordy(conversation);
    let Sampling { temperature, min_p, seed, presence_penalty, frequency_penalty, .. } =
        conversation.sampling;
    // It ends at 1 here; the nearest that can be said is sent.
    lost.note(temperature.is_some_and(|temperature| temperature > 1.0), "temperature");
    lost.note(min_p.is_some_and(|share| share > 0.0), "min_p");
    lost.note(seed.is_some(), "seed");
    lost.note(presence_penalty.is_some_and(|penalty| penalty != 0.0), "presence_penalty");
    lost.note(frequency_penalty.is_some_and(|penalty| penalty != 0.0), "frequency_penalty");
    lost.note(!conversation.sampling.logit_bias.is_empty(), "logit_bias");
    lost.note(conversation.sampling.logprobs != Logprobs::Off, "logprobs");
    lost.note(conversation.response_format == ResponseFormat::JsonObject, "response_format");
    lost.note(conversation.tools.is_empty() && conversation.tool_choice.is_some(), "tool_choice");
    lost
}

fn raw(text: &str) -> Result<&RawValue, Error> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(Code::InternalError, "a schema is no JSON any more").with_source(e))
}

fn tool(tool: &Tool) -> Result<ToolWire<'_>, Error> {
    // A function without parameters takes none.
    let schema =
        tool.parameters.as_ref().map_or(r#"{"type":"object","properties":{}}"#, |json| json.as_str());
    Ok(ToolWire {
        name: &tool.name,
        description: tool.description.as_deref(),
        input_schema: raw(schema)?,
        strict: tool.strict,
        cache_control: tool.cache_mark.as_ref().map(|json| raw(json.as_str())).transpose()?,
    })
}

fn choice(conversation: &Conversation) -> Option<Value> {
    if conversation.tools.is_empty() {
        return None;
    }
    let one = conversation.parallel_tool_calls == Some(false);
    let mut choice = match &conversation.tool_choice {
        None if one => json!({"type": "auto"}),
        None => return None,
        Some(ToolChoice::Auto) => json!({"type": "auto"}),
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
        Some(ToolChoice::Required) => json!({"type": "any"}),
        Some(ToolChoice::Named(name)) => json!({"type": "tool", "name": name}),
    };
    if one {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    Some(choice)
}

/// The instructions, and the turns of user and assistant in turn: neighbours of one role become one, because the
/// results of parallel calls have to stand together.
fn turns<'a>(messages: &'a [Message], lost: &mut Lost) -> Result<(Vec<Block<'a>>, Vec<Turn<'a>>), Error> {
    let (mut system, mut turns) = (Vec::new(), Vec::<Turn<'_>>::new());
    for message in messages {
        lost.note(message.name.is_some(), "messages.name");
        let role = match message.role {
            Role::System | Role::Developer => {
                // Instructions have one place here, before everything else.
                lost.note(!turns.is_empty(), "messages.role.system");
                add(&message.parts, &mut system, lost)?;
                continue;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        match turns.last_mut().filter(|turn| turn.role == role) {
            Some(turn) => add(&message.parts, &mut turn.content, lost)?,
            None => {
                let mut content = Vec::new();
                add(&message.parts, &mut content, lost)?;
                // What says nothing is refused as a turn.
                if !content.is_empty() {
                    turns.push(Turn { role, content });
                }
            }
        }
    }
    Ok((system, turns))
}

/// Appends parts as blocks.
fn add<'a>(parts: &'a [Part], out: &mut Vec<Block<'a>>, lost: &mut Lost) -> Result<(), Error> {
    for (i, part) in parts.iter().enumerate() {
        let block = match part {
            // Empty texts are refused as blocks.
            Part::Text(text) | Part::Refusal(text) if text.is_empty() => continue,
            Part::Text(text) | Part::Refusal(text) => Block::text(text),
            Part::Image(media) => {
                lost.note(media.note.is_some(), "messages.image_url.detail");
                Block::image(source(media, "image")?)
            }
            Part::File(media) => Block::document(source(media, "document")?, media),
            Part::Audio(_) => return Err(unsupported("sound")),
            Part::Reasoning(text) => match parts.get(i + 1) {
                // Google's is no signature here.
                Some(Part::Signature(seal)) if unsealed(seal).is_none() => Block::thinking(text, seal),
                // Reasoning without its signature is another vendor's, and refused.
                _ => {
                    lost.note(true, "messages.reasoning_content");
                    continue;
                }
            },
            Part::Signature(_) => continue,
            // What an OpenAI vendor sealed would be refused.
            Part::Sealed(data) if responses::has_sealed(data) => {
                lost.note(true, "messages.redacted_thinking");
                continue;
            }
            Part::Sealed(data) => Block::sealed(data),
            Part::CacheMark(mark) => {
                // Thinking cannot be marked.
                if let Some(last) = out.iter_mut().rfind(|block| !block.is_thinking()) {
                    last.cache_control = Some(raw(mark.as_str())?);
                }
                continue;
            }
            Part::ToolCall(call) => tool_use(call)?,
            Part::ToolResult { call_id, parts, failed } => {
                let mut content = Vec::new();
                add(parts, &mut content, lost)?;
                Block::tool_result(call_id, content, *failed)
            }
        };
        out.push(block);
    }
    Ok(())
}

fn tool_use(call: &ToolCall) -> Result<Block<'_>, Error> {
    let input = block::arguments(&call.arguments).ok_or_else(|| {
        let say = "the arguments of an earlier tool call are no JSON object, which this provider demands; mend them or leave the call out";
        Error::new(Code::InvalidRequest, say).with_param("messages")
    })?;
    Ok(Block::tool_use(&call.id, &call.name, input))
}

fn source(media: &Media, kind: &str) -> Result<Value, Error> {
    match &media.source {
        MediaSource::Url(url) => Ok(json!({"type": "url", "url": url})),
        MediaSource::FileId(id) => Ok(json!({"type": "file", "file_id": id})),
        MediaSource::Base64(data) if media.mime.as_deref() == Some("text/plain") => {
            let text = base64::text(data).ok_or_else(|| {
                let say = format!("the {kind} of type text/plain is no base64 of UTF-8 text");
                Error::new(Code::InvalidValue, say).with_param("messages")
            })?;
            Ok(json!({"type": "text", "media_type": "text/plain", "data": text}))
        }
        MediaSource::Base64(data) => {
            let mime = match &media.mime {
                Some(mime) => mime.as_str(),
                None if data.starts_with(PDF) => "application/pdf",
                None => {
                    let say = format!(
                        "the {kind} must tell its media type for this provider; send it as a data URL"
                    );
                    return Err(Error::new(Code::Unsupported, say).with_param("messages"));
                }
            };
            Ok(json!({"type": "base64", "media_type": mime, "data": data}))
        }
    }
}

fn unsupported(what: &str) -> Error {
    let say = format!("the provider of this model takes no {what}; leave it out or choose another model");
    Error::new(Code::Unsupported, say).with_param("messages")
}
