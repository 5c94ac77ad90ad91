//! From a matched route to its answer: authorise by the row, read the body, do, answer.

use std::net::IpAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use penstock_domain::{Code, Credential, Error, RequestId};
use penstock_identity::{AuditEvent, Caller, Denial, Method, Needs, Route, credential};
use serde_json::{Map, Value, json};

use crate::keys::Answer;
use crate::problem::Refusal;
use crate::session::{self, Who};
use crate::{Handler, MAX_BODY, Parts, ROUTES, audit, deliveries, keys, once, requests, spend, teams, usage};

/// The admin API as a router. A [`RequestId`] among the request's extensions becomes the `instance` of problems.
pub fn router(parts: Parts) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let answer = move |state: State<Parts>, path: RawPathParams, request: Request| {
            serve(route, state, path, request)
        };
        router = router.route(route.path, on(filter(route.method), answer));
    }
    router
        .method_not_allowed_fallback(|request: Request| async move {
            let say = "this path exists, but not with this method; see the allow header";
            refuse(&request, Error::new(Code::MethodNotAllowed, say))
        })
        .fallback(|request: Request| async move {
            refuse(
                &request,
                Error::new(Code::RouteNotFound, "there is no such path under /admin; /docs lists all"),
            )
        })
        .with_state(parts)
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    }
}

fn refuse(request: &Request, error: Error) -> Response {
    Refusal::from(error).response(request.extensions().get::<RequestId>())
}

async fn serve(
    route: &'static Route<Handler>,
    State(parts): State<Parts>,
    path: RawPathParams,
    request: Request,
) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    if route.handler.is_special() {
        let answered = special(route, &parts, request).await;
        return answered.unwrap_or_else(|refusal| refusal.response(id.as_ref()));
    }
    let outcome = if once::is_keyed(route, request.headers()) {
        Box::pin(once::once(route, parts, path, request)).await
    } else {
        let outcome = answer(route, &parts, &path, request).await;
        outcome.map(|(status, body)| answered(status, body.to_string().into()))
    };
    match outcome {
        Ok(response) => response,
        Err(refusal) => {
            if let Some(source) = std::error::Error::source(&refusal.error) {
                tracing::warn!(route = route.path, code = %refusal.error.code(), source, "admin request failed");
            }
            refusal.response(id.as_ref())
        }
    }
}

/// The response of an answer in JSON.
pub(crate) fn answered(status: StatusCode, body: Bytes) -> Response {
    let mut response = (status, Body::from(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Some answers hold a key: no cache between here and the asker may keep any.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer that is no JSON, or sets a cookie.
async fn special(route: &Route<Handler>, parts: &Parts, request: Request) -> Result<Response, Refusal> {
    match route.handler {
        Handler::SignIn => return session::begin(parts).await,
        Handler::SignedIn => return session::finish(parts, &request.into_parts().0).await,
        Handler::Dismiss => return session::dismiss(parts, &bytes(request.into_body()).await?).await,
        _ => {}
    }
    let who = who(parts, &request);
    let caller = authorize(route, parts, &who).await?;
    let Needs::Scope(scope) = route.needs else { return Err(open_route().into()) };
    match route.handler {
        Handler::TailRequests => requests::watch(parts, request.uri(), who, scope),
        Handler::SignOut => session::leave(parts, &caller, &who).await,
        _ => spend::spend(parts, request.uri()).await,
    }
}

pub(crate) async fn answer(
    route: &Route<Handler>,
    parts: &Parts,
    path: &RawPathParams,
    request: Request,
) -> Answer {
    let who = who(parts, &request);
    let caller = authorize(route, parts, &who).await?;
    let (head, body) = request.into_parts();
    // No row has more than one.
    let id = path.iter().next().map_or("", |(_, value)| value);
    match route.handler {
        Handler::ListKeys => keys::list(parts, &head.uri),
        Handler::GetKey => keys::get(parts, id),
        Handler::CreateKey => keys::create(parts, &caller, read(&head.headers, body).await?).await,
        Handler::RotateKey => keys::rotate(parts, &caller, id, read(&head.headers, body).await?).await,
        Handler::RevokeKey => keys::revoke(parts, &caller, id).await,
        Handler::RevokeKeys => keys::revoke_all(parts, &caller, read(&head.headers, body).await?).await,
        Handler::ListTeams => teams::list(parts, &head.uri),
        Handler::CreateTeam => teams::create(parts, &caller, read(&head.headers, body).await?).await,
        Handler::GetTeam => teams::get(parts, id),
        Handler::UpdateTeam => teams::update(parts, &caller, id, read(&head.headers, body).await?).await,
        Handler::DeleteTeam => teams::delete(parts, &caller, id).await,
        Handler::ListRequests => requests::list(parts, &head.uri).await,
        Handler::GetRequest => requests::get(parts, &caller, id).await,
        Handler::Audit => audit::list(parts, &head.uri).await,
        Handler::ListDeliveries => deliveries::list(parts, &head.uri).await,
        Handler::Redeliver => deliveries::again(parts, &caller, id).await,
        Handler::Usage => usage::usage(parts, &head.uri).await,
        Handler::Budgets => spend::budgets(parts),
        Handler::Me => session::me(parts, &caller, &who).await,
        Handler::Sessions => session::list(parts).await,
        Handler::EndSession => session::end(parts, &caller, id).await,
        Handler::TailRequests
        | Handler::Spend
        | Handler::SignIn
        | Handler::SignedIn
        | Handler::SignOut
        | Handler::Dismiss => Err(Error::new(Code::InternalError, "this route is wired wrongly").into()),
        Handler::Kinds => Ok((StatusCode::OK, parts.view.kinds())),
        Handler::Providers => Ok((StatusCode::OK, json!({"data": parts.view.providers(None)}))),
        Handler::Reinstate => reinstate(parts, &caller, id).await,
        Handler::Config => Ok((StatusCode::OK, parts.view.config())),
    }
}

/// Forgets what was learnt against a provider; on the audit log before it is answered.
async fn reinstate(parts: &Parts, caller: &Caller, name: &str) -> Answer {
    let known = parts.view.providers(None).into_iter().any(|row| row.name == name);
    if !known {
        return Err(Error::new(Code::NotFound, "there is no provider of this name").into());
    }
    let event = AuditEvent::new((parts.now)(), caller.key_id.as_str(), "provider.reinstate", name);
    parts.audit.append(event).await?;
    let row = parts.view.providers(Some(name)).into_iter().find(|row| row.name == name);
    Ok((StatusCode::OK, json!(row)))
}

/// By the row that matched, never by the address that was sent.
pub(crate) async fn authorize(
    route: &Route<Handler>,
    parts: &Parts,
    who: &Who,
) -> Result<std::sync::Arc<Caller>, Error> {
    let Needs::Scope(scope) = route.needs else {
        return Err(open_route());
    };
    who.admit(parts, scope).await.map_err(|(error, caller)| {
        parts.denials.note(Denial { code: error.code(), caller, what: route.operation.id });
        tracing::debug!(route = route.operation.id, code = %error.code(), "admin access denied");
        error
    })
}

fn open_route() -> Error {
    Error::new(Code::InternalError, "a route of the admin API needs no scope: this is a defect")
}

/// How the asker shows who they are.
pub(crate) fn who(parts: &Parts, request: &Request) -> Who {
    Who::of(parts, shown(request), request.method(), request.headers())
}

/// What the asker shows; the listener put the address that it comes from among the extensions.
fn shown(request: &Request) -> Credential {
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    credential(headers, request.extensions().get::<IpAddr>().copied())
}

/// Reads a body, within its bound.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge has read the body in time; the limit on size is the stricter one here"
)]
pub(crate) async fn bytes(body: Body) -> Result<Bytes, Error> {
    axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| {
        let say = format!("the body is larger than {MAX_BODY} bytes, or did not arrive whole");
        Error::new(Code::RequestTooLarge, say)
    })
}

/// Reads a JSON object. Nothing at all reads as an empty one, because some routes need no member.
async fn read(headers: &HeaderMap, body: Body) -> Result<Map<String, Value>, Error> {
    let bytes = bytes(body).await?;
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    // Browsers cannot send this type to another site without asking first.
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(Error::new(Code::UnsupportedMediaType, "expected content-type application/json"));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::new(Code::InvalidRequest, "expected a JSON object as the body")),
        Err(e) => {
            let say = format!("the body is not valid JSON at line {}, column {}", e.line(), e.column());
            Err(Error::new(Code::InvalidJson, say))
        }
    }
}
