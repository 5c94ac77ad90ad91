//! Requests with the header `idempotency-key`: a change is made once, and answered again from what was kept.

use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use penstock_domain::{Code, Error, RequestId};
use penstock_idempotency::{Ask, Begun, Kept, Key, Print, Stored};
use penstock_identity::{AuditEvent, Caller, Method, Route};

use crate::problem::Refusal;
use crate::serve::{answer, answered, authorize, bytes, who};
use crate::{Handler, Parts};

/// What a client calls its request.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is one of before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Says what became of an answer: `stored`, or why it was not.
const STATE: HeaderName = HeaderName::from_static("penstock-idempotency");
/// The id of the request that an answer of before was made for.
const ORIGINAL: HeaderName = HeaderName::from_static("penstock-original-request-id");

/// Whether a request is to be done once.
pub(crate) fn is_keyed(route: &Route<Handler>, headers: &HeaderMap) -> bool {
    route.method == Method::Post && headers.contains_key(KEY)
}

/// Does it, or gives the answer of before. Its asker is judged by the row of the route either way.
pub(crate) async fn once(
    route: &'static Route<Handler>,
    parts: Parts,
    path: RawPathParams,
    request: Request,
) -> Result<Response, Refusal> {
    let caller = authorize(route, &parts, &who(&parts, &request)).await?;
    let id = request.extensions().get::<RequestId>().cloned();
    let (head, body) = request.into_parts();
    let body = bytes(body).await?;
    let key = Key::read(head.headers.get_all(KEY).iter().map(HeaderValue::as_bytes))?;
    let media = head.headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let print = Print::begin(head.uri.path(), head.uri.query()).body(media, &body);
    let name = format!("{} {}", route.method.name(), route.path);
    let ask = Ask { key: &key, tenant: caller.key_id.as_str(), route: &name, print: &print };
    let running = match parts.idempotency.begin(ask).await? {
        Begun::Replay(kept) => return replay(route, &parts, &caller, kept).await,
        Begun::Run(running) => running,
    };
    let request = Request::from_parts(head, Body::from(body));
    // Goes on when its client leaves: a change that was made half a moment ago is not to be made a second time.
    let doing = tokio::spawn(async move {
        let (status, body) = answer(route, &parts, &path, request).await?;
        let body = Bytes::from(body.to_string());
        let kept = Kept { status: status.as_u16(), headers: original(id.as_ref()), body: body.clone() };
        Ok((status, body, running.keep(kept).await))
    });
    let done: Result<(StatusCode, Bytes, Stored), Refusal> = doing
        .await
        .map_err(|_| Error::new(Code::InternalError, "the gateway failed while it worked on this request"))?;
    let (status, body, stored) = done?;
    let mut response = answered(status, body);
    response.headers_mut().insert(STATE, HeaderValue::from_static(stored.name()));
    Ok(response)
}

fn original(id: Option<&RequestId>) -> Vec<(Box<str>, Bytes)> {
    let id = id.map(|id| Bytes::copy_from_slice(id.as_str().as_bytes()));
    id.map(|id| (ORIGINAL.as_str().into(), id)).into_iter().collect()
}

/// Some answers hold a key: that one was shown again is on the audit log before it is.
async fn replay(
    route: &Route<Handler>,
    parts: &Parts,
    caller: &Caller,
    kept: Kept,
) -> Result<Response, Refusal> {
    let event = AuditEvent::new((parts.now)(), caller.key_id.as_str(), "answer.replay", route.operation.id);
    parts.audit.append(event).await?;
    let mut response = answered(StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK), kept.body);
    let headers = response.headers_mut();
    for (name, value) in kept.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(&*name), HeaderValue::from_maybe_shared(value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
