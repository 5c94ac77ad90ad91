//! What a vendor's error means for us.

use std::time::Duration;

use penstock_domain::{Code, Error, Retry};
use serde_json::Value;

use crate::json;

/// Longest vendor text that is shown or logged, in characters.
const MAX_TEXT: usize = 600;
/// Most bytes of an error body that are read.
const MAX_BODY: usize = 64 * 1024;

/// What could be read from a vendor's error body.
#[derive(Default)]
struct Said {
    message: String,
    code: String,
    param: Option<String>,
    /// A status inside the body, as OpenRouter and vLLM send it.
    status: Option<u16>,
    json: bool,
}

/// What a vendor's error answer means. `retry_after` is the wait that its headers ask for.
pub fn vendor_error(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Error {
    classify(status, retry_after, &read(body), body)
}

/// As [`vendor_error`], with the code that the shape of another dialect told.
pub(crate) fn vendor_error_as(status: u16, retry_after: Option<Duration>, code: &str, body: &[u8]) -> Error {
    let said = Said { code: code.to_owned(), ..read(body) };
    classify(status, retry_after, &said, body)
}

/// What an error inside a 200 means: an `error` object of a body or an event.
pub(crate) fn in_band_error(body: &[u8]) -> Error {
    let said = read(body);
    let status = said.status.filter(|s| (400..600).contains(s)).unwrap_or_else(|| status_of(&said));
    classify(status, None, &said, body)
}

/// The vendor answered with something that is not an answer.
pub(crate) fn bad_response(what: &str, found: &[u8]) -> Error {
    Error::new(Code::UpstreamBadResponse, format!("the provider's answer {what}")).with_source(source(found))
}

fn status_of(said: &Said) -> u16 {
    match said.code.as_str() {
        "rate_limit_exceeded" | "rate_limit_error" | "insufficient_quota" => 429,
        "invalid_request_error" | "BadRequestError" | "context_length_exceeded" => 400,
        "authentication_error" | "invalid_api_key" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "timeout_error" | "timeout" => 504,
        "overloaded_error" => 529,
        _ => 500,
    }
}

fn classify(status: u16, retry_after: Option<Duration>, said: &Said, body: &[u8]) -> Error {
    let with_wait = |error: Error| match retry_after {
        Some(wait) => error.with_retry(Retry::After(wait)),
        None => error,
    };
    let plain = |code: Code, say: &str| {
        Error::new(code, format!("{say} (status {status})")).with_source(source(body))
    };
    match status {
        401..=403 => credential(status, body),
        400 | 404 | 413 | 422 if refuses_credential(said) => credential(status, body),
        400 | 404 | 413 | 422 if exceeds_context(said) => rejected(Code::ContextLengthExceeded, said),
        400 | 404 | 413 | 422 if said.json => rejected(Code::UpstreamRejected, said),
        408 | 504 => with_wait(plain(Code::UpstreamTimeout, "the provider did not answer in time")),
        429 if retry_after.is_none() && is_quota(said) => {
            let say =
                "the provider's account is out of quota; an operator has to raise it or use another provider";
            plain(Code::UpstreamAuth, say)
        }
        429 => with_wait(plain(Code::UpstreamRateLimited, "the provider limits the rate of this gateway")),
        529 => with_wait(overloaded(status, body)),
        503 if is_overloaded(said) => with_wait(overloaded(status, body)),
        409 | 425 | 500..=599 => with_wait(plain(Code::UpstreamError, "the provider answered with an error")),
        _ => plain(Code::UpstreamBadResponse, "the provider answered with something that is not an answer"),
    }
}

/// The vendor has more work than it can take. Not its fault alone: waiting helps.
fn overloaded(status: u16, body: &[u8]) -> Error {
    let say = format!("the provider is overloaded (status {status}); send the request again a little later");
    Error::new(Code::Overloaded, say).with_source(source(body))
}

fn is_overloaded(said: &Said) -> bool {
    said.code == "overloaded_error" || said.message.to_ascii_lowercase().contains("overloaded")
}

fn credential(status: u16, body: &[u8]) -> Error {
    let say = format!(
        "the provider refused this gateway's credential (status {status}); an operator has to check the provider's `api_key`"
    );
    Error::new(Code::UpstreamAuth, say).with_source(source(body))
}

fn rejected(code: Code, said: &Said) -> Error {
    let message = blotted(&json::bounded(&said.message, MAX_TEXT));
    let message = if message.is_empty() { "it gave no reason".to_owned() } else { message };
    let error = Error::new(code, format!("the provider rejected the request: {message}"));
    match &said.param {
        Some(param) => error.with_param(json::bounded(param, 128)),
        None => error,
    }
}

fn refuses_credential(said: &Said) -> bool {
    let message = said.message.to_ascii_lowercase();
    matches!(said.code.as_str(), "invalid_api_key" | "authentication_error" | "API_KEY_INVALID")
        || message.contains("incorrect api key")
        || message.contains("api key not valid")
        || message.contains("invalid api key")
}

fn exceeds_context(said: &Said) -> bool {
    let message = said.message.to_ascii_lowercase();
    matches!(
        said.code.as_str(),
        "context_length_exceeded" | "exceed_context_size_error" | "string_above_max_length"
    ) || [
        "maximum context length",
        "context window",
        "prompt is too long",
        "exceeds the available context size",
    ]
    .iter()
    .any(|sign| message.contains(sign))
}

fn is_quota(said: &Said) -> bool {
    matches!(said.code.as_str(), "insufficient_quota" | "billing_hard_limit_reached" | "billing_not_active")
}

/// Reads the shapes that OpenAI-like vendors use: `{"error":{…}}`, `{"error":"…"}`, `{"message":…}`, `{"detail":…}`,
/// and a list of one of them.
fn read(body: &[u8]) -> Said {
    let Ok(value) = serde_json::from_slice::<Value>(body.get(..MAX_BODY).unwrap_or(body)) else {
        return Said::default();
    };
    let value = match value {
        Value::Array(mut items) if !items.is_empty() => items.swap_remove(0),
        value => value,
    };
    if !value.is_object() {
        return Said::default();
    }
    let error = value.get("error").filter(|e| !e.is_null()).unwrap_or(&value);
    let text =
        |name: &str| error.get(name).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
    let message = match error {
        Value::String(message) => Some(message.clone()),
        _ => text("message").or_else(|| error.get("detail").map(detail)),
    };
    let status = error.get("code").or_else(|| error.get("status")).and_then(Value::as_u64);
    Said {
        message: message.unwrap_or_default(),
        code: text("code").or_else(|| text("type")).or_else(|| text("status")).unwrap_or_default(),
        param: text("param"),
        status: status.and_then(|s| u16::try_from(s).ok()),
        json: true,
    }
}

fn detail(detail: &Value) -> String {
    match detail {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Vendor bytes for the log.
fn source(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..4 * MAX_TEXT).unwrap_or(body));
    blotted(&json::bounded(&text, MAX_TEXT))
}

/// Vendors repeat keys in their complaints (`Incorrect API key provided: sk-…`): words that look like keys go.
fn blotted(text: &str) -> String {
    const MARKS: [&str; 6] = ["sk-", "sk_", "gsk_", "AIza", "Bearer", "xai-"];
    if !MARKS.iter().any(|mark| text.contains(mark)) {
        return text.to_owned();
    }
    let word = |word: &str| -> String {
        let at = MARKS.iter().filter_map(|mark| word.find(mark)).min();
        match at {
            Some(at) if word.len() > at + 7 => format!("{}[key]", &word[..at]),
            _ => word.to_owned(),
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
