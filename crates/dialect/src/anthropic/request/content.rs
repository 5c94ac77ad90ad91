//! The whole of a messages body in domain words.

use penstock_domain::{
    Code, Conversation, Error, Media, MediaSource, Message, Part, Role, Sampling, Tool, ToolCall, ToolChoice,
};
use serde_json::value::RawValue;

use crate::json::{self, Object, Path};

const MAX_MESSAGES: usize = 65_536;
const MAX_BLOCKS: usize = 4096;

pub(super) fn read(object: &Object<'_>, max_output_tokens: u32) -> Result<Conversation, Error> {
    let mut messages = Vec::new();
    if let Some(raw) = object.get("system") {
        let parts = blocks(raw, &Path::ROOT.member("system"))?;
        messages.push(Message { role: Role::System, name: None, parts });
    }
    if let Some(raw) = object.get("messages") {
        let path = Path::ROOT.member("messages");
        for (i, raw) in json::items(raw, MAX_MESSAGES, &path)?.iter().enumerate() {
            message(raw, &path.item(i), &mut messages)?;
        }
    }
    let (tool_choice, parallel_tool_calls) = choice(object)?;
    let number =
        |name| object.get(name).map(|raw| json::number(raw, 0.0, 1.0, &Path::ROOT.member(name))).transpose();
    let top_k = object.get("top_k").map(|raw| json::count(raw, 1, u32::MAX, &Path::ROOT.member("top_k")));
    Ok(Conversation {
        messages,
        tools: tools(object)?,
        tool_choice,
        parallel_tool_calls,
        sampling: Sampling {
            max_output_tokens: Some(max_output_tokens),
            temperature: number("temperature")?,
            top_p: number("top_p")?,
            top_k: top_k.transpose()?,
            stop: stop(object)?,
            ..Sampling::default()
        },
        ..Conversation::default()
    })
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
fn message(raw: &RawValue, path: &Path<'_>, out: &mut Vec<Message>) -> Result<(), Error> {
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
    let (results, parts): (Vec<_>, Vec<_>) =
        blocks(raw, &content)?.into_iter().partition(|part| matches!(part, Part::ToolResult { .. }));
    let empty = results.is_empty();
    out.extend(results.into_iter().map(|part| Message { role: Role::Tool, name: None, parts: vec![part] }));
    if empty || !parts.is_empty() {
        out.push(Message { role, name: None, parts });
    }
    Ok(())
}

fn blocks(raw: &RawValue, path: &Path<'_>) -> Result<Vec<Part>, Error> {
    if raw.get().starts_with('"') {
        return Ok(vec![Part::Text(json::string(raw, path)?)]);
    }
    if !raw.get().starts_with('[') {
        return Err(path.mistyped("a string or an array of blocks", raw));
    }
    json::items(raw, MAX_BLOCKS, path)?.iter().enumerate().map(|(i, raw)| block(raw, &path.item(i))).collect()
}

fn block(raw: &RawValue, path: &Path<'_>) -> Result<Part, Error> {
    let object = json::object(raw, path)?;
    match required(&object, "type", path)?.as_str() {
        "text" => required(&object, "text", path).map(Part::Text),
        "thinking" => required(&object, "thinking", path).map(Part::Reasoning),
        "image" => media(&object, path).map(Part::Image),
        "document" => media(&object, path).map(Part::File),
        "tool_use" => {
            let input = path.member("input");
            let arguments = match object.get("input") {
                Some(raw) => json::json(raw, &input)?.as_str().to_owned(),
                None => return Err(input.error(Code::InvalidRequest, "is missing; send an object")),
            };
            let (id, name) = (required(&object, "id", path)?, required(&object, "name", path)?);
            Ok(Part::ToolCall(ToolCall { id, name, arguments }))
        }
        "tool_result" => {
            let parts =
                object.get("content").map_or(Ok(Vec::new()), |raw| result(raw, &path.member("content")))?;
            Ok(Part::ToolResult { call_id: required(&object, "tool_use_id", path)?, parts })
        }
        other => {
            let say = format!("`{}` is not translated for this provider", json::bounded(other, 32));
            Err(path.member("type").error(Code::Unsupported, say))
        }
    }
}

/// The content of a tool's result, which holds no further calls or results: so that reading it needs no deep stack.
fn result(raw: &RawValue, path: &Path<'_>) -> Result<Vec<Part>, Error> {
    let parts = blocks(raw, path)?;
    if parts.iter().any(|part| matches!(part, Part::ToolCall(_) | Part::ToolResult { .. })) {
        return Err(path.error(Code::InvalidRequest, "of a tool's result holds text and media only"));
    }
    Ok(parts)
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

fn tools(object: &Object<'_>) -> Result<Vec<Tool>, Error> {
    let path = Path::ROOT.member("tools");
    let Some(raw) = object.get("tools") else { return Ok(Vec::new()) };
    let tool = |(i, raw): (usize, &&RawValue)| {
        let path = path.item(i);
        let tool = json::object(raw, &path)?;
        let schema = path.member("input_schema");
        let Some(parameters) = tool.get("input_schema") else {
            return Err(
                schema.error(Code::Unsupported, "is missing; a vendor's own tools are not translated")
            );
        };
        let description = tool.get("description");
        Ok(Tool {
            name: required(&tool, "name", &path)?,
            description: description.map(|raw| json::string(raw, &path.member("description"))).transpose()?,
            parameters: Some(json::json(parameters, &schema)?),
            strict: None,
        })
    };
    json::items(raw, MAX_BLOCKS, &path)?.iter().enumerate().map(tool).collect()
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
