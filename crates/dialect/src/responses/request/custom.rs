//! Custom tools, whose input is free text, as functions of one text: other dialects know functions alone.
//!
//! What it promises: a call that was asked for so is told as a call of the custom tool again ([`input_of`]). What it
//! refuses to know: grammars; a model that is not held to one is told about it.

use penstock_domain::{Error, Json, Tool};
use serde_json::json;

use super::tools::{MAX_TOOLS, required_name};
use crate::json::{self, Object, Path};
use crate::request::Lost;

const PARAMETERS: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

/// A custom tool as a function.
pub(super) fn tool(tool: &Object<'_>, path: &Path<'_>, lost: &mut Lost) -> Result<Tool, Error> {
    let description = tool.get("description");
    let description = description.map(|raw| json::string(raw, &path.member("description"))).transpose()?;
    let mut description = description.unwrap_or_default();
    if let Some(raw) = tool.get("format") {
        let path = path.member("format");
        let format = json::object(raw, &path)?;
        if let Some(raw) = format.get("definition") {
            lost.note(true, "tools.format");
            let grammar = json::string(raw, &path.member("definition"))?;
            description.push_str("\n\nThe input must follow this grammar:\n");
            description.push_str(&grammar);
        }
    }
    Ok(Tool {
        name: required_name(tool, path)?,
        description: (!description.is_empty()).then_some(description),
        parameters: Some(Json::from_valid(PARAMETERS)),
        strict: None,
        cache_mark: None,
    })
}

/// The arguments of the function for this input.
pub(super) fn arguments(input: &str) -> String {
    json!({"input": input}).to_string()
}

/// The input that arguments of the function hold. A model that did not keep to the schema is taken at its word.
pub(in crate::responses) fn input_of(arguments: &str) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(arguments).ok();
    let input = value.as_ref().and_then(|value| value.get("input")).and_then(serde_json::Value::as_str);
    input.unwrap_or(arguments).to_owned()
}

/// The names of a body's custom tools.
pub(in crate::responses) fn custom_names(object: &Object<'_>) -> Vec<String> {
    let items = object.get("tools").and_then(|raw| json::items(raw, MAX_TOOLS, &Path::ROOT).ok());
    let name = |raw| {
        let tool = json::object(raw, &Path::ROOT).ok()?;
        let kind = json::cow(tool.get("type")?, &Path::ROOT).ok()?;
        if kind == "custom" { json::string(tool.get("name")?, &Path::ROOT).ok() } else { None }
    };
    items.unwrap_or_default().into_iter().filter_map(name).collect()
}
