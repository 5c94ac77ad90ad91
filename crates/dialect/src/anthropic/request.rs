//! `POST /v1/messages` and `POST /v1/messages/count_tokens` into domain words.
//!
//! What it promises: as for OpenAI bodies, a cheap look at the top level and a full reading on demand, both naming the
//! member at fault.

mod content;

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;
use penstock_domain::{Body, Code, Content, Dialect, Error, Members, Task};

use crate::json::{self, Object, Path};
use crate::openai::request::{MAX_TOKENS, model, penstock_options, place, top_level};
use crate::{DecodeLimits, Decoded, PenstockOptions, json_guard};

/// Checks the cheap part of a request body and notes where the rewritable members stand.
///
/// # Errors
/// `invalid_json`, `json_too_deep`, `invalid_request`, `invalid_value`, each with the member at fault.
pub fn decode(task: Task, bytes: Bytes, limits: &DecodeLimits) -> Result<Decoded, Error> {
    let text = json_guard::check(&bytes, limits.max_depth)?;
    let object = top_level(text)?;
    let (model, span) = model(text, &object, limits)?;
    let max_output_tokens = check(task, &object)?;
    let stream = match (task, object.get("stream")) {
        (Task::CountTokens, _) | (_, None) => false,
        (_, Some(raw)) => json::boolean(raw, &Path::ROOT.member("stream"))?,
    };
    let members = Members { model: span, penstock: place(text, &object, "penstock")?, ..Members::default() };
    let mut penstock = object.get("penstock").map(penstock_options).transpose()?;
    if let Some(geo) = geo(&object)? {
        stay(geo, penstock.get_or_insert_default())?;
    }
    let model = model.into();
    Ok(Decoded {
        task,
        model,
        stream,
        // Anthropic's streams always tell their usage.
        stream_usage: stream,
        max_output_tokens,
        choices: 1,
        penstock,
        body: Body::new(Dialect::Anthropic, task, bytes, members, decode_content),
    })
}

/// The region in which the asker wants to be answered (`inference_geo`); everywhere is none. The member goes on to a vendor
/// of this dialect as it is, and its promise holds here too.
fn geo(object: &Object<'_>) -> Result<Option<String>, Error> {
    let Some(raw) = object.get("inference_geo") else { return Ok(None) };
    let path = Path::ROOT.member("inference_geo");
    let geo = json::string(raw, &path)?.to_ascii_lowercase();
    if geo.is_empty() || geo.len() > 64 || geo.chars().any(char::is_control) {
        return Err(path.error(Code::InvalidValue, "is no region: 1 to 64 bytes without control characters"));
    }
    Ok((geo != "global").then_some(geo))
}

/// Keeps the request in a region, and in what `penstock.residency` allows beside.
fn stay(geo: String, options: &mut PenstockOptions) -> Result<(), Error> {
    let within = |part: &str, whole: &str| {
        part.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let regions = match &options.residency {
        None => vec![Arc::from(geo)],
        Some(allowed) if allowed.iter().any(|allowed| within(&geo, allowed)) => vec![Arc::from(geo)],
        Some(allowed) => allowed.iter().filter(|allowed| within(allowed, &geo)).cloned().collect(),
    };
    if regions.is_empty() {
        let say = "names a region that `penstock.residency` does not allow; send one of them";
        return Err(Path::ROOT.member("inference_geo").error(Code::InvalidValue, say));
    }
    options.residency = Some(regions.into());
    Ok(())
}

/// Decodes the whole body.
///
/// # Errors
/// As [`decode`], with paths such as `messages[2].content[0].type`; `unsupported` for what our words cannot say.
pub fn decode_content(bytes: &[u8], task: Task) -> Result<Content, Error> {
    let text = json_guard::check(bytes, DecodeLimits::default().max_depth)?;
    let object = top_level(text)?;
    let max_output_tokens = check(task, &object)?;
    content::read(&object, max_output_tokens).map(Content::Chat)
}

/// Gives the bound of generated tokens, which a request that is only counted need not have. Zero fills a vendor's prompt
/// cache and asks for no answer.
fn check(task: Task, object: &Object<'_>) -> Result<Option<u32>, Error> {
    let path = Path::ROOT.member("max_tokens");
    let max_tokens = match object.get("max_tokens") {
        Some(raw) => Some(json::count(raw, 0, MAX_TOKENS, &path)?),
        None if task == Task::CountTokens => None,
        None => {
            return Err(path.error(Code::InvalidRequest, "is missing; say how long the answer may become"));
        }
    };
    for name in ["temperature", "top_p"] {
        if let Some(raw) = object.get(name) {
            json::number(raw, 0.0, 1.0, &Path::ROOT.member(name))?;
        }
    }
    let path = Path::ROOT.member("messages");
    match object.get("messages") {
        None => Err(path.error(Code::InvalidRequest, "is missing; send at least one message")),
        Some(raw) if !raw.get().starts_with('[') => Err(path.mistyped("an array", raw)),
        Some(raw) if !json::has_content(raw) => {
            Err(path.error(Code::InvalidRequest, "is empty; send at least one message"))
        }
        Some(_) => Ok(max_tokens),
    }
}

/// The stop sequences of a body that was decoded; none where it has none. Most have none, and are not parsed for it.
pub(super) fn stop_sequences(bytes: &[u8]) -> Vec<String> {
    if memmem::find(bytes, b"\"stop_sequences\"").is_none() {
        return Vec::new();
    }
    let object = std::str::from_utf8(bytes).ok().and_then(|text| top_level(text).ok());
    object.and_then(|object| content::stop(&object).ok()).unwrap_or_default()
}
