//! The whole of a messages body in domain words.

use penstock_domain::{
    Code, Conversation, Error, Media, MediaSource, Message, Part, ResponseFormat, Role, Sampling, Tool,
    ToolCall, ToolChoice,
};
use serde_json::value::RawValue;

use crate::json::{self, Object, Path};
use crate::request::Lost;

const MAX_MESSAGES: usize = 65_536;
const MAX_BLOCKS: usize = 4096;

pub(super) fn read(object: &Object<'_>, max_output_tokens: u32) -> Result<Conversation, Error> {
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
    let thinking = object.get("thinking").map(|raw| json::object(raw, &Path::ROOT.member("thinking")));
    let thinks = thinking.transpose()?.and_then(|thinking| thinking.get("type"));
    lost.note(thinks.is_some_and(|raw| raw.get() != "\"disabled\""), "thinking");
    let tools = tools(object, &mut lost)?;
    let user = user(object, &mut lost)?;
    let response_format = response_format(object, &mut lost)?;
    let (tool_choice, parallel_tool_calls) = choice(object)?;
    let number =
        |name| object.get(name).map(|raw| json::number(raw, 0.0, 1.0, &Path::ROOT.member(name))).transpose();
    let top_k = object.get("top_k").map(|raw| json::count(raw, 1, u32::MAX, &Path::ROOT.member("top_k")));
    Ok(Conversation {
        messages,
        tools,
        tool_choice,
        parallel_tool_calls,
        response_format,
        thinking: None,
        sampling: Sampling {
            max_output_tokens: Some(max_output_tokens),
            temperature: number("temperature")?,
            top_p: number("top_p")?,
            top_k: top_k.transpose()?,
            stop: stop(object)?,
            ..Sampling::default()
        },
        user,
        unsaid: lost.names(),
    })
}

/// The members of a body that are read here.
const SAID: &[&str] = &[
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "penstock",
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

fn user(object: &Object<'_>, lost: &mut Lost) -> Result<Option<String>, Error> {
    let path = Path::ROOT.member("metadata");
    let Some(raw) = object.get("metadata") else { return Ok(None) };
    let metadata = json::object(raw, &path)?;
    strange(&metadata, &["user_id"], "metadata", lost);
    metadata.get("user_id").map(|raw| json::string(raw, &path.member("user_id"))).transpose()
}

fn response_format(object: &Object<'_>, lost: &mut Lost) -> Result<ResponseFormat, Error> {
    let path = Path::ROOT.member("output_config");
    let Some(raw) = object.get("output_config") else { return Ok(ResponseFormat::Text) };
    let config = json::object(raw, &path)?;
    strange(&config, &["format"], "output_config", lost);
    let path = path.member("format");
    let Some(raw) = config.get("format") else { return Ok(ResponseFormat::Text) };
    let format = json::object(raw, &path)?;
    let kind = required(&format, "type", &path)?;
    let schema = path.member("schema");
    match (kind.as_str(), format.get("schema")) {
        // The dialect gives its schemas no names and always enforces them.
        ("json_schema", Some(raw)) => Ok(ResponseFormat::JsonSchema {
            name: "answer".to_owned(),
            schema: json::json(raw, &schema)?,
            strict: Some(true),
        }),
        ("json_schema", None) => Err(schema.error(Code::InvalidRequest, "is missing; send a JSON Schema")),
        (other, _) => {
            let say = format!("must be `json_schema`, found `{}`", json::bounded(other, 32));
            Err(path.member("type").error(Code::InvalidValue, say))
        }
    }
}

fn stop(object: &Object<'_>) -> Result<Vec<String>, Error> {
    let path = Path::ROOT.member("stop_sequences");
    let Some(raw) = object.get("stop_sequences") else { return Ok(Vec::new()) };
    json::items(raw, MAX_BLOCKS, &path)?
        .iter()
        .enumerate()
        .map(|(i, raw)| json::string(raw, &path.item(i)))
        .collect()
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
    lost.note(object.get("citations").is_some_and(json::has_content), "messages.citations");
    out.push(match kind.as_str() {
        "text" => Part::Text(required(object, "text", path)?),
        "thinking" => Part::Reasoning(required(object, "thinking", path)?),
        "redacted_thinking" => Part::Sealed(required(object, "data", path)?),
        "image" => Part::Image(media(object, path)?),
        "document" => {
            lost.note(object.get("context").is_some(), "messages.context");
            let title = object.get("title").map(|raw| json::string(raw, &path.member("title")));
            Part::File(Media { note: title.transpose()?, ..media(object, path)? })
        }
        "tool_use" => {
            let input = path.member("input");
            let arguments = match object.get("input") {
                Some(raw) => json::json(raw, &input)?.as_str().to_owned(),
                None => return Err(input.error(Code::InvalidRequest, "is missing; send an object")),
            };
            let (id, name) = (required(object, "id", path)?, required(object, "name", path)?);
            Part::ToolCall(ToolCall { id, name, arguments })
        }
        "tool_result" => {
            lost.note(object.get("is_error").is_some_and(|raw| raw.get() == "true"), "messages.is_error");
            let content = object.get("content");
            let parts = content.map_or(Ok(Vec::new()), |raw| result(raw, &path.member("content"), lost))?;
            Part::ToolResult { call_id: required(object, "tool_use_id", path)?, parts }
        }
        other => {
            let say = format!("`{}` is not translated for this provider", json::bounded(other, 32));
            return Err(path.member("type").error(Code::Unsupported, say));
        }
    });
    if let (true, Some(raw)) = (kind == "thinking", object.get("signature")) {
        let signature = json::string(raw, &path.member("signature"))?;
        out.extend((!signature.is_empty()).then_some(Part::Signature(signature)));
    }
    Ok(())
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

fn media(object: &Object<'_>, path: &Path<'_>) -> Result<Media, Error> {
    let path = path.member("source");
    let Some(raw) = object.get("source") else {
        return Err(path.error(Code::InvalidRequest, "is missing"));
    };
    let source = json::object(raw, &path)?;
    let mime =
        source.get("media_type").map(|raw| json::string(raw, &path.member("media_type"))).transpose()?;
    let source = match required(&source, "type", &path)?.as_str() {
        "base64" => MediaSource::Base64(required(&source, "data", &path)?),
        "url" => MediaSource::Url(required(&source, "url", &path)?),
        "file" => MediaSource::FileId(required(&source, "file_id", &path)?),
        other => {
            let say = format!("must be `base64`, `url` or `file`, found `{}`", json::bounded(other, 32));
            return Err(path.member("type").error(Code::InvalidValue, say));
        }
    };
    Ok(Media { source, mime, note: None })
}

const TOOL: &[&str] = &["cache_control", "description", "input_schema", "name", "strict", "type"];

fn tools(object: &Object<'_>, lost: &mut Lost) -> Result<Vec<Tool>, Error> {
    let path = Path::ROOT.member("tools");
    let Some(raw) = object.get("tools") else { return Ok(Vec::new()) };
    let mut tool = |(i, raw): (usize, &&RawValue)| {
        let path = path.item(i);
        let tool = json::object(raw, &path)?;
        let schema = path.member("input_schema");
        let Some(parameters) = tool.get("input_schema") else {
            return Err(
                schema.error(Code::Unsupported, "is missing; a vendor's own tools are not translated")
            );
        };
        let description = tool.get("description");
        let strict = tool.get("strict").map(|raw| json::boolean(raw, &path.member("strict")));
        let mark = tool.get("cache_control").map(|raw| json::json(raw, &path.member("cache_control")));
        strange(&tool, TOOL, "tools", lost);
        Ok(Tool {
            name: required(&tool, "name", &path)?,
            description: description.map(|raw| json::string(raw, &path.member("description"))).transpose()?,
            parameters: Some(json::json(parameters, &schema)?),
            strict: strict.transpose()?,
            cache_mark: mark.transpose()?,
        })
    };
    json::items(raw, MAX_BLOCKS, &path)?.iter().enumerate().map(&mut tool).collect()
}

fn choice(object: &Object<'_>) -> Result<(Option<ToolChoice>, Option<bool>), Error> {
    let path = Path::ROOT.member("tool_choice");
    let Some(raw) = object.get("tool_choice") else { return Ok((None, None)) };
    let object = json::object(raw, &path)?;
    let disable = object.get("disable_parallel_tool_use");
    let disable =
        disable.map(|raw| json::boolean(raw, &path.member("disable_parallel_tool_use"))).transpose()?;
    let choice = match required(&object, "type", &path)?.as_str() {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "any" => ToolChoice::Required,
        "tool" => ToolChoice::Named(required(&object, "name", &path)?),
        other => {
            let say =
                format!("must be `auto`, `any`, `none` or `tool`, found `{}`", json::bounded(other, 32));
            return Err(path.member("type").error(Code::InvalidValue, say));
        }
    };
    Ok((Some(choice), disable.map(|disable| !disable)))
}

/// A string member that must be there.
fn required(object: &Object<'_>, name: &str, path: &Path<'_>) -> Result<String, Error> {
    let path = path.member(name);
    match object.get(name) {
        Some(raw) => json::string(raw, &path),
        None => Err(path.error(Code::InvalidRequest, "is missing; send a string")),
    }
}
