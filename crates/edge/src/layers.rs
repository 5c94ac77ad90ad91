//! What every request passes, whatever its route: an id, the panic guard, the `Host` and `Origin` checks, the headers
//! that every response carries. One function instead of a stack of boxed layers: this is the hot path.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::FutureExt;
use http::header::{HOST, ORIGIN, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use penstock_domain::{Code, Error, RequestId, Stage};
use penstock_flow::Seen;

use crate::edge::{Inner, Visit};
use crate::error::{self, Refused, Shape};
use crate::reply::Reply;
use crate::request_id;
use crate::routes::{self, Found};
use crate::visitor;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");

/// Answers one request. Never fails and never panics: whatever happens becomes a response.
pub(crate) async fn guarded(
    edge: &Inner,
    request: Request<Incoming>,
    peer: Option<IpAddr>,
    ambiguous: bool,
) -> Response<Reply> {
    let arrived = Instant::now();
    let (id, id_value) = request_id::draw();
    let shape = Shape::of(request.uri().path(), request.headers());
    label(&id, request.headers());
    let recorded = AtomicBool::new(false);
    let from = visitor::address(peer, request.headers(), &edge.settings.trusted_proxies);
    let visit = Visit { edge, id: &id, arrived, from, recorded: &recorded, kept: OnceLock::new() };
    let outcome = AssertUnwindSafe(answer(&visit, request, ambiguous)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| {
        Err(Error::new(Code::InternalError, "the gateway failed while answering; the log has the cause")
            .into())
    });
    let mut response = outcome.unwrap_or_else(|refused| {
        if !recorded.load(Ordering::Relaxed) {
            visit.refuse(None, &refused.error);
        }
        error::response(&refused, shape, &id)
    });
    if response.status() == StatusCode::UNAUTHORIZED {
        show_the_way(edge, response.headers_mut());
    }
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, id_value.clone());
    headers.insert(REQUEST_ID, id_value);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Says where a token can be had, where tokens are taken (RFC 9728, 5.1).
fn show_the_way(edge: &Inner, headers: &mut HeaderMap) {
    let Some(challenge) = edge.gateway.snapshot().challenge() else { return };
    let before = headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or("Bearer");
    let between = if before == "Bearer" { " " } else { ", " };
    if let Ok(value) = HeaderValue::try_from(format!("{before}{between}{challenge}")) {
        headers.insert(WWW_AUTHENTICATE, value);
    }
}

async fn answer(
    visit: &Visit<'_>,
    request: Request<Incoming>,
    ambiguous: bool,
) -> Result<Response<Reply>, Box<Refused>> {
    if ambiguous {
        let say = "the request head can be read in two ways (bare line feeds, or content-length beside transfer-encoding)";
        let error = Error::new(Code::InvalidRequest, say).at(Stage::Decode);
        return Err(Box::new(Refused { error, head: None, allow: None, close: true }));
    }
    let settings = &visit.edge.settings;
    check_host(request.method(), request.uri(), request.headers(), (&settings.hosts, &settings.console))
        .map_err(|error| error.at(Stage::Decode))?;
    let (parts, body) = request.into_parts();
    if let Some(inquiry) = visit.edge.gateway.inquiry(|| visit.credential(&parts.headers)) {
        visit.edge.drain.unless_over(inquiry).await?;
    }
    match routes::find(&parts.method, parts.uri.path(), visit.edge.settings.surface) {
        Ok(Found::Row(route, rest)) => {
            let served = visit.serve(route, (rest, parts.uri.query()), &parts.headers, body).await;
            match served {
                // Not ours: the vendor may hold it.
                Err(refused) if route.handler.misses(&refused.error) && !visit.is_recorded() => {
                    if visit.relays_for(&parts) {
                        return Box::pin(visit.relay(&parts, visit.kept.get().cloned().into())).await;
                    }
                    visit.refuse(route.handler.task(), &refused.error);
                    Err(refused)
                }
                served => served,
            }
        }
        // What is rare is boxed: every request would carry room for it.
        Ok(Found::Admin) => Box::pin(visit.admin(parts, body)).await,
        Err(_) if visit.relays(&parts) => Box::pin(visit.relay(&parts, body.into())).await,
        Err(lost) => Err(Box::new(Refused {
            error: lost.error.at(Stage::Decode),
            head: None,
            allow: lost.allow,
            close: false,
        })),
    }
}

impl Visit<'_> {
    fn is_recorded(&self) -> bool {
        self.recorded.load(Ordering::Relaxed)
    }

    /// Records a request that never reached the flow.
    pub(crate) fn refuse(&self, task: Option<penstock_domain::Task>, error: &Error) {
        self.recorded.store(true, Ordering::Relaxed);
        self.edge
            .gateway
            .snapshot()
            .refuse(Seen { id: self.id.clone(), task, arrived: Some(self.arrived) }, error);
    }
}

/// A client's own id is a label in the log and nothing else: it names no request here.
fn label(id: &RequestId, headers: &HeaderMap) {
    if let Some(value) = headers.get(CLIENT_REQUEST_ID).and_then(|value| value.to_str().ok()) {
        let value = value.get(..128).unwrap_or(value);
        tracing::debug!(request = %id, client_request_id = value, "client's own id");
    }
}

/// Refuses foreign hosts where hosts are listed, and browsers that act for another site.
///
/// A browser sends `Origin` with everything that changes something. It must name the host that the request names, and
/// that host must be one that an attacker's DNS cannot point here: listed, an IP address, or localhost.
///
/// # Errors
/// `forbidden_origin`, and `invalid_request` for more than one `Host`.
fn check_host(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    (hosts, console): (&[String], &[String]),
) -> Result<(), Error> {
    let mut named = headers.get_all(HOST).iter();
    let host = named.next();
    if named.next().is_some() {
        return Err(Error::new(Code::InvalidRequest, "a request has one host header, found several"));
    }
    let origin =
        headers.get(ORIGIN).filter(|_| !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS));
    if hosts.is_empty() && origin.is_none() {
        return Ok(());
    }
    // An absolute-form target outranks the header (RFC 9112, 3.2.2); HTTP/2 has only the target.
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => host.and_then(|host| host.to_str().ok()).unwrap_or_default(),
    };
    let name = host_name(authority);
    let listed =
        hosts.iter().any(|known| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(authority));
    if !hosts.is_empty() && !listed && !unfakeable(name) {
        return Err(Error::new(
            Code::ForbiddenOrigin,
            "this gateway is not addressed under this host name; server.hosts lists those it answers to",
        ));
    }
    let Some(origin) = origin else { return Ok(()) };
    let same =
        origin.to_str().ok().and_then(|origin| origin.split_once("://")).is_some_and(|(scheme, rest)| {
            matches!(scheme, "http" | "https")
                && rest.eq_ignore_ascii_case(authority)
                && !authority.is_empty()
        });
    // Where people sign in the operator has named the host.
    let console = console.iter().any(|known| known.eq_ignore_ascii_case(authority));
    if same && (listed || console || unfakeable(name)) {
        return Ok(());
    }
    Err(Error::new(Code::ForbiddenOrigin, "a web page of another origin may not send this request"))
}

/// The host without its port.
fn host_name(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => authority.rsplit_once(':').map_or(authority, |(name, _)| name),
    }
}

/// Whether no DNS answer of a stranger can make this name mean this machine.
fn unfakeable(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &str, uri: &str, pairs: &[(&'static str, &str)], hosts: &[&str]) -> Option<Code> {
        let headers =
            pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect();
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let console = ["console.example:8443".to_owned()];
        check_host(&method.parse().unwrap(), &uri.parse().unwrap(), &headers, (&hosts, &console))
            .err()
            .map(|error| error.code())
    }

    const FORBIDDEN: Option<Code> = Some(Code::ForbiddenOrigin);

    #[test]
    fn programs_without_origin_pass_under_any_host() {
        assert_eq!(verdict("POST", "/", &[("host", "gateway.example")], &[]), None);
        assert_eq!(verdict("POST", "/", &[], &[]), None);
    }

    #[test]
    fn pages_of_the_same_unfakeable_host_may_act() {
        for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "10.0.0.7"] {
            let origin = format!("http://{host}");
            assert_eq!(verdict("POST", "/", &[("host", host), ("origin", &origin)], &[]), None, "{host}");
        }
        let pairs = [("host", "gw.example"), ("origin", "https://gw.example")];
        assert_eq!(verdict("POST", "/", &pairs, &["gw.example"]), None);
        let pairs = [("host", "console.example:8443"), ("origin", "https://console.example:8443")];
        assert_eq!(verdict("POST", "/", &pairs, &[]), None, "where people sign in");
        let pairs = [("host", "console.example"), ("origin", "https://console.example")];
        assert_eq!(verdict("POST", "/", &pairs, &[]), FORBIDDEN, "another port is another origin");
    }

    #[test]
    fn foreign_pages_may_not_act() {
        for (host, origin) in [
            ("127.0.0.1:8080", "https://evil.example"),
            ("127.0.0.1:8080", "http://127.0.0.1:9090"),
            ("127.0.0.1:8080", "null"),
            ("127.0.0.1:8080", "ftp://127.0.0.1:8080"),
            // DNS rebinding: name and origin agree, and both are the attacker's.
            ("evil.example", "http://evil.example"),
            ("", "http://"),
        ] {
            let pairs = [("host", host), ("origin", origin)];
            assert_eq!(verdict("POST", "/", &pairs, &[]), FORBIDDEN, "{host} {origin}");
            assert_eq!(verdict("GET", "/", &pairs, &[]), None, "reading is not acting: {host} {origin}");
        }
    }

    #[test]
    fn listed_hosts_exclude_all_other_names_but_addresses() {
        assert_eq!(verdict("GET", "/", &[("host", "evil.example")], &["gw.example"]), FORBIDDEN);
        assert_eq!(verdict("GET", "/", &[("host", "gw.example:443")], &["gw.example"]), None);
        assert_eq!(verdict("GET", "/", &[("host", "127.0.0.1")], &["gw.example"]), None);
        assert_eq!(
            verdict("GET", "http://evil.example/", &[("host", "gw.example")], &["gw.example"]),
            FORBIDDEN
        );
    }

    #[test]
    fn two_hosts_are_refused() {
        assert_eq!(verdict("GET", "/", &[("host", "a"), ("host", "b")], &[]), Some(Code::InvalidRequest));
    }
}
