//! Requests for which there is no route of ours, passed on as bytes where the operator configured a `relay`.
//!
//! What it promises: only five methods and straight paths pass, in the one spelling that nobody reads in another way; of
//! the asker's headers only those listed here; a body within the bounds of any other; the answer leaves as it comes, and
//! is broken off when it breaks.
//!
//! What it refuses to know: what the bytes mean, and whose objects they are about. See docs/relay.md.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use http::{HeaderMap, HeaderName, Response, StatusCode, request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use penstock_domain::{
    Body as Asked, Code, Credential, Delta, Dialect, Error, Origin, Passage, Relayed, RelayedHead, Request,
    Stage, Tags, Task,
};
use penstock_flow::{Flow, Scope};
use penstock_identity::{Method, Needs, Operation, Parameter, Place, Reply as Described, Route};
use penstock_provider::Deltas;

use crate::decode;
use crate::drain::{Drain, shutdown};
use crate::edge::{Outcome, Visit, refused};
use crate::error::Refused;
use crate::idempotency::{Once, Recording, Standing};
use crate::intake::Seat;
use crate::reply::{self, Reply};
use crate::routes::{Handler, MESSAGES};
use crate::{Surface, upload};

/// What the relay needs of its caller.
const RELAY: Scope = Scope::new("relay", "invoke");

/// The pattern of relayed paths.
const PATTERN: &str = "/v1/{path}";
/// Where they begin.
const ROOT: &str = "/v1";
/// The longest path and the longest query that are passed on, in bytes.
const LONGEST_PATH: usize = 1024;
const LONGEST_QUERY: usize = 4096;
/// The longest header value that is passed on, in bytes.
const LONGEST_VALUE: usize = 1024;

/// Headers of the asker that go on. Not among them: credentials, cookies, hosts, and whatever belongs to the connection.
const FORTH: &[&str] = &["accept", "content-type", "openai-beta"];

/// The rows of the relay. They stand behind all others and hold only for paths that the operator's `relay` covers.
pub const ROWS: &[Route<Handler>] = &[
    row(Method::Get, "relayGet"),
    row(Method::Post, "relayPost"),
    row(Method::Put, "relayPut"),
    row(Method::Patch, "relayPatch"),
    row(Method::Delete, "relayDelete"),
];

const fn row(method: Method, id: &'static str) -> Route<Handler> {
    Route {
        method,
        path: PATTERN,
        needs: Needs::Scope(RELAY),
        operation: Operation {
            id,
            tag: "relay",
            summary: "Passes on what no other route answers, to the provider of the setting `relay`; off by default",
            parameters: &[Parameter {
                name: "path",
                place: Place::Path,
                about: "the path in the vendor's API; it may contain slashes",
                kind: "string",
            }],
            request: "",
            replies: &[Described { status: 200, about: "what the vendor answers", media: "*/*", schema: "" }],
        },
        handler: Handler::Relay,
    }
}

/// Whether a request line is one that can be relayed at all, and its path below the root.
fn below_root<'p>(method: &http::Method, path: &'p str) -> Option<(&'static str, &'p str)> {
    let row = ROWS.iter().find(|row| row.method.name() == method.as_str())?;
    let below = path.strip_prefix(ROOT).filter(|below| below.starts_with('/'))?;
    let messages = path.strip_prefix(MESSAGES).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (!messages && path.len() <= LONGEST_PATH && is_straight(below)).then_some((row.method.name(), below))
}

/// Whether a path says the same to everybody who reads it, however often they decode it: no empty and no dot segments,
/// and no letter encoded that would be one of those, a separator, a control character or another `%`.
fn is_straight(path: &str) -> bool {
    let segments = path.split('/').skip(1);
    for segment in segments {
        if matches!(segment, "" | "." | "..") {
            return false;
        }
        let mut bytes = segment.bytes();
        while let Some(byte) = bytes.next() {
            let plain = match byte {
                b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                    (Some(high), Some(low)) => {
                        let decoded = high << 4 | low;
                        decoded > b' ' && !matches!(decoded, b'/' | b'\\' | b'%' | b'.' | 0x7f)
                    }
                    _ => false,
                },
                byte => byte.is_ascii_graphic() && !matches!(byte, b'\\' | b';'),
            };
            if !plain {
                return false;
            }
        }
    }
    true
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The headers of the asker that go on.
fn forth(headers: &HeaderMap) -> Vec<(&'static str, Bytes)> {
    let known = |name: &&'static str| {
        let value = headers.get(*name)?.as_bytes();
        (value.len() <= LONGEST_VALUE).then(|| (*name, Bytes::copy_from_slice(value)))
    };
    FORTH.iter().filter_map(known).collect()
}

/// The body of a request that is passed on.
pub(crate) enum Sent {
    /// It is still coming.
    Coming(Incoming),
    /// A route of ours has read it.
    Read(Bytes),
}

impl From<Incoming> for Sent {
    fn from(body: Incoming) -> Self {
        Self::Coming(body)
    }
}

impl From<Option<Bytes>> for Sent {
    /// Routes of ours that read no body have none that matters.
    fn from(body: Option<Bytes>) -> Self {
        Self::Read(body.unwrap_or_default())
    }
}

impl Visit<'_> {
    /// Whether the relay takes a request that no route of ours takes.
    pub(crate) fn relays(&self, parts: &request::Parts) -> bool {
        let below = below_root(&parts.method, parts.uri.path());
        self.edge.settings.surface != Surface::Admin
            && below.is_some_and(|(_, path)| self.edge.gateway.snapshot().relays(path))
    }

    /// Whether the relay takes a request for an object that we do not hold: only for a caller who may relay it. To all
    /// others it must look like one that exists nowhere.
    pub(crate) fn relays_for(&self, parts: &request::Parts) -> bool {
        let Some((_, path)) = below_root(&parts.method, parts.uri.path()) else { return false };
        let flow = self.edge.gateway.snapshot();
        let family = path.split('/').nth(1);
        self.relays(parts)
            && flow
                .authorize(&self.credential(&parts.headers), RELAY, family)
                .is_ok_and(|caller| caller.models.patterns().is_none())
    }

    /// Passes a request on and its answer back.
    pub(crate) async fn relay(&self, parts: &request::Parts, body: Sent) -> Outcome {
        let flow = self.edge.gateway.snapshot();
        let credential = self.credential(&parts.headers);
        let (request, seat) = match self.passage(parts, body, (&flow, &credential)).await {
            Ok(taken) => taken,
            Err(error) => {
                let error = error.at(Stage::Decode);
                self.refuse(Some(Task::Relay), &error);
                return Err(error.into());
            }
        };
        let (request, recording) = match self.once_relayed(parts, &flow, request, &credential).await? {
            Ok(begun) => begun,
            Err(response) => return Ok(response),
        };
        self.recorded.store(true, Ordering::Relaxed);
        let drain = self.edge.drain.clone();
        let run = pin!(flow.run(request, credential, RELAY));
        let run = drain.unless_over(run);
        let mut answer = run.await.map_err(|error| error.at(Stage::Call))?.map_err(refused)?;
        let head = match answer.deltas.next().await {
            Some(Delta::Relayed(Relayed::Head(head))) => *head,
            Some(Delta::Failed(error)) => return Err(error.into()),
            _ => return Err(strange().into()),
        };
        let mut response = head_of(&head)?;
        reply::describe(response.headers_mut(), &answer.head, Dialect::OpenAi);
        // Nobody polls a body that has no bytes, and an answer settles only at its end.
        let empty = head.length == Some(0) || matches!(head.status, 204 | 304);
        if empty && let Some(Delta::Failed(error)) = drain.unless_over(answer.deltas.next()).await? {
            return Err(error.into());
        }
        let body = Passing { deltas: Some(answer.deltas), left: head.length, last: None, drain };
        let response = response.map(|()| Reply::routed(axum::body::Body::new(body)).seated(seat));
        match recording {
            Some(recording) => Ok(recording.of(response).await),
            None => Ok(response),
        }
    }

    /// Decides whether a relayed request runs. The vendor gets a key of our own making: two tenants who chose the same one
    /// would otherwise meet at the vendor, behind our one credential.
    async fn once_relayed(
        &self,
        parts: &request::Parts,
        flow: &Arc<Flow>,
        request: Request,
        credential: &Credential,
    ) -> Result<Result<(Request, Option<Box<Recording>>), Response<Reply>>, Box<Refused>> {
        if parts.method != http::Method::POST {
            return Ok(Ok((request, None)));
        }
        let standing = Standing {
            flow,
            request: &request,
            credential,
            scope: RELAY,
            line: (PATTERN, parts.uri.path(), parts.uri.query()),
            headers: &parts.headers,
        };
        Ok(match self.once(standing).await? {
            Once::Path(Some(recording)) => {
                let mut passage = request.body.passage().cloned().ok_or_else(strange)?;
                passage.headers.push(("idempotency-key", recording.pseudonym()));
                let body = Asked::relayed(Dialect::OpenAi, request.body.bytes().clone(), passage);
                Ok((Request { body, ..request }, Some(recording)))
            }
            Once::Path(None) => Ok((request, None)),
            Once::Replay(response) => Err(response),
        })
    }

    async fn passage(
        &self,
        parts: &request::Parts,
        body: Sent,
        (flow, credential): (&Flow, &Credential),
    ) -> Result<(Request, Seat), Error> {
        let headers = &parts.headers;
        let (method, path) = below_root(&parts.method, parts.uri.path()).ok_or_else(strange)?;
        let query = parts.uri.query().filter(|query| !query.is_empty());
        if query
            .is_some_and(|query| query.len() > LONGEST_QUERY || !query.bytes().all(|b| b.is_ascii_graphic()))
        {
            let say = format!("expected a query of at most {LONGEST_QUERY} visible ASCII characters");
            return Err(Error::new(Code::InvalidRequest, say));
        }
        let wait = decode::wait(headers, None, true)?;
        let settings = &self.edge.settings;
        let empty = match &body {
            Sent::Read(_) => true,
            Sent::Coming(body) => body.is_end_stream(),
        };
        let entry = self.edge.intake.enter(flow, (headers, credential), (settings.max_body, empty));
        let (bytes, entry) = match (body, entry) {
            (Sent::Read(bytes), entry) => (bytes, entry?),
            (Sent::Coming(body), Err(error)) => return Err(upload::leave(body, error)),
            (Sent::Coming(body), Ok(mut entry)) => {
                upload::check_coding(headers)?;
                (upload::read(headers, body, settings, Some(&mut entry)).await?, entry)
            }
        };
        let passage =
            Passage { method, path: path.into(), query: query.map(Into::into), headers: forth(headers) };
        let request = Request {
            id: self.id.clone(),
            origin: Origin::Http,
            arrived: Some(self.arrived),
            hints: Default::default(),
            task: Task::Relay,
            model: path.into(),
            stream: false,
            stream_usage: false,
            max_output_tokens: None,
            choices: 1,
            deadline: wait.map(|wait| self.arrived + wait),
            tags: Tags::default(),
            residency: None,
            priority: None,
            resume: Default::default(),
            body: Asked::relayed(Dialect::OpenAi, bytes, passage),
        };
        Ok((request, entry.seat))
    }
}

/// The response's head: the vendor's status and what of its headers goes on.
fn head_of(head: &RelayedHead) -> Result<Response<()>, Error> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).map_err(|_| strange())?;
    let headers = response.headers_mut();
    headers.reserve(head.headers.len() + 14);
    // Whatever it is, it is no page of this host.
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    for (name, value) in &head.headers {
        if let Ok(value) = HeaderValue::from_maybe_shared(value.clone()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok(response)
}

fn strange() -> Error {
    Error::new(Code::InternalError, "a relayed request was answered with something else")
}

/// A relayed answer on its way out. What breaks it breaks the connection: a client must not take half a file for a whole.
struct Passing {
    deltas: Option<Deltas>,
    /// What is still to come, in bytes, where the vendor told.
    left: Option<u64>,
    /// The last bytes of a known length, held until the answer has come to its end: nobody polls for more after them.
    last: Option<Bytes>,
    drain: Drain,
}

impl Body for Passing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.drain.is_over() && self.deltas.take().is_some() {
            return Poll::Ready(Some(Err(shutdown().at(Stage::Reply))));
        }
        let this = &mut *self;
        let polled = loop {
            let Some(deltas) = this.deltas.as_mut() else { return Poll::Ready(None) };
            match std::task::ready!(deltas.as_mut().poll_next(context)) {
                Some(Delta::Relayed(Relayed::Bytes(bytes))) => {
                    this.left = this.left.map(|left| left.saturating_sub(bytes.len() as u64));
                    if this.left != Some(0) {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                    // More than was told is not sent on.
                    this.last.get_or_insert(bytes);
                }
                None => break this.last.take().map(|bytes| Ok(Frame::data(bytes))),
                Some(Delta::Failed(error)) => break Some(Err(error)),
                Some(_) => break Some(Err(strange().at(Stage::Reply))),
            }
        };
        this.deltas = None;
        Poll::Ready(polled)
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.last.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_straight_paths_below_the_root_pass() {
        let passes = |method: &str, path: &str| {
            below_root(&method.parse().unwrap(), path).map(|(_, below)| below.to_owned())
        };
        assert_eq!(passes("GET", "/v1/files/file_1/content").as_deref(), Some("/files/file_1/content"));
        assert_eq!(passes("POST", "/v1/fine_tuning/checkpoints/ft:gpt-4o:a%20").as_deref(), None);
        assert_eq!(
            passes("DELETE", "/v1/models/ft:gpt-4o:a%C3%BC").as_deref(),
            Some("/models/ft:gpt-4o:a%C3%BC")
        );
        for odd in [
            "/v1",
            "/v1/",
            "/v1/files/",
            "/v1//files",
            "/v1/files/../organization",
            "/v1/files/./x",
            "/v1/files/%2e%2E/x",
            "/v1/files/.%2e",
            "/v1/files/..%2fx",
            "/v1/files/%5c..%5cx",
            "/v1/files/%252e%252e",
            "/v1/files/%00",
            "/v1/files/%0d%0ax",
            "/v1/files/%7f",
            "/v1/files/%",
            "/v1/files/%zz",
            "/v1/files;x=y",
            "/v1/files\\..",
            "/v2/files",
            "/v1files",
            "//v1/files",
            "/v1/messages/batches",
            "/v1/messages",
        ] {
            assert_eq!(passes("GET", odd), None, "{odd}");
        }
        assert_eq!(passes("GET", &format!("/v1/{}", "x".repeat(2000))), None);
        for method in ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"] {
            assert_eq!(passes(method, "/v1/files"), None, "{method}");
        }
    }

    #[test]
    fn only_listed_headers_go_on() {
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "x-api-key",
            "api-key",
            "cookie",
            "host",
            "connection",
            "te",
            "upgrade",
            "transfer-encoding",
            "x-forwarded-for",
            "openai-organization",
            "openai-project",
            "accept",
            "openai-beta",
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        let names: Vec<_> = forth(&headers).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["accept", "openai-beta"]);
    }
}
