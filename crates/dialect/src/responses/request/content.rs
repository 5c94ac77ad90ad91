//! The whole of a responses body in domain words.

use penstock_domain::{
    Code, Conversation, Error, Logprobs, Message, Part, ResponseFormat, Role, Sampling, Thinking, Verbosity,
};
use serde_json::value::RawValue;

use super::{items, tools};
use crate::json::{self, Object, Path};
use crate::openai::{effort, own};
use crate::request::Lost;

/// Most entries of `include`.
const MAX_INCLUDE: usize = 64;

pub(super) fn read(object: &Object<'_>, max_output_tokens: Option<u32>) -> Result<Conversation, Error> {
    for (name, say) in [
        ("previous_response_id", "names an answer that is not kept here"),
        ("prompt", "names a prompt that only its vendor has; send its text"),
    ] {
        if object.get(name).is_some() {
            return Err(Path::ROOT.member(name).error(Code::Unsupported, say));
        }
    }
    let mut lost = Lost::default();
    lost.extend(&json::unknown(object, SAID));
    let mut messages = Vec::new();
    if let Some(raw) = object.get("instructions") {
        let text = json::string(raw, &Path::ROOT.member("instructions"))?;
        messages.push(Message { role: Role::System, name: None, parts: vec![Part::Text(text)] });
    }
    items::read(object, &mut messages, &mut lost)?;
    let tools = tools::read(object, &mut lost)?;
    let thinking = thinking(object, &mut lost)?;
    let (response_format, verbosity) = text(object, &mut lost)?;
    let logprobs = logprobs(object, &mut lost)?;
    let number = |name, max| {
        object.get(name).map(|raw| json::number(raw, 0.0, max, &Path::ROOT.member(name))).transpose()
    };
    let string = |name| object.get(name).map(|raw| json::string(raw, &Path::ROOT.member(name))).transpose();
    lost.note(is_other(object, "truncation", &["disabled"]), "truncation");
    let parallel = object.get("parallel_tool_calls");
    let parallel =
        parallel.map(|raw| json::boolean(raw, &Path::ROOT.member("parallel_tool_calls"))).transpose()?;
    Ok(Conversation {
        messages,
        tools: tools.tools,
        tool_choice: tools.choice,
        parallel_tool_calls: parallel,
        response_format,
        sampling: Sampling {
            max_output_tokens,
            temperature: number("temperature", 2.0)?,
            top_p: number("top_p", 1.0)?,
            logprobs,
            ..Sampling::default()
        },
        thinking,
        user: string("safety_identifier")?.or(string("user")?),
        verbosity,
        tier: own::tier(object, &mut lost)?,
        cache_key: own::cache_key(object)?,
        unsaid: lost.names(),
    })
}

/// The members of a body that are read here, and those that the gateway itself answers for: `metadata` and `store`
/// belong to the kept answer, `stream_options` to how it is written.
const SAID: &[&str] = &[
    "background",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "metadata",
    "model",
    "parallel_tool_calls",
    "penstock",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// Whether a member is there and says something besides the usual.
fn is_other(object: &Object<'_>, name: &str, usual: &[&str]) -> bool {
    object.get(name).is_some_and(|raw| !usual.contains(&raw.get().trim_matches('"')))
}

fn thinking(object: &Object<'_>, lost: &mut Lost) -> Result<Option<Thinking>, Error> {
    let path = Path::ROOT.member("reasoning");
    let Some(raw) = object.get("reasoning") else { return Ok(None) };
    let reasoning = json::object(raw, &path)?;
    // How the reasoning is shown is for the writer of the answer.
    for name in json::unknown(&reasoning, &["effort", "generate_summary", "summary"]) {
        lost.note(true, &format!("reasoning.{name}"));
    }
    let path = path.member("effort");
    reasoning.get("effort").map(|raw| effort::read(raw, &path)).transpose()
}

/// The shape of the answer, and how wordy it should be.
fn text(object: &Object<'_>, lost: &mut Lost) -> Result<(ResponseFormat, Option<Verbosity>), Error> {
    let path = Path::ROOT.member("text");
    let Some(raw) = object.get("text") else { return Ok((ResponseFormat::Text, None)) };
    let text = json::object(raw, &path)?;
    for name in json::unknown(&text, &["format", "verbosity"]) {
        lost.note(true, &format!("text.{name}"));
    }
    Ok((format(&text, &path, lost)?, own::verbosity(&text, &path)?))
}

fn format(text: &Object<'_>, path: &Path<'_>, lost: &mut Lost) -> Result<ResponseFormat, Error> {
    let path = path.member("format");
    let Some(raw) = text.get("format") else { return Ok(ResponseFormat::Text) };
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
        "json_schema" => json_schema(&format, &path, lost),
        other => {
            let say = format!(
                "must be `text`, `json_object` or `json_schema`, found `{}`",
                json::bounded(other, 32)
            );
            Err(kind.error(Code::InvalidValue, say))
        }
    }
}

fn json_schema(format: &Object<'_>, path: &Path<'_>, lost: &mut Lost) -> Result<ResponseFormat, Error> {
    let schema = path.member("schema");
    let Some(raw) = format.get("schema") else {
        return Err(schema.error(Code::InvalidRequest, "is missing; send a JSON Schema"));
    };
    lost.note(format.get("description").is_some(), "text.format.description");
    let strict = format.get("strict").map(|raw| json::boolean(raw, &path.member("strict"))).transpose()?;
    Ok(ResponseFormat::JsonSchema {
        name: tools::required_name(format, path)?,
        schema: json::json(raw, &schema)?,
        strict,
    })
}

/// Log probabilities are asked for by name; how many alternatives, by number.
fn logprobs(object: &Object<'_>, lost: &mut Lost) -> Result<Logprobs, Error> {
    let path = Path::ROOT.member("include");
    let mut wanted = false;
    let include: Vec<&RawValue> =
        object.get("include").map_or(Ok(Vec::new()), |raw| json::items(raw, MAX_INCLUDE, &path))?;
    for (i, raw) in include.into_iter().enumerate() {
        match json::cow(raw, &path.item(i))?.as_ref() {
            "message.output_text.logprobs" => wanted = true,
            // Sealed reasoning always comes along.
            "reasoning.encrypted_content" => {}
            _ => lost.note(true, "include"),
        }
    }
    let top = object.get("top_logprobs");
    let top = top.map_or(Ok(0), |raw| json::count(raw, 0, 20, &Path::ROOT.member("top_logprobs")))?;
    let top = u8::try_from(top).unwrap_or(20);
    Ok(if wanted || top > 0 { Logprobs::Top(top) } else { Logprobs::Off })
}
