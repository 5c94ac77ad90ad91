//! Errors as OpenAI clients expect them. What a vendor's error means is in [`crate::Refusal`].

#[cfg(test)]
mod tests;

use bytes::Bytes;
use penstock_domain::{Code, Error, Kind, RequestId};
use serde::Serialize;

pub(crate) use crate::refusal::{bad_response, in_band as in_band_error};

#[derive(Serialize)]
struct Wire<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: &'static str,
    penstock: Ours<'a>,
}

#[derive(Serialize)]
struct Ours<'a> {
    request_id: &'a str,
    docs_url: String,
}

/// The JSON body of an error: OpenAI's four members, and ours under `penstock`.
pub fn error_body(error: &Error, request_id: &RequestId) -> Bytes {
    let code = error.code().name();
    let wire = Wire {
        error: Inner {
            message: error.say(),
            kind: kind(error),
            param: error.param(),
            code,
            penstock: Ours { request_id: request_id.as_str(), docs_url: format!("/docs/errors/{code}") },
        },
    };
    // Strings only: writing them into memory cannot fail.
    serde_json::to_vec(&wire).map(Bytes::from).unwrap_or_default()
}

/// OpenAI's `type` of an error.
fn kind(error: &Error) -> &'static str {
    match error.kind() {
        Kind::RateLimited if error.code() == Code::BudgetExceeded => "insufficient_quota",
        Kind::Invalid
        | Kind::Method
        | Kind::MediaType
        | Kind::TooLarge
        | Kind::Conflict
        | Kind::Mismatch => "invalid_request_error",
        Kind::Unauthenticated => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::NotFound => "not_found_error",
        Kind::RateLimited => "rate_limit_error",
        Kind::Timeout | Kind::SlowBody => "timeout_error",
        Kind::BadUpstream | Kind::Unavailable | Kind::Internal => "api_error",
    }
}
