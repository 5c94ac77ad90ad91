//! Everything of a messages body besides its turns.

use penstock_domain::{Code, Effort, Error, ResponseFormat, Thinking, Tier, Tool, ToolChoice};
use serde_json::value::RawValue;

use super::{MAX_BLOCKS, optional, required, strange};
use crate::json::{self, Object, Path};
use crate::openai::request::MAX_TOKENS;
use crate::request::Lost;

pub(super) fn user(object: &Object<'_>, lost: &mut Lost) -> Result<Option<String>, Error> {
    let path = Path::ROOT.member("metadata");
    let Some(raw) = object.get("metadata") else { return Ok(None) };
    let metadata = json::object(raw, &path)?;
    strange(&metadata, &["user_id"], "metadata", lost);
    optional(&metadata, "user_id", &path)
}

/// Which capacities may serve the request; a word for them that came after this was written is named.
pub(super) fn tier(object: &Object<'_>, lost: &mut Lost) -> Result<Option<Tier>, Error> {
    let tier = match optional(object, "service_tier", &Path::ROOT)?.as_deref() {
        None => return Ok(None),
        Some("auto") => Some(Tier::Auto),
        Some("standard_only") => Some(Tier::Default),
        Some(_) => None,
    };
    lost.note(tier.is_none(), "service_tier");
    Ok(tier)
}

/// How much the model may think. An effort says more than a budget: it is the vendor's own scale.
pub(super) fn thinking(
    object: &Object<'_>,
    effort: Option<Effort>,
    lost: &mut Lost,
) -> Result<Option<Thinking>, Error> {
    let path = Path::ROOT.member("thinking");
    let by_effort = effort.map(Thinking::Effort);
    let Some(raw) = object.get("thinking") else { return Ok(by_effort) };
    let thinking = json::object(raw, &path)?;
    strange(&thinking, &["budget_tokens", "type"], "thinking", lost);
    Ok(match required(&thinking, "type", &path)?.as_str() {
        "disabled" => {
            lost.note(effort.is_some(), "output_config.effort");
            Some(Thinking::Off)
        }
        "adaptive" => Some(by_effort.unwrap_or(Thinking::Adaptive)),
        "enabled" => {
            let path = path.member("budget_tokens");
            let Some(raw) = thinking.get("budget_tokens") else {
                return Err(path.error(Code::InvalidRequest, "is missing; say how many tokens it may take"));
            };
            let budget = json::count(raw, 1, MAX_TOKENS, &path)?;
            lost.note(effort.is_some(), "thinking.budget_tokens");
            Some(by_effort.unwrap_or(Thinking::Budget(budget)))
        }
        // A way of thinking that came after this was written.
        _ => {
            lost.note(true, "thinking");
            by_effort
        }
    })
}

/// The shape of the answer, and the effort that it is worth.
pub(super) fn output(
    object: &Object<'_>,
    lost: &mut Lost,
) -> Result<(ResponseFormat, Option<Effort>), Error> {
    let path = Path::ROOT.member("output_config");
    let Some(raw) = object.get("output_config") else { return Ok((ResponseFormat::Text, None)) };
    let config = json::object(raw, &path)?;
    strange(&config, &["effort", "format"], "output_config", lost);
    let effort = config.get("effort").map(|raw| effort(raw, &path.member("effort"))).transpose()?;
    Ok((format(&config, &path)?, effort))
}

fn effort(raw: &RawValue, path: &Path<'_>) -> Result<Effort, Error> {
    match json::cow(raw, path)?.as_ref() {
        "low" => Ok(Effort::Low),
        "medium" => Ok(Effort::Medium),
        "high" => Ok(Effort::High),
        "xhigh" => Ok(Effort::XHigh),
        "max" => Ok(Effort::Max),
        other => {
            let say = format!(
                "must be `low`, `medium`, `high`, `xhigh` or `max`, found `{}`",
                json::bounded(other, 32)
            );
            Err(path.error(Code::InvalidValue, say))
        }
    }
}

fn format(config: &Object<'_>, path: &Path<'_>) -> Result<ResponseFormat, Error> {
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

pub(in crate::anthropic::request) fn stop(object: &Object<'_>) -> Result<Vec<String>, Error> {
    let path = Path::ROOT.member("stop_sequences");
    let Some(raw) = object.get("stop_sequences") else { return Ok(Vec::new()) };
    let items = json::items(raw, MAX_BLOCKS, &path)?;
    items.iter().enumerate().map(|(i, raw)| json::string(raw, &path.item(i))).collect()
}

const TOOL: &[&str] = &["cache_control", "description", "input_schema", "name", "strict", "type"];

/// The tools that the asker runs. Those that the vendor runs, or that only its models know, are named.
pub(super) fn tools(object: &Object<'_>, lost: &mut Lost) -> Result<Vec<Tool>, Error> {
    let path = Path::ROOT.member("tools");
    let Some(raw) = object.get("tools") else { return Ok(Vec::new()) };
    let mut tools = Vec::new();
    for (i, raw) in json::items(raw, MAX_BLOCKS, &path)?.iter().enumerate() {
        let path = path.item(i);
        let tool = json::object(raw, &path)?;
        let kind = optional(&tool, "type", &path)?.filter(|kind| kind != "custom");
        let schema = path.member("input_schema");
        match (kind, tool.get("input_schema")) {
            (Some(kind), _) => lost.note(true, &format!("tools.{}", json::bounded(&kind, 64))),
            (None, None) => {
                return Err(schema.error(Code::InvalidRequest, "is missing; send a JSON Schema"));
            }
            (None, Some(parameters)) => {
                strange(&tool, TOOL, "tools", lost);
                let strict = tool.get("strict").map(|raw| json::boolean(raw, &path.member("strict")));
                let mark = tool.get("cache_control");
                let mark = mark.map(|raw| json::json(raw, &path.member("cache_control")));
                tools.push(Tool {
                    name: required(&tool, "name", &path)?,
                    description: optional(&tool, "description", &path)?,
                    parameters: Some(json::json(parameters, &schema)?),
                    strict: strict.transpose()?,
                    cache_mark: mark.transpose()?,
                });
            }
        }
    }
    Ok(tools)
}

/// Whether and which tool must be called, and whether several may be. A choice of a tool that was not translated is gone
/// with it.
pub(super) fn choice(
    object: &Object<'_>,
    tools: &[Tool],
    lost: &mut Lost,
) -> Result<(Option<ToolChoice>, Option<bool>), Error> {
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
    let gone = match &choice {
        ToolChoice::Named(name) => !tools.iter().any(|tool| tool.name == *name),
        _ => tools.is_empty(),
    };
    if gone {
        lost.note(choice != ToolChoice::None, "tool_choice");
        return Ok((None, None));
    }
    Ok((Some(choice), disable.map(|disable| !disable)))
}
