//! A conversation as a Converse body.
//!
//! What it promises: schemas and arguments keep their text; what Converse has no member for is named, and content that it
//! cannot carry is refused, never left out. What it refuses to know: what a certain model can do, except that Anthropic's
//! take their own settings beside Converse's.

use bytes::Bytes;
use penstock_domain::{
    Code, Conversation, Effort, Error, Json, Logprobs, Media, MediaSource, Message, Part, ResponseFormat,
    Role, Task, Thinking, Tier, Tool, ToolCall, ToolChoice,
};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::request::Lost;
use crate::responses;
use crate::vendor::Ask;
use crate::{Encoded, json};

/// How a PDF begins, in base64.
const PDF: &str = "JVBERi";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inference_config: Option<Inference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    additional_model_request_fields: Map<String, Value>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Inference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
}

/// `ContentBlock`, `SystemContentBlock` and `ToolResultContentBlock`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Block<'a> {
    Text(&'a str),
    Image(Value),
    Document(Value),
    ToolUse(ToolUse<'a>),
    ToolResult(ToolResult<'a>),
    ReasoningContent(Value),
    CachePoint(Value),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse<'a> {
    tool_use_id: &'a str,
    name: &'a str,
    input: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolResult<'a> {
    tool_use_id: &'a str,
    content: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    tools: Vec<ToolBlock<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum ToolBlock<'a> {
    ToolSpec(ToolSpec<'a>),
    CachePoint(Value),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolSpec<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Schema<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct Schema<'a> {
    json: &'a RawValue,
}

/// Writes the body of `Converse` and `ConverseStream`, or of `CountTokens`.
///
/// # Errors
/// `unsupported` for several answers, sound, and media that Converse cannot take; `invalid_request` for tool arguments that
/// are no JSON object.
pub(crate) fn encode(conversation: &Conversation, ask: &Ask<'_>) -> Result<Encoded, Error> {
    let sampling = &conversation.sampling;
    if sampling.choices.is_some_and(|choices| choices > 1) {
        let say = "`n` must be 1 for this provider, which gives one answer; ask several times";
        return Err(Error::new(Code::Unsupported, say).with_param("n"));
    }
    let claude = ask.model.contains("anthropic.") || ask.model.contains("claude");
    let mut lost = lost(conversation, claude);
    let (system, messages) = turns(&conversation.messages, &mut lost)?;
    let inference = Inference {
        max_tokens: sampling.max_output_tokens,
        temperature: sampling.temperature.map(|temperature| temperature.min(1.0)),
        top_p: sampling.top_p,
        stop_sequences: &sampling.stop,
    };
    let says = inference.max_tokens.is_some()
        || inference.temperature.is_some()
        || inference.top_p.is_some()
        || !inference.stop_sequences.is_empty();
    let wire = Wire {
        tool_config: tools(conversation, &mut lost)?,
        messages,
        system,
        inference_config: says.then_some(inference),
        output_config: output(conversation)?,
        service_tier: tier(conversation.tier),
        additional_model_request_fields: additional(conversation, claude, &mut lost),
    };
    let body = if ask.task == Task::CountTokens { counting(wire) } else { serde_json::to_vec(&wire) };
    let body = body.map_err(|e| {
        Error::new(Code::InternalError, "the request could not be written for this provider").with_source(e)
    })?;
    Ok(Encoded { body: Bytes::from(body), dropped: lost.names() })
}

/// `CountTokens` takes the part of a request that has tokens.
fn counting(wire: Wire<'_>) -> serde_json::Result<Vec<u8>> {
    let converse = Wire { inference_config: None, output_config: None, service_tier: None, ..wire };
    serde_json::to_vec(&Counting { input: Counted { converse } })
}

#[derive(Serialize)]
struct Counting<'a> {
    input: Counted<'a>,
}

#[derive(Serialize)]
struct Counted<'a> {
    converse: Wire<'a>,
}

/// What of the settings there is no member for. A penalty of zero is none.
fn lost(conversation: &Conversation, claude: bool) -> Lost {
    let mut lost = Lost::default();
    lost.extend(&conversation.unsaid);
    let sampling = &conversation.sampling;
    // It ends at 1 here; the nearest that can be said is sent.
    lost.note(sampling.temperature.is_some_and(|temperature| temperature > 1.0), "temperature");
    lost.note(sampling.top_k.is_some() && !claude, "top_k");
    lost.note(sampling.min_p.is_some_and(|share| share > 0.0), "min_p");
    lost.note(sampling.seed.is_some(), "seed");
    lost.note(sampling.presence_penalty.is_some_and(|penalty| penalty != 0.0), "presence_penalty");
    lost.note(sampling.frequency_penalty.is_some_and(|penalty| penalty != 0.0), "frequency_penalty");
    lost.note(!sampling.logit_bias.is_empty(), "logit_bias");
    lost.note(sampling.logprobs != Logprobs::Off, "logprobs");
    lost.note(conversation.response_format == ResponseFormat::JsonObject, "response_format");
    lost.note(conversation.parallel_tool_calls == Some(false), "parallel_tool_calls");
    lost.note(conversation.user.is_some(), "user");
    lost.wordy(conversation);
    // What was bought in advance is another thing here.
    lost.note(conversation.tier == Some(Tier::Scale), "service_tier");
    lost
}

/// The tier in Converse's words; the better of what the account has is what silence means.
fn tier(tier: Option<Tier>) -> Option<Value> {
    let tier = tier.filter(|tier| matches!(tier, Tier::Default | Tier::Flex | Tier::Priority))?;
    Some(json!({"type": tier.name()}))
}

/// Structured output and effort, which Converse has words for.
fn output(conversation: &Conversation) -> Result<Option<Value>, Error> {
    let mut config = Map::new();
    if let ResponseFormat::JsonSchema { name, schema, .. } = &conversation.response_format {
        let schema = json!({"name": name, "schema": schema.as_str()});
        config.insert(
            "textFormat".to_owned(),
            json!({"type": "json_schema", "structure": {"jsonSchema": schema}}),
        );
    }
    if let Some(Thinking::Effort(effort)) = conversation.thinking {
        config.insert("effort".to_owned(), json!(steps(effort)));
    }
    Ok((!config.is_empty()).then_some(Value::Object(config)))
}

/// The effort in Bedrock's steps, which begin at `low`.
fn steps(effort: Effort) -> &'static str {
    match effort {
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::XHigh => "xhigh",
        Effort::Max => "max",
    }
}

/// What Anthropic's models take beside Converse's own settings.
fn additional(conversation: &Conversation, claude: bool, lost: &mut Lost) -> Map<String, Value> {
    let mut fields = Map::new();
    let thinking = match conversation.thinking {
        None | Some(Thinking::Effort(_)) => None,
        Some(Thinking::Off) => Some(json!({"type": "disabled"})),
        Some(Thinking::Adaptive) => Some(json!({"type": "adaptive"})),
        Some(Thinking::Budget(tokens)) => Some(json!({"type": "enabled", "budget_tokens": tokens})),
    };
    if !claude {
        lost.note(thinking.is_some(), "thinking");
        return fields;
    }
    fields.extend(thinking.map(|thinking| ("thinking".to_owned(), thinking)));
    fields.extend(conversation.sampling.top_k.map(|top_k| ("top_k".to_owned(), json!(top_k))));
    fields
}

fn raw(text: &str) -> Result<&RawValue, Error> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(Code::InternalError, "a schema is no JSON any more").with_source(e))
}

fn tools<'a>(conversation: &'a Conversation, lost: &mut Lost) -> Result<Option<Tools<'a>>, Error> {
    let mut tools = Vec::with_capacity(conversation.tools.len());
    for Tool { name, description, parameters, strict, cache_mark } in &conversation.tools {
        // A function without parameters takes none.
        let schema = parameters.as_ref().map_or(r#"{"type":"object","properties":{}}"#, |json| json.as_str());
        tools.push(ToolBlock::ToolSpec(ToolSpec {
            name,
            description: description.as_deref().filter(|text| !text.is_empty()),
            input_schema: Schema { json: raw(schema)? },
            strict: *strict,
        }));
        tools.extend(cache_mark.as_ref().map(|mark| ToolBlock::CachePoint(cache_point(mark))));
    }
    let tool_choice = match &conversation.tool_choice {
        None | Some(ToolChoice::Auto) => None,
        // There is no word for it: the tools stay away, unless earlier turns speak of them.
        Some(ToolChoice::None) if !has_calls(&conversation.messages) => return Ok(None),
        Some(ToolChoice::None) => {
            lost.note(true, "tool_choice");
            None
        }
        Some(ToolChoice::Required) => Some(json!({"any": {}})),
        Some(ToolChoice::Named(name)) => Some(json!({"tool": {"name": name}})),
    };
    lost.note(tools.is_empty() && conversation.tool_choice.is_some(), "tool_choice");
    Ok((!tools.is_empty()).then_some(Tools { tools, tool_choice }))
}

fn has_calls(messages: &[Message]) -> bool {
    messages.iter().flat_map(|message| &message.parts).any(|part| matches!(part, Part::ToolCall(_)))
}

/// A mark of the asker as Converse's cache point, with its time to live where it names one that exists here.
fn cache_point(mark: &Json) -> Value {
    let mark: Value = serde_json::from_str(mark.as_str()).unwrap_or_default();
    match mark.get("ttl").and_then(Value::as_str) {
        Some(ttl @ ("5m" | "1h")) => json!({"type": "default", "ttl": ttl}),
        _ => json!({"type": "default"}),
    }
}

/// The instructions, and the turns of user and assistant in turn: neighbours of one role become one.
fn turns<'a>(messages: &'a [Message], lost: &mut Lost) -> Result<(Vec<Block<'a>>, Vec<Turn<'a>>), Error> {
    let (mut system, mut turns) = (Vec::new(), Vec::<Turn<'_>>::new());
    for message in messages {
        lost.note(message.name.is_some(), "messages.name");
        let role = match message.role {
            Role::System | Role::Developer => {
                // Instructions have one place here, before everything else, and are text.
                lost.note(!turns.is_empty(), "messages.role.system");
                let plain = |part: &Part| matches!(part, Part::Text(_) | Part::CacheMark(_));
                if !message.parts.iter().all(plain) {
                    return Err(unsupported("instructions that are not text"));
                }
                add(&message.parts, &mut system, lost)?;
                continue;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let mut content = Vec::new();
        add(&message.parts, &mut content, lost)?;
        match turns.last_mut().filter(|turn| turn.role == role) {
            Some(turn) => turn.content.append(&mut content),
            // What says nothing is refused as a turn.
            None if content.is_empty() => {}
            None => turns.push(Turn { role, content }),
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
            Part::Text(text) | Part::Refusal(text) => Block::Text(text),
            Part::Image(media) => {
                lost.note(media.note.is_some(), "messages.image_url.detail");
                Block::Image(image(media)?)
            }
            Part::File(media) => Block::Document(document(media, out.len())?),
            Part::Audio(_) => return Err(unsupported("sound")),
            Part::Reasoning(text) => match parts.get(i + 1) {
                // Google's is no signature here.
                Some(Part::Signature(signature)) if crate::gemini::unsealed(signature).is_none() => {
                    Block::ReasoningContent(json!({"reasoningText": {"text": text, "signature": signature}}))
                }
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
            Part::Sealed(data) => Block::ReasoningContent(json!({"redactedContent": data})),
            // A mark before anything was said would mark nothing.
            Part::CacheMark(_) if out.is_empty() => continue,
            Part::CacheMark(mark) => Block::CachePoint(cache_point(mark)),
            Part::ToolCall(call) => tool_use(call)?,
            Part::ToolResult { call_id, parts, failed } => {
                let mut content = Vec::new();
                add(parts, &mut content, lost)?;
                let status = failed.then_some("error");
                Block::ToolResult(ToolResult { tool_use_id: call_id, content, status })
            }
        };
        out.push(block);
    }
    Ok(())
}

fn tool_use(call: &ToolCall) -> Result<Block<'_>, Error> {
    let input = json::arguments(&call.arguments).ok_or_else(|| {
        let say = "the arguments of an earlier tool call are no JSON object, which this provider demands; mend them or leave the call out";
        Error::new(Code::InvalidRequest, say).with_param("messages")
    })?;
    Ok(Block::ToolUse(ToolUse { tool_use_id: &call.id, name: &call.name, input }))
}

fn image(media: &Media) -> Result<Value, Error> {
    // Before the type is asked for: an address has none, and is the reason.
    let source = source(media, "images")?;
    let format = match media.mime.as_deref().or_else(|| by_ending(media)).unwrap_or_default() {
        "image/png" => "png",
        "image/jpeg" | "image/jpg" => "jpeg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        _ => return Err(unsupported("images that are not PNG, JPEG, GIF or WebP data")),
    };
    Ok(json!({"format": format, "source": source}))
}

/// The type of an image in a bucket, by the ending of its address.
fn by_ending(media: &Media) -> Option<&'static str> {
    let MediaSource::Url(url) = &media.source else { return None };
    let (_, ending) = url.rsplit_once('.')?;
    let types = [
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("gif", "image/gif"),
        ("webp", "image/webp"),
    ];
    types.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)).map(|(_, mime)| *mime)
}

fn document(media: &Media, number: usize) -> Result<Value, Error> {
    let source = source(media, "documents")?;
    let note = media.note.as_deref().unwrap_or_default();
    let inline = match &media.source {
        MediaSource::Base64(data) => data.as_str(),
        _ => "",
    };
    let format = match media.mime.as_deref() {
        Some("application/pdf") => "pdf",
        Some("text/plain") => "txt",
        Some("text/csv") => "csv",
        Some("text/html") => "html",
        Some("text/markdown") => "md",
        Some("application/msword") => "doc",
        Some("application/vnd.openxmlformats-officedocument.wordprocessingml.document") => "docx",
        Some("application/vnd.ms-excel") => "xls",
        Some("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet") => "xlsx",
        None if inline.starts_with(PDF) => "pdf",
        _ => return Err(unsupported("documents of this media type")),
    };
    // Names take letters, digits, spaces, hyphens and brackets; two in one request must differ.
    let tame = |c: char| if c.is_ascii_alphanumeric() || "-()[]".contains(c) { c } else { ' ' };
    let name: String = note.chars().take(180).map(tame).collect();
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let name = if name.is_empty() { format!("document {}", number + 1) } else { name };
    let mut block = json!({"format": format, "name": name, "source": source});
    if let Some(context) = &media.context {
        block["context"] = json!(context);
    }
    if media.cited {
        block["citations"] = json!({"enabled": true});
    }
    Ok(block)
}

fn source(media: &Media, what: &str) -> Result<Value, Error> {
    match &media.source {
        MediaSource::Base64(data) => Ok(json!({"bytes": data})),
        MediaSource::Url(url) if url.starts_with("s3://") => Ok(json!({"s3Location": {"uri": url}})),
        MediaSource::Url(_) | MediaSource::FileId(_) => {
            Err(unsupported(&format!("{what} by address or file id; send the data, or an s3:// address")))
        }
    }
}

fn unsupported(what: &str) -> Error {
    let say = format!("the provider of this model takes no {what}; leave it out or choose another model");
    Error::new(Code::Unsupported, say).with_param("messages")
}
