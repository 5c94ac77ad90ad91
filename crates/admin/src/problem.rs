//! Errors as RFC 9457 problem details.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use penstock_domain::{Code, Error, Kind, RequestId};
use penstock_identity::Flaw;
use serde_json::json;

/// Why a request was refused: the error, and all flaws of its body.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: Error,
    pub(crate) flaws: Vec<Flaw>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, flaws: Vec::new() }
    }
}

impl From<Vec<Flaw>> for Refusal {
    fn from(flaws: Vec<Flaw>) -> Self {
        let say = match flaws.as_slice() {
            [one] => format!("{}: {}", one.member, one.say),
            many => format!("{} members are not right, see errors", many.len()),
        };
        let error = Error::new(Code::InvalidValue, say);
        Self {
            error: if let [one] = flaws.as_slice() { error.with_param(&*one.member) } else { error },
            flaws,
        }
    }
}

impl Refusal {
    /// The response; `id` is the request's id where the listener gave one.
    pub(crate) fn response(&self, id: Option<&RequestId>) -> Response {
        let code = self.error.code();
        let status = status(code.kind());
        let mut body = json!({
            "type": format!("/docs/errors/{code}"),
            "title": code.meaning(),
            "status": status.as_u16(),
            "detail": self.error.say(),
            "instance": id.map(RequestId::as_str),
            "code": code.name(),
            "param": self.error.param(),
        });
        if !self.flaws.is_empty() {
            body["errors"] =
                self.flaws.iter().map(|flaw| json!({"param": flaw.member, "detail": flaw.say})).collect();
        }
        let mut response = (status, Body::from(body.to_string())).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn status(kind: Kind) -> StatusCode {
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
