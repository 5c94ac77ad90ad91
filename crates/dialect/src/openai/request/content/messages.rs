//! The turns of a chat.

use penstock_domain::{Code, Error, Media, MediaSource, Message, Part, Role, ToolCall};
use serde_json::value::RawValue;

use crate::gemini;
use crate::json::{self, Object, Path};
use crate::openai::reasoning;

/// Most turns in one request that is decoded.
const MAX_MESSAGES: usize = 65_536;
/// Most parts or calls in one turn.
const MAX_PARTS: usize = 4096;

pub(super) fn read(object: &Object<'_>) -> Result<Vec<Message>, Error> {
    let path = Path::ROOT.member("messages");
    let Some(raw) = object.get("messages") else { return Ok(Vec::new()) };
    let mut all: Vec<Message> = Vec::new();
    for (i, raw) in json::items(raw, MAX_MESSAGES, &path)?.iter().enumerate() {
        let message = message(raw, &path.item(i), &all)?;
        all.push(message);
    }
    Ok(all)
}

fn message(raw: &RawValue, path: &Path<'_>, before: &[Message]) -> Result<Message, Error> {
    let object = json::object(raw, path)?;
    let (role, legacy) = role(&object, &path.member("role"))?;
    let name = object.get("name").map(|raw| json::string(raw, &path.member("name"))).transpose()?;
    let content = path.member("content");
    let mut parts = match (role, object.get("content")) {
        (Role::Assistant, found) => assistant(&object, found, path, before.len())?,
        (Role::Tool, found) => {
            let call_id = if legacy { legacy_call(name.as_deref(), before) } else { call_id(&object, path)? };
            let parts = match found {
                Some(raw) => parts(raw, &content)?,
                // The old shape had null for a function that returned nothing.
                None if legacy => Vec::new(),
                None => return Err(absent(&content)),
            };
            vec![Part::ToolResult { call_id, parts, failed: false }]
        }
        (_, Some(raw)) => parts(raw, &content)?,
        (_, None) => return Err(absent(&content)),
    };
    // As LiteLLM has it, beside the marks of parts.
    if let Some(raw) = object.get("cache_control") {
        parts.push(Part::CacheMark(json::json(raw, &path.member("cache_control"))?));
    }
    // The name of a function that answered is not the name of a speaker.
    let name = name.filter(|_| !legacy);
    Ok(Message { role, name, parts })
}

fn absent(content: &Path<'_>) -> Error {
    content.error(Code::InvalidRequest, "is missing; send a string or an array of parts")
}

fn call_id(object: &Object<'_>, path: &Path<'_>) -> Result<String, Error> {
    let path = path.member("tool_call_id");
    match object.get("tool_call_id") {
        Some(raw) => json::string(raw, &path),
        None => Err(path.error(Code::InvalidRequest, "is missing; name the call that this is the result of")),
    }
}

/// The id that the latest call of a function got: the old shape had no ids.
fn legacy_call(name: Option<&str>, before: &[Message]) -> String {
    let calls = before.iter().rev().flat_map(|message| message.parts.iter().rev());
    let mut named = calls.filter_map(|part| match part {
        Part::ToolCall(call) if name.is_none_or(|name| name == call.name) => Some(call.id.clone()),
        _ => None,
    });
    named.next().unwrap_or_else(|| legacy_id(before.len()))
}

/// An id for a call that came without; `at` is the place of its message.
fn legacy_id(at: usize) -> String {
    format!("call_{at}")
}

/// Who speaks, and whether in the old words for functions.
fn role(object: &Object<'_>, path: &Path<'_>) -> Result<(Role, bool), Error> {
    let Some(raw) = object.get("role") else {
        return Err(path.error(Code::InvalidRequest, "is missing; say who speaks"));
    };
    match json::cow(raw, path)?.as_ref() {
        "system" => Ok((Role::System, false)),
        "developer" => Ok((Role::Developer, false)),
        "user" => Ok((Role::User, false)),
        "assistant" => Ok((Role::Assistant, false)),
        "tool" => Ok((Role::Tool, false)),
        "function" => Ok((Role::Tool, true)),
        other => {
            let say = format!(
                "must be `system`, `developer`, `user`, `assistant` or `tool`, found `{}`",
                json::bounded(other, 32)
            );
            Err(path.error(Code::InvalidValue, say))
        }
    }
}

fn assistant(
    object: &Object<'_>,
    content: Option<&RawValue>,
    path: &Path<'_>,
    at: usize,
) -> Result<Vec<Part>, Error> {
    let mut all = Vec::new();
    reasoning::read(object, path, &mut all)?;
    if let Some(raw) = content {
        all.extend(parts(raw, &path.member("content"))?);
    }
    if let Some(raw) = object.get("refusal") {
        all.push(Part::Refusal(json::string(raw, &path.member("refusal"))?));
    }
    if let Some(raw) = object.get("tool_calls") {
        let path = path.member("tool_calls");
        for (i, raw) in json::items(raw, MAX_PARTS, &path)?.iter().enumerate() {
            let path = path.item(i);
            all.extend(thought_signature(raw, &path)?);
            all.push(Part::ToolCall(tool_call(raw, &path)?));
        }
    }
    if let Some(raw) = object.get("function_call") {
        let path = path.member("function_call");
        let call = json::object(raw, &path)?;
        let (name, arguments) = (member(&call, "name", &path)?, member(&call, "arguments", &path)?);
        all.push(Part::ToolCall(ToolCall { id: legacy_id(at), name, arguments }));
    }
    if all.is_empty() {
        let say = "is missing; an assistant's turn needs content, a refusal or tool calls";
        return Err(path.member("content").error(Code::InvalidRequest, say));
    }
    Ok(all)
}

/// Where Google's own OpenAI endpoint has the thought signature of a call.
fn thought_signature(raw: &RawValue, path: &Path<'_>) -> Result<Option<Part>, Error> {
    let (extra, google) = (path.member("extra_content"), "google");
    let Some(raw) = json::object(raw, path)?.get("extra_content") else { return Ok(None) };
    let Some(raw) = json::object(raw, &extra)?.get(google) else { return Ok(None) };
    let path = extra.member(google);
    let Some(raw) = json::object(raw, &path)?.get("thought_signature") else { return Ok(None) };
    let signature = json::string(raw, &path.member("thought_signature"))?;
    Ok(Some(Part::Signature(gemini::sealed(&signature))))
}

fn tool_call(raw: &RawValue, path: &Path<'_>) -> Result<ToolCall, Error> {
    let object = json::object(raw, path)?;
    let function_path = path.member("function");
    let Some(function) = object.get("function") else {
        if object.get("custom").is_some() {
            return Err(path.error(Code::Unsupported, "is a call of a custom tool, which is not translated"));
        }
        return Err(function_path.error(Code::InvalidRequest, "is missing"));
    };
    let function = json::object(function, &function_path)?;
    Ok(ToolCall {
        id: member(&object, "id", path)?,
        name: member(&function, "name", &function_path)?,
        arguments: member(&function, "arguments", &function_path)?,
    })
}

/// A string member that must be there.
fn member(object: &Object<'_>, name: &str, path: &Path<'_>) -> Result<String, Error> {
    let path = path.member(name);
    match object.get(name) {
        Some(raw) => json::string(raw, &path),
        None => Err(path.error(Code::InvalidRequest, "is missing; send a string")),
    }
}

fn parts(raw: &RawValue, path: &Path<'_>) -> Result<Vec<Part>, Error> {
    if raw.get().starts_with('"') {
        return Ok(vec![Part::Text(json::string(raw, path)?)]);
    }
    if !raw.get().starts_with('[') {
        return Err(path.mistyped("a string or an array of parts", raw));
    }
    let mut all = Vec::new();
    for (i, raw) in json::items(raw, MAX_PARTS, path)?.iter().enumerate() {
        let path = path.item(i);
        let object = json::object(raw, &path)?;
        all.push(part(&object, &path)?);
        // Not of this dialect's own making, but what everybody writes who asks Anthropic's models through it.
        if let Some(raw) = object.get("cache_control") {
            all.push(Part::CacheMark(json::json(raw, &path.member("cache_control"))?));
        }
    }
    Ok(all)
}

fn part(object: &Object<'_>, path: &Path<'_>) -> Result<Part, Error> {
    let kind = path.member("type");
    let Some(raw) = object.get("type") else {
        return Err(
            kind.error(Code::InvalidRequest, "is missing; use `text`, `image_url`, `input_audio` or `file`")
        );
    };
    let kind_name = json::cow(raw, &kind)?;
    let inner = |name: &'static str| {
        let path = path.member(name);
        match object.get(name) {
            Some(raw) => json::object(raw, &path),
            None => Err(path.error(Code::InvalidRequest, "is missing")),
        }
    };
    match kind_name.as_ref() {
        "text" => member(object, "text", path).map(Part::Text),
        "refusal" => member(object, "refusal", path).map(Part::Refusal),
        "image_url" => image(&inner("image_url")?, &path.member("image_url")).map(Part::Image),
        "input_audio" => audio(&inner("input_audio")?, &path.member("input_audio")).map(Part::Audio),
        "file" => file(&inner("file")?, &path.member("file")).map(Part::File),
        other => {
            let say = format!(
                "must be `text`, `image_url`, `input_audio`, `file` or `refusal`, found `{}`",
                json::bounded(other, 32)
            );
            Err(kind.error(Code::InvalidValue, say))
        }
    }
}

fn image(object: &Object<'_>, path: &Path<'_>) -> Result<Media, Error> {
    let url = member(object, "url", path)?;
    let note = object.get("detail").map(|raw| json::string(raw, &path.member("detail"))).transpose()?;
    if let Some((mime, data)) = data_url(&url) {
        return Ok(Media { note, ..Media::new(MediaSource::Base64(data.to_owned()), Some(mime.to_owned())) });
    }
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        let say = "must be an http, https or base64 data address";
        return Err(path.member("url").error(Code::InvalidValue, say));
    }
    Ok(Media { note, ..Media::new(MediaSource::Url(url), None) })
}

fn audio(object: &Object<'_>, path: &Path<'_>) -> Result<Media, Error> {
    let mime = match member(object, "format", path)?.as_str() {
        "mp3" => "audio/mpeg".to_owned(),
        format
            if !format.is_empty()
                && format.len() <= 16
                && format.bytes().all(|b| b.is_ascii_alphanumeric()) =>
        {
            format!("audio/{format}")
        }
        _ => {
            return Err(path
                .member("format")
                .error(Code::InvalidValue, "must be a format such as `wav` or `mp3`"));
        }
    };
    Ok(Media::new(MediaSource::Base64(member(object, "data", path)?), Some(mime)))
}

fn file(object: &Object<'_>, path: &Path<'_>) -> Result<Media, Error> {
    let note = object.get("filename").map(|raw| json::string(raw, &path.member("filename"))).transpose()?;
    if let Some(raw) = object.get("file_id") {
        let id = json::string(raw, &path.member("file_id"))?;
        return Ok(Media { note, ..Media::new(MediaSource::FileId(id), None) });
    }
    let data = member(object, "file_data", path)?;
    let media = match data_url(&data) {
        Some((mime, data)) => Media::new(MediaSource::Base64(data.to_owned()), Some(mime.to_owned())),
        None => Media::new(MediaSource::Base64(data), None),
    };
    Ok(Media { note, ..media })
}

/// Type and base64 text of a data address (RFC 2397).
fn data_url(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}
