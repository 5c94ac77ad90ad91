//! Requests with the header `idempotency-key`: done once, and answered again from what was kept.
//!
//! What it promises: only who proved who they are, and may ask this now, takes a key or gets an answer of before, by the
//! same stages as any request; a request that is not run makes one record, takes nothing from any limit and costs nothing;
//! a complete answer is kept before its last byte leaves, and what failed or broke off is not; no more than `max_body` is
//! held in memory for it.
//!
//! What it refuses to know: where answers are kept, how they are sealed, what they say.

mod keeping;
mod recording;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use penstock_domain::{Credential, Request, Stage};
use penstock_flow::{Flow, Scope};
use penstock_idempotency::{Ask, Begun, Kept, Key, Print};

use crate::edge::{Outcome, Visit, refused};
use crate::error::Refused;
use crate::reply::Reply;

pub(crate) use keeping::Keeping;
pub(crate) use recording::Recording;

/// What a client calls its request.
pub(crate) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is one of before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Headers that change what a request means, beside its body's type.
const MEANING: [HeaderName; 4] = [
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("penstock-resume"),
];

/// A request that stands before the path.
pub(crate) struct Standing<'a> {
    pub(crate) flow: &'a Arc<Flow>,
    pub(crate) request: &'a Request,
    pub(crate) credential: &'a Credential,
    pub(crate) scope: Scope,
    /// The route's pattern, the path and the query.
    pub(crate) line: (&'static str, &'a str, Option<&'a str>),
    pub(crate) headers: &'a HeaderMap,
}

/// What becomes of it.
pub(crate) enum Once {
    /// It goes down the path; its answer is kept where a recording is made.
    Path(Option<Box<Recording>>),
    /// It was answered before.
    Replay(Response<Reply>),
}

impl Visit<'_> {
    /// Decides whether a request runs. Without the header this costs one look.
    ///
    /// # Errors
    /// `invalid_value` for a header that is no key; `idempotency_in_progress`; `idempotency_key_reused`;
    /// `store_unavailable`; whatever refuses its asker. It has been recorded then.
    pub(crate) async fn once(&self, standing: Standing<'_>) -> Result<Once, Box<Refused>> {
        if !standing.headers.contains_key(&KEY) {
            return Ok(Once::Path(None));
        }
        Box::pin(self.keyed(standing)).await
    }

    async fn keyed(&self, standing: Standing<'_>) -> Result<Once, Box<Refused>> {
        let Standing { flow, request, credential, scope, .. } = standing;
        // Who may not ask is refused on the path, with a record, like everybody else.
        let Ok(caller) = flow.may_ask(request, credential, scope) else { return Ok(Once::Path(None)) };
        let (kept, trouble) = match self.begun(&standing, caller.key_id.as_str()).await {
            Ok(Begun::Run(running)) => {
                return Ok(Once::Path(Some(Box::new(Recording::begin(running, request, self.id)))));
            }
            Ok(Begun::Replay(kept)) => (Some(kept), None),
            Err(error) => (None, Some(error.at(Stage::Admit))),
        };
        // The flow makes the record, whichever way this ends.
        self.recorded.store(true, Ordering::Relaxed);
        flow.replay(request, credential, scope, trouble).map_err(|refusal| refused(*refusal))?;
        kept.as_ref().map(replay).unwrap_or_else(|| Ok(Response::new(Reply::whole("")))).map(Once::Replay)
    }

    async fn begun(&self, standing: &Standing<'_>, tenant: &str) -> Result<Begun, penstock_domain::Error> {
        let Standing { request, headers, line: (pattern, path, query), .. } = standing;
        let key = Key::read(headers.get_all(KEY).iter().map(HeaderValue::as_bytes))?;
        let mut print = Print::begin(path, *query);
        for name in &MEANING {
            for value in headers.get_all(name) {
                print = print.with(value.as_bytes());
            }
            print = print.with(b"");
        }
        let media = headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let print = print.body(media, request.body.bytes());
        let route = format!("POST {pattern}");
        let ask = Ask { key: &key, tenant, route: &route, print: &print };
        self.edge.extra.idempotency.begin(ask).await
    }
}

/// The response of an answer of before.
fn replay(kept: &Kept) -> Outcome {
    let mut response = Response::new(Reply::whole(kept.body.clone()));
    *response.status_mut() = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    headers.reserve(kept.headers.len() + 8);
    for (name, value) in &kept.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(&**name), HeaderValue::from_maybe_shared(value.clone()))
        {
            headers.append(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
