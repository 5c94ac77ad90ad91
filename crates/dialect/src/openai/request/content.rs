//! The whole of a request body in domain words.

mod messages;
mod tools;

use penstock_domain::{
    Code, Completion, Conversation, Embedding, EmbeddingInput, Error, Logprobs, Part, ResponseFormat,
    Sampling, Thinking,
};
use serde_json::value::RawValue;

use super::checks;
use crate::json::{self, Object, Path};
use crate::openai::{effort, own};
use crate::request::Lost;

/// Most prompts or inputs in one request (OpenAI's own bound for inputs).
const MAX_INPUTS: usize = 2048;
/// Most token ids in one input.
const MAX_IDS: usize = 1 << 20;

pub(super) fn chat(object: &Object<'_>) -> Result<Conversation, Error> {
    let mut lost = Lost::default();
    lost.extend(&json::unknown(object, SAID));
    let mut messages = messages::read(object)?;
    // What everybody writes who asks Anthropic's models through this dialect: a mark on the last block.
    if let (Some(raw), Some(last)) = (object.get("cache_control"), messages.last_mut()) {
        last.parts.push(Part::CacheMark(json::json(raw, &Path::ROOT.member("cache_control"))?));
    }
    let thinking = thinking(object, &mut lost)?;
    let (tier, verbosity) = (own::tier(object, &mut lost)?, own::verbosity(object, &Path::ROOT)?);
    let parallel = object.get("parallel_tool_calls");
    let parallel =
        parallel.map(|raw| json::boolean(raw, &Path::ROOT.member("parallel_tool_calls"))).transpose()?;
    Ok(Conversation {
        messages,
        tools: tools::read(object)?,
        tool_choice: tools::choice(object)?,
        parallel_tool_calls: parallel,
        response_format: response_format(object)?,
        thinking,
        sampling: Sampling { logprobs: chat_logprobs(object)?, ..sampling(object)? },
        user: user(object, &mut lost)?,
        verbosity,
        tier,
        cache_key: own::cache_key(object)?,
        unsaid: lost.names(),
    })
}

/// The person behind the request, by the new member or the old.
fn user(object: &Object<'_>, lost: &mut Lost) -> Result<Option<String>, Error> {
    let text = |name| object.get(name).map(|raw| json::string(raw, &Path::ROOT.member(name))).transpose();
    let (new, old) = (text("safety_identifier")?, text("user")?);
    lost.note(new.is_some() && old.is_some() && new != old, "user");
    Ok(new.or(old))
}

/// How much the model may think: OpenAI's effort, or the member `thinking` that LiteLLM took from Anthropic.
fn thinking(object: &Object<'_>, lost: &mut Lost) -> Result<Option<Thinking>, Error> {
    let path = Path::ROOT.member("reasoning_effort");
    let effort = object.get("reasoning_effort").map(|raw| effort::read(raw, &path)).transpose()?;
    let path = Path::ROOT.member("thinking");
    let Some(raw) = object.get("thinking") else { return Ok(effort) };
    let thinking = json::object(raw, &path)?;
    let kind = thinking.get("type").map(|raw| json::cow(raw, &path.member("type"))).transpose()?;
    let budget = thinking.get("budget_tokens");
    let budget = budget.map(|raw| json::count(raw, 1, super::MAX_TOKENS, &path.member("budget_tokens")));
    let asked = match (kind.as_deref(), budget.transpose()?) {
        (Some("disabled"), _) => Thinking::Off,
        (Some("enabled"), Some(budget)) => Thinking::Budget(budget),
        (Some("enabled" | "adaptive"), _) => Thinking::Adaptive,
        _ => {
            lost.note(true, "thinking");
            return Ok(effort);
        }
    };
    // An effort says more than a budget or nothing: it is kept.
    lost.note(effort.is_some() && asked != Thinking::Adaptive, "thinking");
    Ok(effort.or(Some(asked)))
}

/// The members of a chat that our words can say.
const SAID: &[&str] = &[
    "cache_control",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "min_p",
    "model",
    "n",
    "parallel_tool_calls",
    "penstock",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];

pub(super) fn completion(object: &Object<'_>) -> Result<Completion, Error> {
    let path = Path::ROOT.member("prompt");
    let prompts = match object.get("prompt") {
        Some(raw) if raw.get().starts_with('[') => {
            let items = json::items(raw, MAX_INPUTS, &path)?;
            items.iter().enumerate().map(|(i, raw)| prompt(raw, &path.item(i))).collect::<Result<_, _>>()?
        }
        Some(raw) => vec![json::string(raw, &path)?],
        None => Vec::new(),
    };
    let text = |name| object.get(name).map(|raw| json::string(raw, &Path::ROOT.member(name))).transpose();
    let flag = |name| object.get(name).map(|raw| json::boolean(raw, &Path::ROOT.member(name))).transpose();
    let logprobs = match object.get("logprobs") {
        Some(raw) => Logprobs::Top(json::count(raw, 0, 5, &Path::ROOT.member("logprobs"))? as u8),
        None => Logprobs::Off,
    };
    Ok(Completion {
        prompts,
        echo: flag("echo")?.unwrap_or(false),
        suffix: text("suffix")?,
        sampling: Sampling { logprobs, ..sampling(object)? },
    })
}

fn prompt(raw: &RawValue, path: &Path<'_>) -> Result<String, Error> {
    if matches!(json::kind(raw), "a number" | "an array") {
        let say = "is made of token ids, which mean something to one model only; send text";
        return Err(path.error(Code::Unsupported, say));
    }
    json::string(raw, path)
}

pub(super) fn embedding(object: &Object<'_>) -> Result<Embedding, Error> {
    let path = Path::ROOT.member("input");
    let inputs = match object.get("input") {
        None => Vec::new(),
        Some(raw) if !raw.get().starts_with('[') => vec![EmbeddingInput::Text(text_input(raw, &path)?)],
        Some(raw) if first_is_number(raw) => vec![EmbeddingInput::Tokens(ids(raw, &path)?)],
        Some(raw) => {
            let items = json::items(raw, MAX_INPUTS, &path)?;
            let item = |(i, raw): (usize, &&RawValue)| {
                let path = path.item(i);
                if raw.get().starts_with('[') {
                    ids(raw, &path).map(EmbeddingInput::Tokens)
                } else {
                    text_input(raw, &path).map(EmbeddingInput::Text)
                }
            };
            items.iter().enumerate().map(item).collect::<Result<_, _>>()?
        }
    };
    let dimensions = object.get("dimensions");
    let dimensions =
        dimensions.map(|raw| json::count(raw, 1, 65_536, &Path::ROOT.member("dimensions"))).transpose()?;
    Ok(Embedding { inputs, dimensions, base64: checks::base64(object)? })
}

fn first_is_number(array: &RawValue) -> bool {
    array.get()[1..].trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

fn text_input(raw: &RawValue, path: &Path<'_>) -> Result<String, Error> {
    let text = json::string(raw, path)?;
    if text.is_empty() {
        return Err(path.error(Code::InvalidValue, "is empty; send some text to embed"));
    }
    Ok(text)
}

fn ids(raw: &RawValue, path: &Path<'_>) -> Result<Vec<u32>, Error> {
    let items = json::items(raw, MAX_IDS, path)?;
    if items.is_empty() {
        return Err(path.error(Code::InvalidValue, "is empty; send some token ids to embed"));
    }
    items.iter().enumerate().map(|(i, raw)| json::count(raw, 0, u32::MAX, &path.item(i))).collect()
}

fn sampling(object: &Object<'_>) -> Result<Sampling, Error> {
    let number = |name, min, max| {
        object.get(name).map(|raw| json::number(raw, min, max, &Path::ROOT.member(name))).transpose()
    };
    let seed = object.get("seed");
    let choices = object.get("n");
    let top_k = object.get("top_k");
    Ok(Sampling {
        max_output_tokens: checks::max_output_tokens(object)?,
        choices: choices.map(|raw| json::count(raw, 1, 128, &Path::ROOT.member("n"))).transpose()?,
        temperature: number("temperature", 0.0, 2.0)?,
        top_p: number("top_p", 0.0, 1.0)?,
        top_k: top_k.map(|raw| json::count(raw, 1, u32::MAX, &Path::ROOT.member("top_k"))).transpose()?,
        min_p: number("min_p", 0.0, 1.0)?,
        seed: seed
            .map(|raw| json::integer(raw, i64::MIN, i64::MAX, &Path::ROOT.member("seed")))
            .transpose()?,
        presence_penalty: number("presence_penalty", -2.0, 2.0)?,
        frequency_penalty: number("frequency_penalty", -2.0, 2.0)?,
        logit_bias: logit_bias(object)?,
        stop: checks::stop(object)?,
        logprobs: Logprobs::Off,
    })
}

fn logit_bias(object: &Object<'_>) -> Result<Vec<(u32, f32)>, Error> {
    let path = Path::ROOT.member("logit_bias");
    let Some(raw) = object.get("logit_bias") else { return Ok(Vec::new()) };
    let bias = |(name, raw): &(std::borrow::Cow<'_, str>, &RawValue)| {
        let shown = json::bounded(name, 32);
        let path = path.member(&shown);
        let id = name.parse().map_err(|_| path.error(Code::InvalidValue, "is no token id"))?;
        Ok((id, json::number(raw, -100.0, 100.0, &path)?))
    };
    json::object(raw, &path)?.0.iter().map(bias).collect()
}

fn chat_logprobs(object: &Object<'_>) -> Result<Logprobs, Error> {
    let wanted = object.get("logprobs").is_some_and(|raw| raw.get() == "true");
    if !wanted {
        return Ok(Logprobs::Off);
    }
    let top = object.get("top_logprobs");
    let top = top.map_or(Ok(0), |raw| json::count(raw, 0, 20, &Path::ROOT.member("top_logprobs")))?;
    Ok(Logprobs::Top(top as u8))
}

fn response_format(object: &Object<'_>) -> Result<ResponseFormat, Error> {
    let path = Path::ROOT.member("response_format");
    let Some(raw) = object.get("response_format") else { return Ok(ResponseFormat::Text) };
    let format = json::object(raw, &path)?;
    let kind = path.member("type");
    let Some(raw) = format.get("type") else {
        return Err(
            kind.error(Code::InvalidRequest, "is missing; use `text`, `json_object` or `json_schema`")
        );
    };
    match json::cow(raw, &kind)?.as_ref() {
        "text" => Ok(ResponseFormat::Text),
        "json_object" => Ok(ResponseFormat::JsonObject),
        "json_schema" => json_schema(&format, &path.member("json_schema")),
        other => {
            let say = format!(
                "must be `text`, `json_object` or `json_schema`, found `{}`",
                json::bounded(other, 32)
            );
            Err(kind.error(Code::InvalidValue, say))
        }
    }
}

fn json_schema(format: &Object<'_>, path: &Path<'_>) -> Result<ResponseFormat, Error> {
    let Some(raw) = format.get("json_schema") else {
        return Err(path.error(Code::InvalidRequest, "is missing; send `{name, schema}`"));
    };
    let object = json::object(raw, path)?;
    let (name, schema) = (path.member("name"), path.member("schema"));
    let Some(raw_name) = object.get("name") else {
        return Err(name.error(Code::InvalidRequest, "is missing; name the schema"));
    };
    let Some(raw_schema) = object.get("schema") else {
        return Err(schema.error(Code::InvalidRequest, "is missing; send a JSON Schema"));
    };
    let strict = object.get("strict").map(|raw| json::boolean(raw, &path.member("strict"))).transpose()?;
    Ok(ResponseFormat::JsonSchema {
        name: tools::name(raw_name, &name)?,
        schema: json::json(raw_schema, &schema)?,
        strict,
    })
}
