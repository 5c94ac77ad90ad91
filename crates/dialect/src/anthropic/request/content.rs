//! The whole of a messages body in domain words.

mod media;
mod settings;

pub(super) use settings::stop;

use penstock_domain::{Code, Conversation, Error, Message, Part, Role, Sampling, ToolCall};
use serde_json::value::RawValue;

use crate::json::{self, Object, Path};
use crate::request::Lost;

const MAX_MESSAGES: usize = 100_000;
const MAX_BLOCKS: usize = 4096;

pub(super) fn read(object: &Object<'_>, max_output_tokens: Option<u32>) -> Result<Conversation, Error> {
    if max_output_tokens == Some(0) {
        let say = "is 0, which fills a prompt cache that this provider does not have; ask for at least 1";
        return Err(Path::ROOT.member("max_tokens").error(Code::InvalidValue, say));
    }
    let mut lost = Lost::default();
    lost.extend(&json::unknown(object, SAID));
    let mut messages = Vec::new();
    if let Some(raw) = object.get("system") {
        let parts = blocks(raw, &Path::ROOT.member("system"), &mut lost)?;
        messages.push(Message { role: Role::System, name: None, parts });
    }
    if let Some(raw) = object.get("messages") {
        let path = Path::ROOT.member("messages");
        for (i, raw) in json::items(raw, MAX_MESSAGES, &path)?.iter().enumerate() {
            message(raw, &path.item(i), &mut messages, &mut lost)?;
        }
    }
    // A mark for the whole body is one on its last block.
    if let (Some(raw), Some(last)) = (object.get("cache_control"), messages.last_mut()) {
        let mark = json::json(raw, &Path::ROOT.member("cache_control"))?;
        if !matches!(last.parts.last(), Some(Part::CacheMark(_))) {
            last.parts.push(Part::CacheMark(mark));
        }
    }
    let tools = settings::tools(object, &mut lost)?;
    let (tool_choice, parallel_tool_calls) = settings::choice(object, &tools, &mut lost)?;
    let (response_format, effort) = settings::output(object, &mut lost)?;
    let number =
        |name| object.get(name).map(|raw| json::number(raw, 0.0, 1.0, &Path::ROOT.member(name))).transpose();
    let top_k = object.get("top_k").map(|raw| json::count(raw, 1, u32::MAX, &Path::ROOT.member("top_k")));
    Ok(Conversation {
        messages,
        tools,
        tool_choice,
        parallel_tool_calls,
        response_format,
        thinking: settings::thinking(object, effort, &mut lost)?,
        sampling: Sampling {
            max_output_tokens,
            temperature: number("temperature")?,
            top_p: number("top_p")?,
            top_k: top_k.transpose()?,
            stop: settings::stop(object)?,
            ..Sampling::default()
        },
        user: settings::user(object, &mut lost)?,
        verbosity: None,
        tier: settings::tier(object, &mut lost)?,
        cache_key: None,
        unsaid: lost.names(),
    })
}

/// The members of a body that are read here.
const SAID: &[&str] = &[
    "cache_control",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "penstock",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];

/// Notes the members of an object under `at` that are not among those known here.
fn strange(object: &Object<'_>, known: &[&str], at: &str, lost: &mut Lost) {
    for name in json::unknown(object, known) {
        lost.note(true, &format!("{at}.{name}"));
    }
}

/// One turn; the results of tools come first, as turns of the tool.
fn message(raw: &RawValue, path: &Path<'_>, out: &mut Vec<Message>, lost: &mut Lost) -> Result<(), Error> {
    let object = json::object(raw, path)?;
    let role_path = path.member("role");
    let role = match required(&object, "role", path)?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => {
            let say = format!("must be `user` or `assistant`, found `{}`", json::bounded(other, 32));
            return Err(role_path.error(Code::InvalidValue, say));
        }
    };
    let content = path.member("content");
    let Some(raw) = object.get("content") else {
        return Err(content.error(Code::InvalidRequest, "is missing; send a string or an array of blocks"));
    };
    let (mut results, mut parts) = (Vec::<Message>::new(), Vec::new());
    let mut after_result = false;
    for part in blocks(raw, &content, lost)? {
        match part {
            Part::ToolResult { .. } => {
                results.push(Message { role: Role::Tool, name: None, parts: vec![part] });
                after_result = true;
            }
            // A mark belongs to what stands before it.
            Part::CacheMark(_) if after_result => {
                if let Some(last) = results.last_mut() {
                    last.parts.push(part);
                }
            }
            part => {
                after_result = false;
                parts.push(part);
            }
        }
    }
    let empty = results.is_empty();
    out.append(&mut results);
    if empty || !parts.is_empty() {
        out.push(Message { role, name: None, parts });
    }
    Ok(())
}

fn blocks(raw: &RawValue, path: &Path<'_>, lost: &mut Lost) -> Result<Vec<Part>, Error> {
    if raw.get().starts_with('"') {
        return Ok(vec![Part::Text(json::string(raw, path)?)]);
    }
    if !raw.get().starts_with('[') {
        return Err(path.mistyped("a string or an array of blocks", raw));
    }
    let mut parts = Vec::new();
    for (i, raw) in json::items(raw, MAX_BLOCKS, path)?.iter().enumerate() {
        let path = path.item(i);
        let object = json::object(raw, &path)?;
        block(&object, &path, &mut parts, lost)?;
        if let Some(raw) = object.get("cache_control") {
            parts.push(Part::CacheMark(json::json(raw, &path.member("cache_control"))?));
        }
    }
    Ok(parts)
}

/// Appends what one block says.
fn block(object: &Object<'_>, path: &Path<'_>, out: &mut Vec<Part>, lost: &mut Lost) -> Result<(), Error> {
    let kind = required(object, "type", path)?;
    match kind.as_str() {
        "text" => {
            lost.note(object.get("citations").is_some_and(json::has_content), "messages.citations");
            out.push(Part::Text(required(object, "text", path)?));
        }
        "thinking" => {
            out.push(Part::Reasoning(required(object, "thinking", path)?));
            if let Some(raw) = object.get("signature") {
                let signature = json::string(raw, &path.member("signature"))?;
                out.extend((!signature.is_empty()).then_some(Part::Signature(signature)));
            }
        }
        "redacted_thinking" => out.push(Part::Sealed(required(object, "data", path)?)),
        "image" => out.push(Part::Image(media::image(object, path)?)),
        "document" => media::document(object, path, out)?,
        "search_result" => media::search_result(object, path, out, lost)?,
        "tool_use" => out.push(Part::ToolCall(call(object, path)?)),
        "tool_result" => {
            let failed = object.get("is_error");
            let failed = failed.map(|raw| json::boolean(raw, &path.member("is_error"))).transpose()?;
            let content = object.get("content");
            let parts = content.map_or(Ok(Vec::new()), |raw| result(raw, &path.member("content"), lost))?;
            let call_id = required(object, "tool_use_id", path)?;
            out.push(Part::ToolResult { call_id, parts, failed: failed == Some(true) });
        }
        // What a vendor's own tools did: another vendor has neither the tools nor a word for it.
        kind if is_vendors_own(kind) => lost.note(true, &format!("messages.{kind}")),
        other => {
            let say = format!("`{}` is not translated for this provider", json::bounded(other, 32));
            return Err(path.member("type").error(Code::Unsupported, say));
        }
    }
    Ok(())
}

/// Blocks of tools that a vendor runs itself, and of its containers.
fn is_vendors_own(kind: &str) -> bool {
    let runs = kind.ends_with("_tool_result") || kind.ends_with("_tool_use");
    (runs && kind.len() <= 64 && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        || matches!(kind, "container_upload" | "tool_reference" | "compaction")
}

fn call(object: &Object<'_>, path: &Path<'_>) -> Result<ToolCall, Error> {
    let input = path.member("input");
    let arguments = match object.get("input") {
        Some(raw) => json::json(raw, &input)?.as_str().to_owned(),
        None => return Err(input.error(Code::InvalidRequest, "is missing; send an object")),
    };
    Ok(ToolCall { id: required(object, "id", path)?, name: required(object, "name", path)?, arguments })
}

/// The content of a tool's result, which holds no further calls or results.
fn result(raw: &RawValue, path: &Path<'_>, lost: &mut Lost) -> Result<Vec<Part>, Error> {
    // Looked at before it is read, so that nested results need no deep stack.
    if raw.get().starts_with('[') {
        for (i, raw) in json::items(raw, MAX_BLOCKS, path)?.iter().enumerate() {
            let path = path.item(i);
            let kind = required(&json::object(raw, &path)?, "type", &path)?;
            if matches!(kind.as_str(), "tool_use" | "tool_result") {
                return Err(path.error(Code::InvalidRequest, "of a tool's result holds text and media only"));
            }
        }
    }
    blocks(raw, path, lost)
}

/// A string member that must be there.
fn required(object: &Object<'_>, name: &str, path: &Path<'_>) -> Result<String, Error> {
    let path = path.member(name);
    match object.get(name) {
        Some(raw) => json::string(raw, &path),
        None => Err(path.error(Code::InvalidRequest, "is missing; send a string")),
    }
}

/// A string member that may be there.
fn optional(object: &Object<'_>, name: &str, path: &Path<'_>) -> Result<Option<String>, Error> {
    object.get(name).map(|raw| json::string(raw, &path.member(name))).transpose()
}
