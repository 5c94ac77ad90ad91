//! Tools and the choice among them.

use penstock_domain::{Code, Error, Tool, ToolChoice};
use serde_json::value::RawValue;

use super::custom;
use crate::json::{self, Object, Path};
use crate::request::Lost;

/// Most tools in one request that is decoded; a body that is only forwarded is bounded by its size.
pub(super) const MAX_TOOLS: usize = 4096;

pub(super) struct Tools {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Option<ToolChoice>,
}

/// Members of a function that our words can say.
const FUNCTION: &[&str] = &["description", "name", "parameters", "strict", "type"];

pub(super) fn read(object: &Object<'_>, lost: &mut Lost) -> Result<Tools, Error> {
    let path = Path::ROOT.member("tools");
    let mut tools = Vec::new();
    let raw = object.get("tools").map_or(Ok(Vec::new()), |raw| json::items(raw, MAX_TOOLS, &path))?;
    for (i, raw) in raw.into_iter().enumerate() {
        let path = path.item(i);
        let tool = json::object(raw, &path)?;
        match required(&tool, "type", &path)?.as_str() {
            "function" => tools.push(function(&tool, &path, lost)?),
            "custom" => tools.push(custom::tool(&tool, &path, lost)?),
            // What the vendor itself runs, only that vendor can.
            other => lost.note(true, &format!("tools.{}", json::bounded(other, 64))),
        }
    }
    let choice = choice(object, &mut tools, lost)?;
    Ok(Tools { tools, choice })
}

fn function(tool: &Object<'_>, path: &Path<'_>, lost: &mut Lost) -> Result<Tool, Error> {
    for name in json::unknown(tool, FUNCTION) {
        lost.note(true, &format!("tools.{name}"));
    }
    let description = tool.get("description");
    let parameters = tool.get("parameters");
    Ok(Tool {
        name: required_name(tool, path)?,
        description: description.map(|raw| json::string(raw, &path.member("description"))).transpose()?,
        parameters: parameters.map(|raw| json::json(raw, &path.member("parameters"))).transpose()?,
        strict: tool.get("strict").map(|raw| json::boolean(raw, &path.member("strict"))).transpose()?,
        cache_mark: None,
    })
}

fn choice(object: &Object<'_>, tools: &mut Vec<Tool>, lost: &mut Lost) -> Result<Option<ToolChoice>, Error> {
    let path = Path::ROOT.member("tool_choice");
    let Some(raw) = object.get("tool_choice") else { return Ok(None) };
    if !raw.get().starts_with('{') {
        return mode(raw, &path);
    }
    let choice = json::object(raw, &path)?;
    match required(&choice, "type", &path)?.as_str() {
        "function" | "custom" => required_name(&choice, &path).map(|name| Some(ToolChoice::Named(name))),
        "allowed_tools" => {
            let names = allowed(&choice, &path)?;
            tools.retain(|tool| names.contains(&tool.name));
            choice.get("mode").map_or(Ok(None), |raw| mode(raw, &path.member("mode")))
        }
        _ => {
            lost.note(true, "tool_choice");
            Ok(None)
        }
    }
}

fn mode(raw: &RawValue, path: &Path<'_>) -> Result<Option<ToolChoice>, Error> {
    match json::cow(raw, path)?.as_ref() {
        "auto" => Ok(Some(ToolChoice::Auto)),
        "none" => Ok(Some(ToolChoice::None)),
        "required" => Ok(Some(ToolChoice::Required)),
        other => {
            let say =
                format!("must be `auto`, `none`, `required` or a tool, found `{}`", json::bounded(other, 32));
            Err(path.error(Code::InvalidValue, say))
        }
    }
}

/// The names among which the model may choose; the others stay declared only for a vendor's prompt cache.
fn allowed(choice: &Object<'_>, path: &Path<'_>) -> Result<Vec<String>, Error> {
    let path = path.member("tools");
    let Some(raw) = choice.get("tools") else {
        return Err(path.error(Code::InvalidRequest, "is missing; name the tools"));
    };
    let mut names = Vec::new();
    for (i, raw) in json::items(raw, MAX_TOOLS, &path)?.into_iter().enumerate() {
        let path = path.item(i);
        let tool = json::object(raw, &path)?;
        names.extend(tool.get("name").map(|raw| json::string(raw, &path.member("name"))).transpose()?);
    }
    Ok(names)
}

/// A string member that must be there.
pub(super) fn required(object: &Object<'_>, name: &str, path: &Path<'_>) -> Result<String, Error> {
    let path = path.member(name);
    match object.get(name) {
        Some(raw) => json::string(raw, &path),
        None => Err(path.error(Code::InvalidRequest, "is missing; send a string")),
    }
}

/// A name of a tool or a schema: 1 to 128 letters, digits, `_`, `-`, and `.`.
pub(super) fn required_name(object: &Object<'_>, path: &Path<'_>) -> Result<String, Error> {
    let name = required(object, "name", path)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 128 || !name.chars().all(fits) {
        let say = "must be 1 to 128 letters, digits, underscores, hyphens or dots";
        return Err(path.member("name").error(Code::InvalidValue, say));
    }
    Ok(name)
}
