//! Pages for people and probes: health, metrics, documentation. Everything is embedded; nothing is fetched.

use std::fmt::Write as _;

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use penstock_domain::{Code, Error};
use penstock_identity::KNOWN_SCOPES;
use penstock_provider::Health;
use serde_json::{Map, Value, json};

use crate::edge::{self, Inner};
use crate::reply::Reply;

/// Name and text of every page of `docs/errors`.
const ERROR_PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));

const HTML: &str = "text/html; charset=utf-8";
/// Only our own script and style, no frames, no other site.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether requests can be served. A provider that is down does not matter while another is up; it is listed.
pub(crate) fn ready(edge: &Inner) -> Response<Reply> {
    let health = edge.gateway.snapshot().health();
    let store = (edge.extra.store)();
    let any = |wanted: fn(&Health) -> bool| health.iter().any(|(_, health)| wanted(health));
    let status = if edge.drain.is_draining() {
        "draining"
    } else if store.is_err() {
        "unavailable"
    } else if any(|health| matches!(health, Health::Ready)) {
        "ready"
    } else if any(|health| matches!(health, Health::Starting)) {
        "starting"
    } else {
        "unavailable"
    };
    let providers: Map<String, Value> =
        health.iter().map(|(name, health)| (name.to_string(), tell(health))).collect();
    let store = match store {
        Ok(()) => json!({"status": "ready"}),
        Err(reason) => json!({"status": "unavailable", "reason": reason}),
    };
    let body = json!({"status": status, "store": store, "providers": providers});
    let mut response = edge::json(body.to_string());
    if status != "ready" {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// How to get in with an access token (RFC 9728).
///
/// # Errors
/// `route_not_found` where no tokens are taken.
pub(crate) fn resource(edge: &Inner) -> Result<Response<Reply>, Error> {
    let Some(resource) = edge.gateway.snapshot().resource() else {
        return Err(Error::new(Code::RouteNotFound, "this gateway takes API keys and no access tokens"));
    };
    let scopes: Vec<String> = KNOWN_SCOPES
        .iter()
        .flat_map(|(family, actions)| actions.iter().map(move |action| format!("{family}:{action}")))
        .collect();
    let issuers: Vec<&str> = resource.issuers.iter().map(|issuer| &**issuer).collect();
    let body = json!({
        "resource": &*resource.address,
        "resource_name": "Penstock",
        "authorization_servers": issuers,
        "bearer_methods_supported": ["header"],
        "scopes_supported": scopes,
    });
    Ok(edge::json(body.to_string()))
}

fn tell(health: &Health) -> Value {
    match health {
        Health::Ready => json!({"status": "ready"}),
        Health::Starting => json!({"status": "starting"}),
        Health::Unavailable(reason) => json!({"status": "unavailable", "reason": reason}),
    }
}

pub(crate) fn metrics(edge: &Inner) -> Response<Reply> {
    page("application/openmetrics-text; version=1.0.0; charset=utf-8", (edge.extra.metrics)())
}

pub(crate) fn home() -> Response<Reply> {
    html(include_str!("pages/home.html"))
}

pub(crate) fn docs() -> Response<Reply> {
    html(include_str!("pages/docs.html"))
}

pub(crate) fn docs_script() -> Response<Reply> {
    page("text/javascript; charset=utf-8", include_str!("pages/docs.js"))
}

/// The page of one code, as Markdown.
///
/// # Errors
/// `not_found`.
pub(crate) fn error_page(code: &str) -> Result<Response<Reply>, Error> {
    // The pages link each other by file name.
    let code = code.strip_suffix(".md").unwrap_or(code);
    if let Some((_, text)) = ERROR_PAGES.iter().find(|(name, _)| *name == code) {
        return Ok(page("text/markdown; charset=utf-8", *text));
    }
    let mut say = String::from("there is no such error code; known are");
    for code in Code::ALL {
        let _ = write!(say, " {code}");
    }
    Err(Error::new(Code::NotFound, say))
}

fn html(text: &'static str) -> Response<Reply> {
    let mut response = page(HTML, text);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn page(media: &'static str, text: impl Into<bytes::Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::{Drain, EdgeSettings, Extra};

    struct Nobody;

    impl penstock_observe::Recorder for Nobody {
        fn begin(&self) {}

        fn end(&self, _: penstock_observe::Record) {}
    }

    struct Up;

    impl penstock_provider::Provider for Up {
        fn kind(&self) -> &'static str {
            "up"
        }
    }

    #[test]
    fn a_gateway_is_ready_until_its_drain_begins() {
        let up: Arc<dyn penstock_provider::Provider> = Arc::new(Up);
        let parts = penstock_flow::Parts {
            keys: Arc::new(penstock_identity::KeyRing::new(penstock_identity::Pepper::new([7; 32]))),
            admission: Arc::new(penstock_admission::Admission::new(Instant::now())),
            rules: Default::default(),
            catalogue: penstock_routing::Catalogue::new([]),
            fleet: Default::default(),
            doors: Default::default(),
            shares: Default::default(),
            bounds: HashMap::new(),
            providers: HashMap::from([("up".into(), up)]),
            captures: penstock_flow::Captures::default(),
            recorder: Arc::new(Nobody),
            made: SystemTime::now(),
        };
        let edge = crate::Edge::new(
            penstock_flow::Gateway::new(parts),
            EdgeSettings::default(),
            Extra::default(),
            Drain::new(),
        )
        .0;
        assert_eq!(ready(&edge).status(), StatusCode::OK);
        edge.drain.begin();
        assert_eq!(ready(&edge).status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn every_code_has_a_page_that_begins_with_its_meaning() {
        for code in Code::ALL {
            let page = ERROR_PAGES.iter().find(|(name, _)| *name == code.name());
            let (_, text) = page.unwrap_or_else(|| panic!("docs/errors/{code}.md is missing: write it"));
            assert!(text.contains(code.meaning()), "docs/errors/{code}.md does not say: {}", code.meaning());
        }
    }

    #[test]
    fn pages_load_nothing_from_elsewhere() {
        for text in
            [include_str!("pages/home.html"), include_str!("pages/docs.html"), include_str!("pages/docs.js")]
        {
            assert!(!text.contains("://"), "a page names another site");
            assert!(!text.contains("innerHTML"), "text is written as text");
        }
    }
}
