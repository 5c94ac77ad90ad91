//! Errors to HTTP: the one place where a kind becomes a status.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use penstock_dialect::{anthropic, openai};
use penstock_domain::{Code, Dialect, Error, Kind, RequestId, Retry};
use penstock_flow::Head;

use crate::reply::{self, Reply};

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The status of a kind.
pub(crate) const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Method => StatusCode::METHOD_NOT_ALLOWED,
        Kind::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::SlowBody => StatusCode::REQUEST_TIMEOUT,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Mismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Kind::BadUpstream => StatusCode::BAD_GATEWAY,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// In which shape an error is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}, "request_id"}`.
    Anthropic,
    /// RFC 9457 problem details, for our own routes under `/admin/`.
    Problem,
}

impl Shape {
    /// The shape of a path; where two APIs have the same path, the asker's headers tell.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Self {
        let below_models =
            path.strip_prefix("/v1/models").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match Self::of_path(path) {
            Shape::OpenAi if below_models && crate::models::is_anthropic(headers) => Shape::Anthropic,
            shape => shape,
        }
    }

    pub(crate) fn of_path(path: &str) -> Self {
        let below_messages = path.strip_prefix(crate::routes::MESSAGES);
        if path.starts_with(crate::routes::ADMIN) {
            Shape::Problem
        } else if below_messages.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            Shape::Anthropic
        } else {
            Shape::OpenAi
        }
    }
}

/// A request that ends without an answer, with what its response must say beside the error.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    /// How far the request came, if it reached the flow.
    pub(crate) head: Option<Head>,
    /// The methods that the path has, for 405.
    pub(crate) allow: Option<String>,
    /// Whether the connection cannot be used further: its framing is in doubt, or its body was left unread.
    pub(crate) close: bool,
}

impl From<Error> for Box<Refused> {
    fn from(error: Error) -> Self {
        // A body that was refused on the way is still arriving: the next request could not be told from it.
        let close = matches!(
            error.code(),
            Code::RequestTooLarge | Code::RequestTimeout | Code::IncompleteBody | Code::Overloaded
        );
        Box::new(Refused { error, head: None, allow: None, close })
    }
}

/// The response of a refusal.
pub(crate) fn response(refused: &Refused, shape: Shape, id: &RequestId) -> Response<Reply> {
    let Refused { error, head, allow, close } = refused;
    let status = match (shape, error.kind()) {
        // Anthropic's own number for it, which its clients know.
        (Shape::Anthropic, Kind::Unavailable) if anthropic::error::is_overload(error) => {
            StatusCode::from_u16(529).unwrap_or(status(error.kind()))
        }
        (Shape::Anthropic, _) if error.code() == Code::BudgetExceeded => StatusCode::PAYMENT_REQUIRED,
        (_, kind) => status(kind),
    };
    let (media, body) = match shape {
        Shape::OpenAi => ("application/json", openai::error::error_body(error, id)),
        Shape::Anthropic => ("application/json", anthropic::error::error_body(error, id)),
        Shape::Problem => ("application/problem+json", problem(error, status, id)),
    };
    let mut response = Response::new(Reply::whole(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    if let Some(head) = head {
        let anthropic = shape == Shape::Anthropic;
        reply::describe(headers, head, if anthropic { Dialect::Anthropic } else { Dialect::OpenAi });
    }
    advise(headers, error.retry(), status);
    if status == StatusCode::UNAUTHORIZED {
        let challenge = match error.code() {
            Code::InvalidToken | Code::ExpiredToken => "Bearer error=\"invalid_token\"",
            _ => "Bearer",
        };
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(allow) = allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
        headers.insert(ALLOW, allow);
    }
    if *close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Says whether and when to send it again: `x-should-retry` (Stainless SDKs), `retry-after` (RFC 9110, whole seconds)
/// and `retry-after-ms`.
fn advise(headers: &mut HeaderMap, retry: Retry, status: StatusCode) {
    let again = match retry {
        Retry::Never => false,
        Retry::Maybe => true,
        Retry::After(wait) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
            headers.insert(
                RETRY_AFTER_MS,
                HeaderValue::from(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            );
            true
        }
    };
    // A plain "no such thing" needs no advice; what SDKs retry by themselves does.
    if again || status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 429) {
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static(if again { "true" } else { "false" }));
    }
}

/// Rounded up, and never zero: zero reads as "at once".
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn problem(error: &Error, status: StatusCode, id: &RequestId) -> Bytes {
    let code = error.code().name();
    let body = serde_json::json!({
        "type": format!("/docs/errors/{code}"),
        "title": error.code().meaning(),
        "status": status.as_u16(),
        "detail": error.say(),
        "instance": id.as_str(),
        "code": code,
        "param": error.param(),
    });
    Bytes::from(body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_status_that_the_documentation_promises() {
        let table = include_str!("../../../docs/errors/README.md");
        for code in Code::ALL {
            let row = format!("| [{0}]({0}.md) | {1} |", code.name(), status(code.kind()).as_u16());
            assert!(table.contains(&row), "docs/errors/README.md lacks `{row}`");
        }
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_rounded_up_and_in_milliseconds() {
        let mut headers = HeaderMap::new();
        advise(&mut headers, Retry::After(Duration::from_millis(1_200)), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(headers["retry-after"], "2");
        assert_eq!(headers["retry-after-ms"], "1200");
        assert_eq!(headers["x-should-retry"], "true");
    }

    #[test]
    fn a_permanent_rate_refusal_says_not_to_retry() {
        let mut headers = HeaderMap::new();
        advise(&mut headers, Retry::Never, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(headers["x-should-retry"], "false");
        assert!(!headers.contains_key("retry-after"));
    }
}
