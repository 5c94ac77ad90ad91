//! Errors as Anthropic clients expect them.

use bytes::Bytes;
use penstock_domain::{Code, Error, Kind, RequestId};
use serde_json::json;

/// The JSON body of an error: `{"type":"error","error":{…},"request_id"}`, with our code beside Anthropic's type.
pub fn error_body(error: &Error, request_id: &RequestId) -> Bytes {
    let code = error.code().name();
    let body = json!({
        "type": "error",
        "error": {
            "type": kind(error),
            "message": error.say(),
            "code": code,
            "param": error.param(),
            "docs_url": format!("/docs/errors/{code}"),
        },
        "request_id": request_id.as_str(),
    });
    Bytes::from(body.to_string())
}

/// Whether an error means too much work for the models, not a gateway that goes away or has lost its store.
pub fn is_overload(error: &Error) -> bool {
    error.kind() == Kind::Unavailable
        && !matches!(error.code(), Code::ServerShutdown | Code::StoreUnavailable)
}

/// Anthropic's `type` of an error.
fn kind(error: &Error) -> &'static str {
    match error.kind() {
        Kind::Invalid | Kind::Method | Kind::MediaType | Kind::Conflict | Kind::Mismatch => {
            "invalid_request_error"
        }
        Kind::TooLarge => "request_too_large",
        Kind::Unauthenticated => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::NotFound => "not_found_error",
        Kind::RateLimited if error.code() == Code::BudgetExceeded => "billing_error",
        Kind::RateLimited => "rate_limit_error",
        Kind::Timeout | Kind::SlowBody => "timeout_error",
        Kind::Unavailable if is_overload(error) => "overloaded_error",
        Kind::BadUpstream | Kind::Internal | Kind::Unavailable => "api_error",
    }
}
