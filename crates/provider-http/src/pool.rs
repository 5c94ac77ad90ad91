//! The connections to one vendor that wait for their next request.
//!
//! What it is: a stack of idle HTTP/1.1 connections, or one shared HTTP/2 connection, whichever the vendor chose when
//! the connection was opened.
//!
//! What it promises: at most 256 idle connections, none older than 50 seconds, none handed out that is known to be
//! closed. What was never sent, and what met a connection that the vendor had closed meanwhile, is told apart from a
//! failure of the vendor.
//!
//! What it refuses to know: when a request may be repeated; how connections are opened.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::Parts;
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::connector::{BoxError, Dial, Opened};
use crate::exchange::{Arriving, One};

/// Unused connections kept per vendor, and for how long: a little less than the 60 to 75 seconds after which common
/// load balancers close them.
const IDLE_CONNECTIONS: usize = 256;
const IDLE_FOR: Duration = Duration::from_secs(50);
/// How often idle connections are looked through for closed and old ones.
const LOOK: Duration = Duration::from_secs(5);
/// Bound of an HTTP/1.1 connection's read buffer, and thereby of response headers.
const READ_BUFFER: usize = 64 << 10;
/// HTTP/2 windows. What slow askers leave unread counts against the connection that all share, so one stream may hold
/// little of it: some hundred stalled askers do not stop the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// How long a lost peer stays unnoticed on an otherwise silent connection.
pub(crate) const PROBE_EVERY: Duration = Duration::from_secs(20);
pub(crate) const PROBE_ANSWER: Duration = Duration::from_secs(10);

/// A request that got no answer.
#[derive(Debug)]
pub(crate) struct Failed {
    at: At,
    source: BoxError,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// No connection could be opened.
    Connect,
    /// A used connection was closed before the request went out.
    Unsent,
    /// A used connection was closed without a byte after the request was written (RFC 9112, 9.3.1 names this race).
    Stale,
    /// The vendor had the request.
    Exchange,
}

impl Failed {
    pub(crate) fn exchange(source: hyper::Error, unsent: bool, stale: bool) -> Self {
        let at = match (unsent, stale) {
            (true, _) => At::Unsent,
            (_, true) => At::Stale,
            _ => At::Exchange,
        };
        Self { at, source: source.into() }
    }

    /// Whether it was a used connection that failed, without a byte of an answer.
    pub(crate) fn was_used(&self) -> bool {
        matches!(self.at, At::Unsent | At::Stale)
    }

    pub(crate) fn is_connect(&self) -> bool {
        self.at == At::Connect
    }

    /// Whether the request never left.
    pub(crate) fn is_unsent(&self) -> bool {
        self.at == At::Unsent
    }

    /// Whether a used connection was closed before the vendor said anything.
    pub(crate) fn is_stale(&self) -> bool {
        self.at == At::Stale
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.at {
            At::Connect => "no connection",
            At::Unsent | At::Stale => "the connection had been closed",
            At::Exchange => "no answer",
        })
    }
}

impl StdError for Failed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

/// A connection that can carry a request now.
pub(crate) enum Line {
    One(Box<One>, Arc<Idle>, HeaderValue),
    Two(http2::SendRequest<Full<Bytes>>, bool, Arc<Idle>),
}

impl Line {
    /// Sends a request, its URI absolute, and waits for the head of its answer.
    pub(crate) async fn ask(self, mut request: Request<Full<Bytes>>) -> Result<Response<Arriving>, Failed> {
        match self {
            Line::One(line, idle, host) => {
                *request.uri_mut() = origin_form(request.uri());
                request.headers_mut().insert(HOST, host);
                line.ask(request, idle).await
            }
            Line::Two(mut sender, reused, idle) => {
                *request.version_mut() = Version::HTTP_2;
                match sender.try_send_request(request).await {
                    Ok(response) => Ok(response.map(|body| Arriving::shared(body, idle))),
                    Err(mut error) => {
                        let unsent = error.take_message().is_some();
                        Err(Failed::exchange(error.into_error(), reused && unsent, false))
                    }
                }
            }
        }
    }
}

/// Path and query alone (RFC 9112, 3.2.1).
fn origin_form(uri: &Uri) -> Uri {
    let mut parts = Parts::default();
    parts.path_and_query = uri.path_and_query().cloned();
    Uri::from_parts(parts).unwrap_or_default()
}

/// The connections of one vendor.
pub(crate) struct Pool {
    dial: Dial,
    host: HeaderValue,
    idle: Arc<Idle>,
    two: Mutex<Option<Two>>,
    /// Held while a connection is opened to a vendor that speaks HTTP/2: those who wait can share it.
    opening: tokio::sync::Mutex<()>,
}

/// The shared connection, and when it was last taken.
struct Two {
    sender: http2::SendRequest<Full<Bytes>>,
    taken: Instant,
}

impl Pool {
    /// A pool without connections. `host` is the `Host` header of the vendor.
    pub(crate) fn new(dial: Dial, host: HeaderValue) -> Self {
        Self { dial, host, idle: Arc::default(), two: Mutex::new(None), opening: tokio::sync::Mutex::new(()) }
    }

    /// A connection: a used one where `used` allows it and one is there, else a new one.
    pub(crate) async fn line(&self, used: bool) -> Result<Line, Failed> {
        if used {
            if let Some(line) = self.idle.take() {
                return Ok(self.one(line));
            }
            if let Some(line) = self.shared() {
                return Ok(line);
            }
        }
        // Whoever comes first finds out what the vendor speaks; on HTTP/2 the others then need no connection of their own,
        // and on HTTP/1.1 they wait for nobody.
        let first = if self.dial.may_share() { Some(self.opening.lock().await) } else { None };
        if let Some(line) = first.as_ref().filter(|_| used).and_then(|_| self.shared()) {
            return Ok(line);
        }
        let _first = first.filter(|_| self.dial.may_share());
        // Boxed: opening is rare, and its state is so large that every request would pay for carrying room for it.
        Box::pin(self.open()).await.map_err(|source| Failed { at: At::Connect, source })
    }

    fn one(&self, line: Box<One>) -> Line {
        Line::One(line, Arc::clone(&self.idle), self.host.clone())
    }

    fn shared(&self) -> Option<Line> {
        let mut two = self.two.lock();
        let known = two.as_mut()?;
        if known.sender.is_closed() || known.taken.elapsed() > IDLE_FOR {
            *two = None;
            return None;
        }
        known.taken = Instant::now();
        Some(Line::Two(known.sender.clone(), true, Arc::clone(&self.idle)))
    }

    async fn open(&self) -> Result<Line, BoxError> {
        let Opened { io, past, two } = self.dial.open().await?;
        if !two {
            self.dial.spoke_one();
            let (sender, connection) = http1::Builder::new().max_buf_size(READ_BUFFER).handshake(io).await?;
            return Ok(self.one(Box::new(One::new(sender, connection, past))));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(READ_BUFFER as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PROBE_EVERY)
            .keep_alive_timeout(PROBE_ANSWER)
            .handshake(io)
            .await?;
        // Ends by itself with its last stream once no sender is left; an error reaches the streams.
        tokio::spawn(connection);
        *self.two.lock() = Some(Two { sender: sender.clone(), taken: Instant::now() });
        Ok(Line::Two(sender, false, Arc::clone(&self.idle)))
    }
}

/// HTTP/1.1 connections between two requests.
#[derive(Default)]
pub(crate) struct Idle(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    #[expect(
        clippy::vec_box,
        reason = "they go in and out in their boxes; a kilobyte is not moved twice per request"
    )]
    lines: Vec<Box<One>>,
    /// A task looks through them from time to time.
    watched: bool,
}

impl Idle {
    /// The one used last that is still open.
    fn take(&self) -> Option<Box<One>> {
        loop {
            let mut line = self.0.lock().lines.pop()?;
            if line.since.elapsed() <= IDLE_FOR && line.is_usable() {
                return Some(line);
            }
        }
    }

    pub(crate) fn put(self: &Arc<Self>, line: Box<One>) {
        let mut lines = self.0.lock();
        if lines.lines.len() >= IDLE_CONNECTIONS {
            return;
        }
        lines.lines.push(line);
        if !std::mem::replace(&mut lines.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Closes what is old or closed by the vendor. False once nothing is left to watch.
    fn look(&self) -> bool {
        let mut gone = Vec::new();
        let mut lines = self.0.lock();
        gone.extend(lines.lines.extract_if(.., |line| line.since.elapsed() > IDLE_FOR || !line.is_usable()));
        lines.watched = !lines.lines.is_empty();
        lines.watched
    }
}

async fn watch(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(idle) = idle.upgrade() else { return };
        if !idle.look() {
            return;
        }
    }
}
