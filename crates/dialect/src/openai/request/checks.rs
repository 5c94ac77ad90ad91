//! The cheap checks that every request passes, whether its body is decoded or only forwarded.

use penstock_domain::{Code, Error, Task};
use serde_json::value::RawValue;

use super::MAX_TOKENS;
use crate::json::{self, Object, Path};

/// What the checks learn in passing.
pub(super) struct Checked {
    pub(super) max_output_tokens: Option<u32>,
    pub(super) choices: u32,
}

/// Whether the asker wants a usage event.
pub(super) fn stream_options(object: &Object<'_>, stream: bool) -> Result<bool, Error> {
    let path = Path::ROOT.member("stream_options");
    let Some(raw) = object.get("stream_options") else { return Ok(false) };
    let options = json::object(raw, &path)?;
    let usage = options.get("include_usage");
    let usage = usage.map_or(Ok(false), |raw| json::boolean(raw, &path.member("include_usage")))?;
    // Without `stream` it means nothing: whether that is an error is the vendor's to say.
    Ok(usage && stream)
}

pub(super) fn check(task: Task, object: &Object<'_>) -> Result<Checked, Error> {
    if task == Task::Embedding {
        embedding(object)?;
        return Ok(Checked { max_output_tokens: None, choices: 1 });
    }
    sampling(object)?;
    let choices = match object.get("n") {
        Some(raw) => json::count(raw, 1, 128, &Path::ROOT.member("n"))?,
        None => 1,
    };
    if matches!(task, Task::Chat | Task::CountTokens) {
        chat(object)?;
    } else {
        completion(object, choices)?;
    }
    Ok(Checked { max_output_tokens: max_output_tokens(object)?, choices })
}

/// The bound of generated tokens, under its old and its new name.
pub(super) fn max_output_tokens(object: &Object<'_>) -> Result<Option<u32>, Error> {
    // None at all is asked for the log probabilities of a prompt; who cannot do that says so.
    let read = |name: &str| {
        object.get(name).map(|raw| json::count(raw, 0, MAX_TOKENS, &Path::ROOT.member(name))).transpose()
    };
    match (read("max_tokens")?, read("max_completion_tokens")?) {
        (Some(old), Some(new)) if old != new => Err(Path::ROOT.member("max_completion_tokens").error(
            Code::InvalidRequest,
            format_args!("is {new} while `max_tokens` is {old}; send one of them"),
        )),
        (old, new) => Ok(new.or(old)),
    }
}

fn sampling(object: &Object<'_>) -> Result<(), Error> {
    for (name, min, max) in [
        ("temperature", 0.0, 2.0),
        ("top_p", 0.0, 1.0),
        ("presence_penalty", -2.0, 2.0),
        ("frequency_penalty", -2.0, 2.0),
    ] {
        if let Some(raw) = object.get(name) {
            json::number(raw, min, max, &Path::ROOT.member(name))?;
        }
    }
    stop(object).map(|_| ())
}

/// The stop sequences: one, or up to four.
pub(super) fn stop(object: &Object<'_>) -> Result<Vec<String>, Error> {
    let path = Path::ROOT.member("stop");
    match object.get("stop") {
        None => Ok(Vec::new()),
        Some(raw) if raw.get().starts_with('"') => Ok(vec![json::string(raw, &path)?]),
        Some(raw) if raw.get().starts_with('[') => {
            let items = json::items(raw, 4, &path)
                .map_err(|_| path.error(Code::InvalidValue, "has more than 4 stop sequences"))?;
            items.iter().enumerate().map(|(i, raw)| json::string(raw, &path.item(i))).collect()
        }
        Some(raw) => Err(path.mistyped("a string or an array of at most 4 strings", raw)),
    }
}

fn chat(object: &Object<'_>) -> Result<(), Error> {
    let path = Path::ROOT.member("messages");
    match object.get("messages") {
        None => return Err(path.error(Code::InvalidRequest, "is missing; send at least one message")),
        Some(raw) => non_empty(raw, "message", &path)?,
    }
    if let Some(raw) = object.get("tools").filter(|raw| !raw.get().starts_with('[')) {
        return Err(Path::ROOT.member("tools").mistyped("an array", raw));
    }
    let logprobs = object.get("logprobs").map(|raw| json::boolean(raw, &Path::ROOT.member("logprobs")));
    let logprobs = logprobs.transpose()?.unwrap_or(false);
    if let Some(raw) = object.get("top_logprobs") {
        let path = Path::ROOT.member("top_logprobs");
        json::count(raw, 0, 20, &path)?;
        if !logprobs {
            return Err(path.error(Code::InvalidRequest, "is allowed only together with `logprobs: true`"));
        }
    }
    Ok(())
}

fn completion(object: &Object<'_>, choices: u32) -> Result<(), Error> {
    let path = Path::ROOT.member("prompt");
    match object.get("prompt") {
        None => {
            return Err(path.error(Code::InvalidRequest, "is missing; send a string or an array of strings"));
        }
        Some(raw) if raw.get().starts_with('"') => {}
        Some(raw) if raw.get().starts_with('[') => non_empty(raw, "prompt", &path)?,
        Some(raw) => return Err(path.mistyped("a string or an array of strings", raw)),
    }
    if let Some(raw) = object.get("logprobs") {
        json::count(raw, 0, 5, &Path::ROOT.member("logprobs"))?;
    }
    if let Some(raw) = object.get("best_of") {
        let path = Path::ROOT.member("best_of");
        let best_of = json::count(raw, 0, 128, &path)?;
        // OpenAI takes 0 for "as many as `n`".
        if best_of != 0 && best_of < choices {
            let say = format!("is {best_of}, which is less than `n`, {choices}");
            return Err(path.error(Code::InvalidValue, say));
        }
    }
    Ok(())
}

fn embedding(object: &Object<'_>) -> Result<(), Error> {
    let path = Path::ROOT.member("input");
    match object.get("input") {
        None => return Err(path.error(Code::InvalidRequest, "is missing; send a string or an array")),
        Some(raw) if raw.get() == "\"\"" => {
            return Err(path.error(Code::InvalidValue, "is empty; send some text to embed"));
        }
        Some(raw) if raw.get().starts_with('"') => {}
        Some(raw) if raw.get().starts_with('[') => non_empty(raw, "input", &path)?,
        Some(raw) => return Err(path.mistyped("a string or an array", raw)),
    }
    if let Some(raw) = object.get("dimensions") {
        json::count(raw, 1, 65_536, &Path::ROOT.member("dimensions"))?;
    }
    base64(object).map(|_| ())
}

/// Whether vectors are wanted as base64.
pub(super) fn base64(object: &Object<'_>) -> Result<bool, Error> {
    let Some(raw) = object.get("encoding_format") else { return Ok(false) };
    let path = Path::ROOT.member("encoding_format");
    match json::cow(raw, &path)?.as_ref() {
        "float" => Ok(false),
        "base64" => Ok(true),
        other => {
            let say = format!("must be `float` or `base64`, found `{}`", json::bounded(other, 32));
            Err(path.error(Code::InvalidValue, say))
        }
    }
}

fn non_empty(raw: &RawValue, what: &str, path: &Path<'_>) -> Result<(), Error> {
    if !raw.get().starts_with('[') {
        return Err(path.mistyped("an array", raw));
    }
    if json::has_content(raw) {
        return Ok(());
    }
    Err(path.error(Code::InvalidRequest, format_args!("is empty; send at least one {what}")))
}
