//! Tools and the choice among them.

use penstock_domain::{Code, Error, Json, Tool, ToolChoice};
use serde_json::value::RawValue;

use crate::json::{self, Object, Path};

/// Most tools in one request that is decoded; a body that is only forwarded is bounded by its size.
const MAX_TOOLS: usize = 4096;

pub(super) fn read(object: &Object<'_>) -> Result<Vec<Tool>, Error> {
    let path = Path::ROOT.member("tools");
    let Some(raw) = object.get("tools") else { return legacy(object) };
    json::items(raw, MAX_TOOLS, &path)?.iter().enumerate().map(|(i, raw)| tool(raw, &path.item(i))).collect()
}

/// The old member for the same: functions without a type around them.
fn legacy(object: &Object<'_>) -> Result<Vec<Tool>, Error> {
    let path = Path::ROOT.member("functions");
    let Some(raw) = object.get("functions") else { return Ok(Vec::new()) };
    let items = json::items(raw, MAX_TOOLS, &path)?;
    let tool = |(i, raw): (usize, &&RawValue)| {
        let path = path.item(i);
        described(&json::object(raw, &path)?, &path, None)
    };
    items.iter().enumerate().map(tool).collect()
}

fn tool(raw: &RawValue, path: &Path<'_>) -> Result<Tool, Error> {
    let object = json::object(raw, path)?;
    let cache_mark = object.get("cache_control");
    let cache_mark = cache_mark.map(|raw| json::json(raw, &path.member("cache_control"))).transpose()?;
    let (function, path) = function(&object, path, &path.member("type"), &path.member("function"))?;
    described(&function, &path, cache_mark)
}

fn described(function: &Object<'_>, path: &Path<'_>, cache_mark: Option<Json>) -> Result<Tool, Error> {
    let description = function.get("description");
    let parameters = function.get("parameters");
    Ok(Tool {
        name: required_name(function, path)?,
        description: description.map(|raw| json::string(raw, &path.member("description"))).transpose()?,
        parameters: parameters.map(|raw| json::json(raw, &path.member("parameters"))).transpose()?,
        strict: function.get("strict").map(|raw| json::boolean(raw, &path.member("strict"))).transpose()?,
        cache_mark,
    })
}

/// The member `function` of an object whose `type` must be `function`.
fn function<'a, 'p>(
    object: &Object<'a>,
    path: &Path<'_>,
    kind: &Path<'_>,
    member: &Path<'p>,
) -> Result<(Object<'a>, Path<'p>), Error> {
    match object.get("type").map(|raw| json::cow(raw, kind)).transpose()?.as_deref() {
        Some("function") => {}
        Some(other) => {
            let say = format!(
                "`{}` cannot be translated for this provider; use `function`",
                json::bounded(other, 32)
            );
            return Err(kind.error(Code::Unsupported, say));
        }
        None => return Err(kind.error(Code::InvalidRequest, "is missing; use `function`")),
    }
    match object.get("function") {
        Some(raw) => Ok((json::object(raw, member)?, *member)),
        None => Err(path.error(Code::InvalidRequest, "has no member `function`")),
    }
}

fn required_name(function: &Object<'_>, path: &Path<'_>) -> Result<String, Error> {
    let path = path.member("name");
    match function.get("name") {
        Some(raw) => name(raw, &path),
        None => Err(path.error(Code::InvalidRequest, "is missing; name the function")),
    }
}

/// A name of a tool or a schema: 1 to 64 letters, digits, `_`, `-`, and `.`.
pub(super) fn name(raw: &RawValue, path: &Path<'_>) -> Result<String, Error> {
    let name = json::string(raw, path)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        let say = "must be 1 to 64 letters, digits, underscores, hyphens or dots";
        return Err(path.error(Code::InvalidValue, say));
    }
    Ok(name)
}

pub(super) fn choice(object: &Object<'_>) -> Result<Option<ToolChoice>, Error> {
    let path = Path::ROOT.member("tool_choice");
    let Some(raw) = object.get("tool_choice") else { return legacy_choice(object) };
    if raw.get().starts_with('{') {
        let object = json::object(raw, &path)?;
        let (function, path) = function(&object, &path, &path.member("type"), &path.member("function"))?;
        return required_name(&function, &path).map(|name| Some(ToolChoice::Named(name)));
    }
    match json::cow(raw, &path)?.as_ref() {
        "auto" => Ok(Some(ToolChoice::Auto)),
        "none" => Ok(Some(ToolChoice::None)),
        "required" => Ok(Some(ToolChoice::Required)),
        other => {
            let say = format!(
                "must be `auto`, `none`, `required` or a function, found `{}`",
                json::bounded(other, 32)
            );
            Err(path.error(Code::InvalidValue, say))
        }
    }
}

/// The old member for the same.
fn legacy_choice(object: &Object<'_>) -> Result<Option<ToolChoice>, Error> {
    let path = Path::ROOT.member("function_call");
    let Some(raw) = object.get("function_call") else { return Ok(None) };
    if raw.get().starts_with('{') {
        return required_name(&json::object(raw, &path)?, &path).map(|name| Some(ToolChoice::Named(name)));
    }
    match json::cow(raw, &path)?.as_ref() {
        "auto" => Ok(Some(ToolChoice::Auto)),
        "none" => Ok(Some(ToolChoice::None)),
        other => {
            let say = format!("must be `auto`, `none` or a function, found `{}`", json::bounded(other, 32));
            Err(path.error(Code::InvalidValue, say))
        }
    }
}
