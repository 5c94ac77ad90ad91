//! The last stage: the answer leaves, whole or as events.

mod rates;
mod sse;
mod whole;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use penstock_domain::{Dialect, Money};
use penstock_flow::Head;
use penstock_provider::Turn;

use crate::idempotency::{Keeping, Recording};
use crate::intake::Seat;
use crate::server::Busy;

pub(crate) use sse::{Events, Source, events};
pub(crate) use whole::whole;

const MODEL: HeaderName = HeaderName::from_static("penstock-model");
const PROVIDER: HeaderName = HeaderName::from_static("penstock-provider");
const ATTEMPTS: HeaderName = HeaderName::from_static("penstock-attempts");
const COST: HeaderName = HeaderName::from_static("penstock-cost");
const CACHE: HeaderName = HeaderName::from_static("penstock-cache");
const DROPPED: HeaderName = HeaderName::from_static("penstock-dropped-params");
const CLAMPED: HeaderName = HeaderName::from_static("penstock-clamped-params");
const ESTIMATED: HeaderName = HeaderName::from_static("penstock-estimated");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The body of every response.
pub(crate) struct Reply {
    kind: Kind,
    /// Tells the connection, when the body is dropped, that it is between requests again.
    busy: Option<Busy>,
    /// The turn of the connection in which there was nothing to send. hyper asks several times per turn.
    quiet: Option<Turn>,
    /// The request's place, given back when the body is dropped.
    seat: Option<Seat>,
}

enum Kind {
    Whole(Option<Bytes>),
    Events(Pin<Box<Events>>),
    Routed(axum::body::Body),
}

impl Reply {
    fn of(kind: Kind) -> Self {
        Self { kind, busy: None, quiet: None, seat: None }
    }

    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::of(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
    }

    pub(crate) fn events(events: Events) -> Self {
        Self::of(Kind::Events(Box::pin(events)))
    }

    pub(crate) fn routed(body: axum::body::Body) -> Self {
        Self::of(Kind::Routed(body))
    }

    /// Has it written down as it leaves. Gives the recording back, with the whole body, where there is nothing to wait for.
    pub(crate) fn recorded(&mut self, recording: Box<Recording>) -> Option<(Box<Recording>, Bytes)> {
        match &mut self.kind {
            Kind::Whole(bytes) => return Some((recording, bytes.clone().unwrap_or_default())),
            Kind::Events(events) => events.record(recording),
            // Nobody polls a body that has no bytes.
            Kind::Routed(body) if body.size_hint().exact() == Some(0) => {
                return Some((recording, Bytes::new()));
            }
            Kind::Routed(body) => {
                let inner = std::mem::replace(body, axum::body::Body::empty());
                *body = axum::body::Body::new(Keeping::new(inner, recording));
            }
        }
        None
    }

    pub(crate) fn seated(mut self, seat: Seat) -> Self {
        self.seat = Some(seat);
        self
    }

    pub(crate) fn keeping(mut self, busy: Busy) -> Self {
        self.busy = Some(busy);
        self
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        match &mut this.kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Events(events) => {
                if let (Some(busy), Some(turn)) = (&this.busy, this.quiet)
                    && busy.is_still(turn)
                {
                    return Poll::Pending;
                }
                let frame: Poll<Option<Result<Frame<Bytes>, Infallible>>> =
                    events.as_mut().poll_frame(context);
                this.quiet = this.busy.as_ref().filter(|_| frame.is_pending()).map(Busy::turn);
                frame.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Kind::Routed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Events(events) => events.is_end_stream(),
            Kind::Routed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Events(_) => SizeHint::default(),
            Kind::Routed(body) => body.size_hint(),
        }
    }
}

/// Writes what is known of an answer into its response headers (contract, section 4); rates as the asker's dialect spells
/// them.
pub(crate) fn describe(headers: &mut HeaderMap, head: &Head, dialect: Dialect) {
    let mut text = |name: HeaderName, value: &Option<Arc<str>>| {
        if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    };
    text(MODEL, &head.model);
    text(PROVIDER, &head.provider);
    headers.insert(ATTEMPTS, HeaderValue::from(head.attempts));
    // There is no cache yet, so every answer goes past it.
    headers.insert(CACHE, HeaderValue::from_static("bypass"));
    if let Some(dropped) = dropped(&head.dropped) {
        headers.insert(DROPPED, dropped);
    }
    if let Some(most) = head.clamped
        && let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(format!("max_tokens={most}")))
    {
        headers.insert(CLAMPED, value);
    }
    if head.estimated {
        headers.insert(ESTIMATED, HeaderValue::from_static("tokens"));
    }
    if let Some(timing) = timings(head) {
        headers.insert(SERVER_TIMING, timing);
    }
    match &head.rate {
        Some(rate) if dialect == Dialect::Anthropic => rates::anthropic(headers, rate, SystemTime::now()),
        Some(rate) => rates::openai(headers, rate),
        None => {}
    }
}

/// Writes what an answer costs, in USD.
pub(crate) fn price(headers: &mut HeaderMap, cost: Money) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(cost.to_string())) {
        headers.insert(COST, value);
    }
}

/// Most bytes of the header that names what a translation lost.
const MAX_DROPPED: usize = 1024;

/// Paths, with commas between them. A caller names members as it likes: what no header can hold becomes `?`, and what
/// goes on too long ends in `...`.
fn dropped(paths: &[String]) -> Option<HeaderValue> {
    let mut out = String::new();
    for path in paths {
        if out.len() + path.len() > MAX_DROPPED {
            out.push_str(", ...");
            break;
        }
        if !out.is_empty() {
            out.push_str(", ");
        }
        let plain = |c: char| if c.is_ascii_graphic() && c != ',' { c } else { '?' };
        out.extend(path.chars().map(plain));
    }
    if out.is_empty() { None } else { HeaderValue::from_str(&out).ok() }
}

/// `decode;dur=0.052, call;dur=13.200`, in milliseconds (W3C Server Timing).
fn timings(head: &Head) -> Option<HeaderValue> {
    let mut out = Vec::with_capacity(128);
    let mut digits = itoa::Buffer::new();
    for (stage, time) in head.timings.iter() {
        if !out.is_empty() {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(stage.name().as_bytes());
        out.extend_from_slice(b";dur=");
        let micros = time.as_micros();
        out.extend_from_slice(digits.format(micros / 1_000).as_bytes());
        let rest = (micros % 1_000) as u16;
        out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10 % 10), digit(rest % 10)]);
    }
    if out.is_empty() { None } else { HeaderValue::from_maybe_shared(Bytes::from(out)).ok() }
}

fn digit(number: u16) -> u8 {
    b'0' + number as u8
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use penstock_domain::Stage;

    use super::*;

    #[test]
    fn what_was_dropped_is_told_within_bounds() {
        let told = |paths: &[&str]| dropped(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
        assert_eq!(told(&[]), None);
        assert_eq!(told(&["seed", "a,b\r\nx: y", "ü"]).unwrap(), "seed, a?b??x:?y, ?");
        let many = vec!["x".repeat(64); 300];
        let value = dropped(&many).unwrap();
        assert!(value.len() < MAX_DROPPED + 64 && value.to_str().unwrap().ends_with(", ..."));
    }

    #[test]
    fn timings_are_milliseconds_with_three_digits() {
        let mut head = Head::default();
        head.timings.add(Stage::Decode, Duration::from_micros(52));
        head.timings.add(Stage::Call, Duration::from_micros(13_205));
        assert_eq!(timings(&head).unwrap(), "decode;dur=0.052, call;dur=13.205");
    }
}
