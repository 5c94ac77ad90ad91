//! A conversation as the body of `generateContent`, `streamGenerateContent` and `countTokens`.
//!
//! What it promises: what was absent stays absent; schemas keep their text; what the API has no member for, or only within
//! narrower bounds, is named. What it refuses to know: answers.

use bytes::Bytes;
use penstock_domain::{
    Code, Conversation, Effort, Error, Logprobs, ResponseFormat, Sampling, Thinking, Tier, Tool, ToolChoice,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::content::{self, Instruction, Turn};
use crate::Encoded;
use crate::request::Lost;

/// Most stop sequences that the API takes.
const MAX_STOPS: usize = 5;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    /// Only inside of a count: elsewhere the model stands in the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Instruction<'a>>,
    contents: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "is_empty")]
    generation_config: Generation<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: Calling<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Calling<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Generation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<ThinkingConfig>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct ThinkingConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    include_thoughts: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
}

fn is_empty(generation: &Generation<'_>) -> bool {
    // Written out once and compared, so that no member can be forgotten here.
    serde_json::to_string(generation).is_ok_and(|text| text == "{}")
}

/// Writes the body of `models/MODEL:generateContent`, streamed or not.
///
/// # Errors
/// `invalid_request` for results of calls that nobody made and arguments that are no JSON object; `unsupported` for media
/// that do not say what they are.
pub fn encode_body(conversation: &Conversation, model: &str) -> Result<Encoded, Error> {
    let mut lost = Lost::default();
    let wire = wire(conversation, model, &mut lost)?;
    Ok(Encoded { body: written(&wire)?, dropped: lost.names() })
}

/// Writes the body of `models/MODEL:countTokens`, tools and instruction included.
///
/// # Errors
/// As [`encode_body`].
pub fn count_body(conversation: &Conversation, model: &str) -> Result<Encoded, Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Count<'a> {
        generate_content_request: Wire<'a>,
    }
    let mut lost = Lost::default();
    let wire =
        Wire { model: Some(resource(model)), service_tier: None, ..wire(conversation, model, &mut lost)? };
    Ok(Encoded { body: written(&Count { generate_content_request: wire })?, dropped: lost.names() })
}

/// The model as a resource name.
pub(super) fn resource(model: &str) -> String {
    if model.contains('/') { model.to_owned() } else { format!("models/{model}") }
}

pub(super) fn written<T: Serialize>(wire: &T) -> Result<Bytes, Error> {
    serde_json::to_vec(wire).map(Bytes::from).map_err(|e| {
        Error::new(Code::InternalError, "the request could not be written for this provider").with_source(e)
    })
}

fn wire<'a>(conversation: &'a Conversation, model: &str, lost: &mut Lost) -> Result<Wire<'a>, Error> {
    name_lost(conversation, lost);
    let (system_instruction, contents) = content::turns(&conversation.messages, model, lost)?;
    let function_declarations: Vec<_> =
        conversation.tools.iter().map(declaration).collect::<Result<_, _>>()?;
    let tools = (!function_declarations.is_empty()).then_some(Tools { function_declarations });
    Ok(Wire {
        model: None,
        system_instruction,
        contents,
        tools: tools.into_iter().collect(),
        tool_config: tool_config(conversation),
        generation_config: generation(conversation, model, lost)?,
        service_tier: tier(conversation.tier, lost),
    })
}

/// What of the settings the API has no member for. A penalty of zero is none.
fn name_lost(conversation: &Conversation, lost: &mut Lost) {
    lost.extend(&conversation.unsaid);
    lost.note(conversation.user.is_some(), "user");
    lost.wordy(conversation);
    lost.note(conversation.parallel_tool_calls == Some(false), "parallel_tool_calls");
    lost.note(conversation.tools.iter().any(|tool| tool.cache_mark.is_some()), "tools.cache_control");
    let forced = matches!(conversation.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    // A forced call follows its schema; a free one is not held to it.
    lost.note(!forced && conversation.tools.iter().any(|tool| tool.strict == Some(true)), "tools.strict");
    lost.note(conversation.tools.is_empty() && forced, "tool_choice");
    let Sampling { min_p, seed, stop, logit_bias, .. } = &conversation.sampling;
    lost.note(min_p.is_some_and(|share| share > 0.0), "min_p");
    lost.note(seed.is_some_and(|seed| i32::try_from(seed).is_err()), "seed");
    lost.note(stop.len() > MAX_STOPS, "stop");
    lost.note(!logit_bias.is_empty(), "logit_bias");
}

/// The tier in Google's words; the better of what the account has is what silence means.
fn tier(tier: Option<Tier>, lost: &mut Lost) -> Option<&'static str> {
    match tier? {
        Tier::Auto => None,
        Tier::Default => Some("standard"),
        Tier::Flex => Some("flex"),
        Tier::Priority => Some("priority"),
        Tier::Scale => {
            lost.note(true, "service_tier");
            None
        }
    }
}

fn raw(text: &str) -> Result<&RawValue, Error> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(Code::InternalError, "a schema is no JSON any more").with_source(e))
}

fn declaration(tool: &Tool) -> Result<Declaration<'_>, Error> {
    Ok(Declaration {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters_json_schema: tool.parameters.as_ref().map(|json| raw(json.as_str())).transpose()?,
    })
}

fn tool_config(conversation: &Conversation) -> Option<ToolConfig<'_>> {
    if conversation.tools.is_empty() {
        return None;
    }
    let (mode, allowed_function_names) = match conversation.tool_choice.as_ref()? {
        ToolChoice::Auto => ("AUTO", None),
        ToolChoice::None => ("NONE", None),
        ToolChoice::Required => ("ANY", None),
        ToolChoice::Named(name) => ("ANY", Some([name.as_str()])),
    };
    Some(ToolConfig { function_calling_config: Calling { mode, allowed_function_names } })
}

fn generation<'a>(
    conversation: &'a Conversation,
    model: &str,
    lost: &mut Lost,
) -> Result<Generation<'a>, Error> {
    let sampling = &conversation.sampling;
    let (response_mime_type, response_json_schema) = match &conversation.response_format {
        ResponseFormat::Text => (None, None),
        ResponseFormat::JsonObject => (Some("application/json"), None),
        ResponseFormat::JsonSchema { schema, .. } => (Some("application/json"), Some(raw(schema.as_str())?)),
    };
    let (response_logprobs, logprobs) = match sampling.logprobs {
        Logprobs::Off => (None, None),
        Logprobs::Top(0) => (Some(true), None),
        Logprobs::Top(top) => (Some(true), Some(top)),
    };
    Ok(Generation {
        candidate_count: sampling.choices,
        max_output_tokens: sampling.max_output_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        seed: sampling.seed.and_then(|seed| i32::try_from(seed).ok()),
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        stop_sequences: &sampling.stop[..sampling.stop.len().min(MAX_STOPS)],
        response_logprobs,
        logprobs,
        response_mime_type,
        response_json_schema,
        thinking_config: conversation.thinking.map(|wish| thinking(wish, model, lost)),
    })
}

/// How much to think: in levels from the third generation on, in tokens before it
/// (<https://ai.google.dev/gemini-api/docs/thinking>). Where only the nearest can be said, the wish is named as well.
fn thinking(wish: Thinking, model: &str, lost: &mut Lost) -> ThinkingConfig {
    let levels = super::generation(model).is_some_and(|generation| generation >= 3);
    let pro = model.contains("-pro");
    let told = ThinkingConfig { include_thoughts: Some(true), ..ThinkingConfig::default() };
    match wish {
        Thinking::Adaptive if levels => told,
        Thinking::Adaptive => ThinkingConfig { thinking_budget: Some(-1), ..told },
        Thinking::Budget(tokens) => ThinkingConfig { thinking_budget: Some(i64::from(tokens)), ..told },
        Thinking::Off => {
            // Only the smaller models of the second generation can stop thinking altogether.
            lost.note(levels || pro, "thinking");
            match (levels, pro) {
                (true, _) => ThinkingConfig { thinking_level: Some(least(pro)), ..ThinkingConfig::default() },
                (false, true) => ThinkingConfig { thinking_budget: Some(128), ..ThinkingConfig::default() },
                (false, false) => ThinkingConfig { thinking_budget: Some(0), ..ThinkingConfig::default() },
            }
        }
        Thinking::Effort(effort) => {
            lost.note(effort > Effort::High || (levels && pro && effort == Effort::Minimal), "thinking");
            if levels {
                let level = match effort {
                    Effort::Minimal => least(pro),
                    Effort::Low => "LOW",
                    Effort::Medium => "MEDIUM",
                    Effort::High | Effort::XHigh | Effort::Max => "HIGH",
                };
                return ThinkingConfig { thinking_level: Some(level), ..told };
            }
            // As Google's own OpenAI endpoint translates them.
            let budget = match effort {
                Effort::Minimal | Effort::Low => 1_024,
                Effort::Medium => 8_192,
                Effort::High | Effort::XHigh | Effort::Max => 24_576,
            };
            ThinkingConfig { thinking_budget: Some(budget), ..told }
        }
    }
}

/// The lowest level that a model has.
fn least(pro: bool) -> &'static str {
    if pro { "LOW" } else { "MINIMAL" }
}
