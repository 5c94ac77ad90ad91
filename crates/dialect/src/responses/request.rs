//! `POST /v1/responses` and `POST /v1/responses/input_tokens` into domain words.
//!
//! What it promises: as for chats, a cheap look at the top level and a full reading on demand, both naming the member at
//! fault. What it refuses to know: earlier answers; who keeps them makes a body that says everything itself
//! ([`super::state`]).

mod content;
mod custom;
mod items;
#[cfg(test)]
mod tests;
mod tools;

use bytes::Bytes;
use penstock_domain::{Body, Code, Content, Dialect, Error, Members, Task};

pub(super) use custom::{custom_names, input_of};

use crate::json::{self, Object, Path};
use crate::openai::request::{MAX_TOKENS, flexible, model, penstock_options, place, top_level};
use crate::{DecodeLimits, Decoded, json_guard};

/// Checks the cheap part of a request body and notes where the rewritable members stand.
///
/// # Errors
/// `invalid_json`, `json_too_deep`, `invalid_request`, `invalid_value`, each with the member at fault; `unsupported` for
/// conversation objects and answers that are made while nobody waits.
pub fn decode(task: Task, bytes: Bytes, limits: &DecodeLimits) -> Result<Decoded, Error> {
    let text = json_guard::check(&bytes, limits.max_depth)?;
    let object = top_level(text)?;
    let (model, span) = model(text, &object, limits)?;
    // A count is one number.
    let stream = task != Task::CountTokens && flag(&object, "stream")?.unwrap_or(false);
    let max_output_tokens = check(&object)?;
    let members = Members {
        model: span,
        stream_options: None,
        penstock: place(text, &object, "penstock")?,
        store: place(text, &object, "store")?,
    };
    let mut penstock = object.get("penstock").map(penstock_options).transpose()?;
    flexible(&object, &mut penstock);
    let model = model.into();
    Ok(Decoded {
        task,
        model,
        stream,
        // The last event has the whole response, usage included.
        stream_usage: stream,
        max_output_tokens,
        choices: 1,
        penstock,
        body: Body::new(Dialect::Responses, task, bytes, members, decode_content),
    })
}

/// Decodes the whole body.
///
/// # Errors
/// As [`decode`], with paths such as `input[2].content[0].type`; `unsupported` for what our words cannot say.
pub fn decode_content(bytes: &[u8], _task: Task) -> Result<Content, Error> {
    let text = json_guard::check(bytes, DecodeLimits::default().max_depth)?;
    let object = top_level(text)?;
    let max_output_tokens = check(&object)?;
    content::read(&object, max_output_tokens).map(Content::Chat)
}

/// The cheap checks that every request passes, whether its body is decoded or only forwarded.
fn check(object: &Object<'_>) -> Result<Option<u32>, Error> {
    if flag(object, "background")? == Some(true) {
        let say = "is not served yet: leave it out and wait for the answer, or stream it";
        return Err(Path::ROOT.member("background").error(Code::Unsupported, say));
    }
    if object.get("conversation").is_some() {
        // It would be the vendor's, and everybody's behind this gateway's credential.
        let say = "names an object that this gateway does not keep; go on from an answer with `previous_response_id`";
        return Err(Path::ROOT.member("conversation").error(Code::Unsupported, say));
    }
    for (name, max) in [("temperature", 2.0), ("top_p", 1.0)] {
        if let Some(raw) = object.get(name) {
            json::number(raw, 0.0, max, &Path::ROOT.member(name))?;
        }
    }
    if let Some(raw) = object.get("top_logprobs") {
        json::count(raw, 0, 20, &Path::ROOT.member("top_logprobs"))?;
    }
    flag(object, "store")?;
    stream_options(object)?;
    for name in ["tools", "include"] {
        if let Some(raw) = object.get(name).filter(|raw| !raw.get().starts_with('[')) {
            return Err(Path::ROOT.member(name).mistyped("an array", raw));
        }
    }
    input(object)?;
    let max = object.get("max_output_tokens");
    max.map(|raw| json::count(raw, 1, MAX_TOKENS, &Path::ROOT.member("max_output_tokens"))).transpose()
}

fn input(object: &Object<'_>) -> Result<(), Error> {
    let path = Path::ROOT.member("input");
    match object.get("input") {
        // A prompt of the vendor's, or an earlier answer, may be all that is sent.
        None if object.get("prompt").is_some() || object.get("previous_response_id").is_some() => Ok(()),
        None => Err(path.error(Code::InvalidRequest, "is missing; send a string or an array of items")),
        Some(raw) if raw.get().starts_with('"') => Ok(()),
        Some(raw) if !raw.get().starts_with('[') => Err(path.mistyped("a string or an array of items", raw)),
        Some(raw) if json::has_content(raw) || object.get("previous_response_id").is_some() => Ok(()),
        Some(_) => Err(path.error(Code::InvalidRequest, "is empty; send at least one item")),
    }
}

fn stream_options(object: &Object<'_>) -> Result<(), Error> {
    let path = Path::ROOT.member("stream_options");
    let Some(raw) = object.get("stream_options") else { return Ok(()) };
    // Without `stream` it means nothing: whether that is an error is the vendor's to say.
    json::object(raw, &path).map(|_| ())
}

fn flag(object: &Object<'_>, name: &str) -> Result<Option<bool>, Error> {
    object.get(name).map(|raw| json::boolean(raw, &Path::ROOT.member(name))).transpose()
}
