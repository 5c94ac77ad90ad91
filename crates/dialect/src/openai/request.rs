//! OpenAI request bodies into domain words.
//!
//! What it promises: [`decode`] reads the top level only, through borrowed views, and notes where the members stand that
//! are rewritten for the vendor; [`decode_content`] reads everything that translation needs. Both name the member at
//! fault. Unknown members are left alone: a vendor of the same family may know them.

mod checks;
mod content;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use penstock_domain::{Body, Code, Content, Dialect, Error, Members, Priority, Span, Task};
use serde_json::value::RawValue;

use crate::json::{self, Object, Path};
use crate::{DecodeLimits, Decoded, PenstockOptions, json_guard};

/// Largest bound of generated tokens that is taken seriously.
pub(crate) const MAX_TOKENS: u32 = i32::MAX as u32;

/// Checks the cheap part of a request body and notes where the rewritable members stand.
///
/// # Errors
/// `invalid_json`, `json_too_deep`, `invalid_request`, `invalid_value`, each with the member at fault.
pub fn decode(task: Task, bytes: Bytes, limits: &DecodeLimits) -> Result<Decoded, Error> {
    let text = json_guard::check(&bytes, limits.max_depth)?;
    let object = top_level(text)?;
    let (model, model_span) = model(text, &object, limits)?;
    let stream = match (task, object.get("stream")) {
        (Task::Embedding, _) | (_, None) => false,
        (_, Some(raw)) => json::boolean(raw, &Path::ROOT.member("stream"))?,
    };
    let stream_usage = checks::stream_options(&object, stream)?;
    let checked = checks::check(task, &object)?;
    let members = Members {
        model: model_span,
        stream_options: place(text, &object, "stream_options")?,
        penstock: place(text, &object, "penstock")?,
        store: None,
    };
    let mut penstock = object.get("penstock").map(penstock_options).transpose()?;
    flexible(&object, &mut penstock);
    let model = model.into();
    Ok(Decoded {
        task,
        model,
        stream,
        stream_usage,
        max_output_tokens: checked.max_output_tokens,
        choices: checked.choices,
        penstock,
        body: Body::new(Dialect::OpenAi, task, bytes, members, decode_content),
    })
}

/// Decodes the whole body.
///
/// # Errors
/// As [`decode`], with paths such as `messages[2].content[0].type`; `unsupported` for what our words cannot say.
pub fn decode_content(bytes: &[u8], task: Task) -> Result<Content, Error> {
    let text = json_guard::check(bytes, DecodeLimits::default().max_depth)?;
    let object = top_level(text)?;
    checks::check(task, &object)?;
    match task {
        Task::Chat | Task::CountTokens => content::chat(&object).map(Content::Chat),
        Task::Completion => content::completion(&object).map(Content::Completion),
        Task::Embedding => content::embedding(&object).map(Content::Embedding),
        Task::Relay => Err(Error::new(Code::Unsupported, "the body of a relayed request is not read")),
    }
}

/// The members of a body, which must be one object.
pub(crate) fn top_level(text: &str) -> Result<Object<'_>, Error> {
    let trimmed = text.trim_start_matches([' ', '\t', '\r', '\n']);
    match trimmed.as_bytes().first() {
        None => Err(Error::new(Code::InvalidJson, "the body is empty; send a JSON object")),
        Some(b'{') => json::object_of(text, &Path::ROOT),
        Some(_) => match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) => Err(Path::ROOT.mistyped("an object", raw)),
            Err(e) => Err(Error::new(Code::InvalidJson, format!("the body is not valid JSON: {e}"))),
        },
    }
}

/// The model's name and its place.
pub(crate) fn model<'a>(
    text: &str,
    object: &Object<'a>,
    limits: &DecodeLimits,
) -> Result<(Cow<'a, str>, Span), Error> {
    let path = Path::ROOT.member("model");
    let Some(raw) = object.get("model") else {
        return Err(path.error(Code::InvalidRequest, "is missing; name the model to ask"));
    };
    let name = json::cow(raw, &path)?;
    if name.is_empty() {
        return Err(path.error(Code::InvalidRequest, "is empty; name the model to ask"));
    }
    if name.len() > limits.max_model {
        let say = format!("is {} bytes long, at most {} are allowed", name.len(), limits.max_model);
        return Err(path.error(Code::InvalidValue, say));
    }
    if name.chars().any(char::is_control) {
        return Err(path.error(Code::InvalidValue, "has control characters"));
    }
    Ok((name, span(text, raw)?))
}

/// Where a member's value stands, null included.
pub(crate) fn place(text: &str, object: &Object<'_>, name: &str) -> Result<Option<Span>, Error> {
    object.0.iter().find(|(key, _)| key == name).map(|(_, raw)| span(text, raw)).transpose()
}

/// Where a value that borrows from `text` stands in it.
pub(crate) fn span(text: &str, raw: &RawValue) -> Result<Span, Error> {
    let range = json::place_of(text, raw.get());
    let place = |at: usize| {
        u32::try_from(at).map_err(|_| Error::new(Code::RequestTooLarge, "the body is larger than 4 GiB"))
    };
    Ok(Span { start: place(range.start)?, end: place(range.end)? })
}

const PENSTOCK_MEMBERS: &[&str] = &["priority", "residency", "resume", "tags", "timeout_ms"];

/// Reads the member `penstock`. Unknown members are errors: it is ours, so a misspelling would be lost in silence.
pub(crate) fn penstock_options(raw: &RawValue) -> Result<PenstockOptions, Error> {
    let path = Path::ROOT.member("penstock");
    let object = json::object(raw, &path)?;
    for (name, _) in &object.0 {
        if !PENSTOCK_MEMBERS.contains(&name.as_ref()) {
            let hint = match json::nearest(name, PENSTOCK_MEMBERS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known members are {}", PENSTOCK_MEMBERS.join(", ")),
            };
            let name = json::bounded(name, 64);
            return Err(path.member(&name).error(Code::InvalidRequest, format_args!("is not known; {hint}")));
        }
    }
    let mut options = PenstockOptions::default();
    if let Some(raw) = object.get("timeout_ms") {
        // A day: longer waits belong to jobs.
        let millis = json::count(raw, 1, 86_400_000, &path.member("timeout_ms"))?;
        options.timeout = Some(Duration::from_millis(u64::from(millis)));
    }
    if let Some(raw) = object.get("tags") {
        options.tags = tags(raw, &path.member("tags"))?;
    }
    if let Some(raw) = object.get("resume") {
        options.resume = Some(json::boolean(raw, &path.member("resume"))?);
    }
    if let Some(raw) = object.get("priority") {
        options.priority = Some(priority(raw, &path.member("priority"))?);
    }
    if let Some(raw) = object.get("residency") {
        options.residency = Some(residency(raw, &path.member("residency"))?);
    }
    Ok(options)
}

fn priority(raw: &RawValue, path: &Path<'_>) -> Result<Priority, Error> {
    let name = json::cow(raw, path)?;
    Priority::ALL.into_iter().find(|priority| priority.name() == name).ok_or_else(|| {
        let say = format!("must be `interactive`, `standard` or `batch`, found `{}`", json::bounded(&name, 32));
        path.error(Code::InvalidValue, say)
    })
}

/// OpenAI's `service_tier: flex` says what the priority `batch` says: cheap, and whenever there is room.
pub(crate) fn flexible(object: &Object<'_>, penstock: &mut Option<PenstockOptions>) {
    if object.get("service_tier").is_some_and(|raw| raw.get() == "\"flex\"") {
        penstock.get_or_insert_default().priority = Some(Priority::Batch);
    }
}

/// Region names as the operator writes them beside providers. An empty list would mean nowhere, which nobody means.
fn residency(raw: &RawValue, path: &Path<'_>) -> Result<Arc<[Arc<str>]>, Error> {
    let items = json::items(raw, 16, path)?;
    if items.is_empty() {
        return Err(path.error(Code::InvalidValue, "names 1 to 16 regions"));
    }
    let region = |(index, raw): (usize, &&RawValue)| {
        let path = path.item(index);
        let name = json::string(raw, &path)?;
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err(
                path.error(Code::InvalidValue, "is no region: 1 to 64 bytes without control characters")
            );
        }
        Ok(Arc::from(name))
    };
    items.iter().enumerate().map(region).collect()
}

fn tags(raw: &RawValue, path: &Path<'_>) -> Result<BTreeMap<String, String>, Error> {
    let object = json::object(raw, path)?;
    if object.0.len() > 16 {
        return Err(path
            .error(Code::InvalidValue, format_args!("has {} tags, at most 16 are allowed", object.0.len())));
    }
    let mut tags = BTreeMap::new();
    for (name, raw) in &object.0 {
        let shown = json::bounded(name, 64);
        let path = path.member(&shown);
        let value = json::string(raw, &path)?;
        let clean = !name.chars().chain(value.chars()).any(char::is_control);
        if name.is_empty() || name.len() > 64 || value.len() > 256 || !clean {
            let say =
                "is no tag: 1 to 64 bytes of name and at most 256 bytes of value without control characters";
            return Err(path.error(Code::InvalidValue, say));
        }
        tags.insert(name.clone().into_owned(), value);
    }
    Ok(tags)
}
