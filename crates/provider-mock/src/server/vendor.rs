//! Errors as the imitated vendors write them, with the vendors' own types and codes, and the headers around answers.

use std::sync::OnceLock;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use penstock_domain::Dialect;
use serde_json::json;

use crate::script::{Directives, RetryAfter, RetryForm};

/// What the vendor calls an error of this status: its type and code.
fn names(dialect: Dialect, status: u16) -> (&'static str, Option<&'static str>) {
    match (dialect, status) {
        (Dialect::Anthropic, 401) => ("authentication_error", None),
        (Dialect::Anthropic, 402) => ("billing_error", None),
        (Dialect::Anthropic, 403) => ("permission_error", None),
        (Dialect::Anthropic, 404) => ("not_found_error", None),
        (Dialect::Anthropic, 413) => ("request_too_large", None),
        (Dialect::Anthropic, 429) => ("rate_limit_error", None),
        (Dialect::Anthropic, 504) => ("timeout_error", None),
        (Dialect::Anthropic, 529) => ("overloaded_error", None),
        (Dialect::Anthropic, 500..) => ("api_error", None),
        (Dialect::Anthropic, _) => ("invalid_request_error", None),
        (_, 401) => ("invalid_request_error", Some("invalid_api_key")),
        (_, 403) => ("permission_error", None),
        (_, 404) => ("invalid_request_error", Some("model_not_found")),
        (_, 402 | 429) => ("rate_limit_error", Some("rate_limit_exceeded")),
        (_, 500..) => ("server_error", None),
        (_, _) => ("invalid_request_error", None),
    }
}

/// The JSON body of an error.
pub(crate) fn error_body(dialect: Dialect, status: u16, say: &str, param: Option<&str>) -> String {
    let (kind, code) = names(dialect, status);
    match dialect {
        Dialect::Anthropic => {
            json!({"type": "error", "error": {"type": kind, "message": say}, "request_id": "req_mock"})
        }
        _ => json!({"error": {"message": say, "type": kind, "param": param, "code": code}}),
    }
    .to_string()
}

/// The event of an error inside a stream that began well.
pub(crate) fn error_event(dialect: Dialect) -> String {
    match dialect {
        Dialect::Anthropic => {
            format!("event: error\ndata: {}\n\n", error_body(dialect, 529, "Overloaded", None))
        }
        _ => {
            let body =
                error_body(dialect, 500, "The server had an error while processing your request.", None);
            format!("data: {body}\n\n")
        }
    }
}

/// Adds what the script says about headers.
pub(crate) fn add_headers(headers: &mut HeaderMap, directives: &Directives) {
    if let Some(retry) = directives.retry_after {
        let (name, value) = match retry {
            RetryAfter::Seconds(s) | RetryAfter::Form(RetryForm::Seconds(s)) => (RETRY_AFTER, s.to_string()),
            RetryAfter::Form(RetryForm::Ms(ms)) => {
                (HeaderName::from_static("retry-after-ms"), ms.to_string())
            }
            RetryAfter::Form(RetryForm::Date(s)) => (RETRY_AFTER, date_ahead(s)),
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    if let Some(value) =
        directives.content_type.as_deref().and_then(|value| HeaderValue::from_str(value).ok())
    {
        headers.insert(CONTENT_TYPE, value);
    }
    for (name, value) in &directives.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
}

/// An HTTP date (RFC 9110, 5.6.7) this many seconds from now.
fn date_ahead(seconds: u32) -> String {
    static PRINTER: OnceLock<jiff::fmt::rfc2822::DateTimePrinter> = OnceLock::new();
    let printer = PRINTER.get_or_init(jiff::fmt::rfc2822::DateTimePrinter::new);
    let then = jiff::Timestamp::now().saturating_add(Duration::from_secs(u64::from(seconds)));
    then.ok().and_then(|then| printer.timestamp_to_rfc9110_string(&then).ok()).unwrap_or_default()
}
