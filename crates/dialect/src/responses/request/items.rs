//! The input items as turns.
//!
//! What it promises: what the model said in a row (reasoning, text, calls) is one turn of it, as other dialects want it;
//! order within and between turns is kept.

use penstock_domain::{Code, Error, Media, MediaSource, Message, Part, Role, ToolCall};
use serde_json::value::RawValue;

use super::custom;
use super::tools::required;
use crate::json::{self, Object, Path};
use crate::request::Lost;
use crate::responses::sealed::Seal;
use crate::responses::state::MAX_ITEMS;

/// Most parts of one item.
const MAX_PARTS: usize = 4096;

pub(super) fn read(object: &Object<'_>, out: &mut Vec<Message>, lost: &mut Lost) -> Result<(), Error> {
    let path = Path::ROOT.member("input");
    let Some(raw) = object.get("input") else { return Ok(()) };
    if raw.get().starts_with('"') {
        let parts = vec![Part::Text(json::string(raw, &path)?)];
        out.push(Message { role: Role::User, name: None, parts });
        return Ok(());
    }
    for (i, raw) in json::items(raw, MAX_ITEMS, &path)?.into_iter().enumerate() {
        item(raw, &path.item(i), out, lost)?;
    }
    Ok(())
}

fn item(raw: &RawValue, path: &Path<'_>, out: &mut Vec<Message>, lost: &mut Lost) -> Result<(), Error> {
    let object = json::object(raw, path)?;
    let kind = match object.get("type") {
        Some(raw) => json::string(raw, &path.member("type"))?,
        None if object.get("role").is_some() => "message".to_owned(),
        None => "item_reference".to_owned(),
    };
    match kind.as_str() {
        "message" => message(&object, path, out, lost)?,
        "reasoning" => said(out, reasoning(&object, path)?),
        "function_call" => said(out, vec![Part::ToolCall(call(&object, path)?)]),
        "custom_tool_call" => {
            let arguments = custom::arguments(&required(&object, "input", path)?);
            said(out, vec![Part::ToolCall(ToolCall { arguments, ..named_call(&object, path)? })]);
        }
        "function_call_output" | "custom_tool_call_output" => {
            let output = path.member("output");
            let Some(raw) = object.get("output") else {
                return Err(output.error(Code::InvalidRequest, "is missing; send what the tool gave"));
            };
            let call_id = required(&object, "call_id", path)?;
            let parts = vec![Part::ToolResult { call_id, parts: parts(raw, &output, lost)?, failed: false }];
            out.push(Message { role: Role::Tool, name: None, parts });
        }
        "item_reference" => {
            let say = "names an item of an answer that is not kept here; send the item itself";
            return Err(path.error(Code::Unsupported, say));
        }
        // What a vendor's own tools did, no other vendor can be told.
        other => lost.note(true, &format!("input.{}", json::bounded(other, 64))),
    }
    Ok(())
}

/// Adds to what the model said last, unless somebody else has spoken since.
fn said(out: &mut Vec<Message>, parts: Vec<Part>) {
    match out.last_mut() {
        Some(last) if last.role == Role::Assistant => last.parts.extend(parts),
        _ => out.push(Message { role: Role::Assistant, name: None, parts }),
    }
}

fn message(
    object: &Object<'_>,
    path: &Path<'_>,
    out: &mut Vec<Message>,
    lost: &mut Lost,
) -> Result<(), Error> {
    let role = match required(object, "role", path)?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        "developer" => Role::Developer,
        other => {
            let say = format!(
                "must be `user`, `assistant`, `system` or `developer`, found `{}`",
                json::bounded(other, 32)
            );
            return Err(path.member("role").error(Code::InvalidValue, say));
        }
    };
    let content = path.member("content");
    let Some(raw) = object.get("content") else {
        return Err(content.error(Code::InvalidRequest, "is missing; send a string or an array of parts"));
    };
    let parts = parts(raw, &content, lost)?;
    match role {
        // A turn that says nothing is refused elsewhere.
        Role::Assistant if parts.is_empty() => {}
        Role::Assistant => said(out, parts),
        role => out.push(Message { role, name: None, parts }),
    }
    Ok(())
}

fn named_call(object: &Object<'_>, path: &Path<'_>) -> Result<ToolCall, Error> {
    let (id, name) = (required(object, "call_id", path)?, required(object, "name", path)?);
    Ok(ToolCall { id, name, arguments: String::new() })
}

fn call(object: &Object<'_>, path: &Path<'_>) -> Result<ToolCall, Error> {
    Ok(ToolCall { arguments: required(object, "arguments", path)?, ..named_call(object, path)? })
}

/// Reasoning in the clear (its full text, or else its summary) and what seals it.
fn reasoning(object: &Object<'_>, path: &Path<'_>) -> Result<Vec<Part>, Error> {
    let mut text = texts(object, "content", path)?.concat();
    if text.is_empty() {
        text = texts(object, "summary", path)?.join("\n\n");
    }
    let id = object.get("id").map(|raw| json::string(raw, &path.member("id"))).transpose()?;
    let sealed = object.get("encrypted_content");
    let sealed = sealed.map(|raw| json::string(raw, &path.member("encrypted_content"))).transpose()?;
    Ok(match sealed.map(|text| Seal::read(id.as_deref().unwrap_or_default(), &text)) {
        Some(Seal::Signature(seal)) => vec![Part::Reasoning(text), Part::Signature(seal)],
        sealed => {
            let mut parts = Vec::new();
            parts.extend((!text.is_empty()).then_some(Part::Reasoning(text)));
            if let Some(Seal::Sealed(sealed)) = sealed {
                parts.push(Part::Sealed(sealed));
            }
            parts
        }
    })
}

/// The texts of a list of parts.
fn texts(object: &Object<'_>, name: &str, path: &Path<'_>) -> Result<Vec<String>, Error> {
    let path = path.member(name);
    let Some(raw) = object.get(name) else { return Ok(Vec::new()) };
    let text = |(i, raw): (usize, &RawValue)| {
        let path = path.item(i);
        required(&json::object(raw, &path)?, "text", &path)
    };
    json::items(raw, MAX_PARTS, &path)?.into_iter().enumerate().map(text).collect()
}

fn parts(raw: &RawValue, path: &Path<'_>, lost: &mut Lost) -> Result<Vec<Part>, Error> {
    if raw.get().starts_with('"') {
        return Ok(vec![Part::Text(json::string(raw, path)?)]);
    }
    if !raw.get().starts_with('[') {
        return Err(path.mistyped("a string or an array of parts", raw));
    }
    let items = json::items(raw, MAX_PARTS, path)?;
    items.into_iter().enumerate().map(|(i, raw)| part(raw, &path.item(i), lost)).collect()
}

fn part(raw: &RawValue, path: &Path<'_>, lost: &mut Lost) -> Result<Part, Error> {
    let object = json::object(raw, path)?;
    lost.note(object.get("prompt_cache_breakpoint").is_some(), "input.prompt_cache_breakpoint");
    match required(&object, "type", path)?.as_str() {
        "input_text" | "output_text" | "text" => required(&object, "text", path).map(Part::Text),
        "refusal" => required(&object, "refusal", path).map(Part::Refusal),
        "input_image" => image(&object, path).map(Part::Image),
        "input_file" => file(&object, path).map(Part::File),
        other => {
            let say = format!(
                "must be `input_text`, `input_image`, `input_file`, `output_text` or `refusal`, found `{}`",
                json::bounded(other, 32)
            );
            Err(path.member("type").error(Code::InvalidValue, say))
        }
    }
}

fn text(object: &Object<'_>, name: &str, path: &Path<'_>) -> Result<Option<String>, Error> {
    object.get(name).map(|raw| json::string(raw, &path.member(name))).transpose()
}

fn image(object: &Object<'_>, path: &Path<'_>) -> Result<Media, Error> {
    // What everybody means without saying it.
    let note = text(object, "detail", path)?.filter(|detail| detail != "auto");
    if let Some(id) = text(object, "file_id", path)? {
        return Ok(Media { note, ..Media::new(MediaSource::FileId(id), None) });
    }
    let url = required(object, "image_url", path)?;
    let (source, mime) = address(url, &path.member("image_url"))?;
    Ok(Media { note, ..Media::new(source, mime) })
}

fn file(object: &Object<'_>, path: &Path<'_>) -> Result<Media, Error> {
    let note = text(object, "filename", path)?;
    if let Some(id) = text(object, "file_id", path)? {
        return Ok(Media { note, ..Media::new(MediaSource::FileId(id), None) });
    }
    if let Some(url) = text(object, "file_url", path)? {
        let (source, mime) = address(url, &path.member("file_url"))?;
        return Ok(Media { note, ..Media::new(source, mime) });
    }
    let data = required(object, "file_data", path)?;
    let (source, mime) = match data_url(&data) {
        Some((mime, data)) => (MediaSource::Base64(data.to_owned()), Some(mime.to_owned())),
        None => (MediaSource::Base64(data), None),
    };
    Ok(Media { note, ..Media::new(source, mime) })
}

fn address(url: String, path: &Path<'_>) -> Result<(MediaSource, Option<String>), Error> {
    if let Some((mime, data)) = data_url(&url) {
        return Ok((MediaSource::Base64(data.to_owned()), Some(mime.to_owned())));
    }
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        return Err(path.error(Code::InvalidValue, "must be an http, https or base64 data address"));
    }
    Ok((MediaSource::Url(url), None))
}

/// Type and base64 text of a data address (RFC 2397).
fn data_url(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}
