//! One connection: HTTP/1.1 or HTTP/2 with prior knowledge, told apart by its first bytes.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::pace::{self, Paced};
use super::socket::{self, Protocol, Wire};
use crate::drain::{Drain, Phase, Watched};
use crate::edge::Inner;
use crate::layers;
use crate::reply::Reply;
use crate::{Edge, EdgeSettings};

/// Bytes of answers that may wait in memory for a client that does not read, beside the kernel's own buffers.
const WRITE_BUFFER: usize = 32 << 10;
/// How often in a row a connection may go on at its own request before other tasks get their turn.
const TURNS: usize = 4;
/// Most headers of one request.
const MAX_HEADERS: usize = 128;
/// How often an HTTP/2 peer must show that it lives.
const PING: Duration = Duration::from_secs(20);

/// The two protocols, set up once per listener.
pub(super) struct Builders {
    one: http1::Builder,
    two: http2::Builder<Streams>,
}

impl Builders {
    pub(super) fn new(settings: &EdgeSettings, drain: &Drain) -> Self {
        let mut one = http1::Builder::new();
        one.timer(TokioTimer::new())
            // The socket keeps this time itself, and more cheaply; hyper's would allocate a timer per request.
            .header_read_timeout(None)
            // The socket also watches for clients that leave: hyper would keep a read buffer per open answer for it.
            .half_close(true)
            .max_headers(MAX_HEADERS)
            .max_header_size(settings.max_head)
            .max_buf_size(settings.max_head.max(WRITE_BUFFER))
            .writev(true);
        let mut two = http2::Builder::new(Streams { drain: drain.clone(), patience: settings.write_timeout });
        two.timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_http2_streams)
            .max_header_list_size(u32::try_from(settings.max_head).unwrap_or(u32::MAX))
            // Rapid reset (CVE-2023-44487) and made-you-reset: a few stray resets are normal, a flood ends the connection.
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(100)
            .initial_stream_window_size(64 << 10)
            .initial_connection_window_size(1 << 20)
            .max_send_buf_size(WRITE_BUFFER)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        Self { one, two }
    }
}

/// Serves one connection until it ends or the drain ends it.
pub(super) async fn run(stream: TcpStream, edge: Edge, builders: Arc<Builders>) {
    // A small event must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let peer = stream.peer_addr().ok().map(|address| address.ip());
    let drain = edge.drain().clone();
    let wire = Arc::new(Wire::default());
    let settings = &edge.0.settings;
    let opened = tokio::select! {
        opened = socket::open(stream, Arc::clone(&wire), settings) => opened,
        () = drain.reaches(Phase::Draining) => return,
    };
    let Some((protocol, socket)) = opened else { return };
    let io = TokioIo::new(socket);
    let service = Service { edge: Arc::clone(&edge.0), wire: Arc::clone(&wire), peer };
    let ended = match protocol {
        Protocol::One => {
            let connection = pin!(builders.one.serve_connection(io, service));
            // hyper's reader and the handler that waits for a body are one task: they need not wake each other.
            let poll = |connection: Pin<&mut _>, context: &mut Context<'_>| {
                let mut connection: Pin<&mut http1::Connection<_, _>> = connection;
                wire.bell.poll(context, TURNS, |context| {
                    wire.bell.answer();
                    connection.as_mut().poll(context)
                })
            };
            drive(connection, drain, |connection| connection.graceful_shutdown(), poll).await
        }
        Protocol::Two => {
            // Boxed, so that the many HTTP/1 connections do not carry room for this much larger state.
            let mut connection = Box::pin(builders.two.serve_connection(io, InPieces(service)));
            let connection = connection.as_mut();
            drive(connection, drain, |connection| connection.graceful_shutdown(), Future::poll).await
        }
    };
    if let Some(Err(error)) = ended {
        // Clients leave in the middle all day; it is news only to somebody who looks for it.
        tracing::debug!(%error, "connection ended");
    }
}

/// Polls a connection and tells it when the drain begins. `None` when the drain cut it off.
async fn drive<C: Future>(
    mut connection: Pin<&mut C>,
    drain: Drain,
    finish: impl Fn(Pin<&mut C>),
    mut poll: impl FnMut(Pin<&mut C>, &mut Context<'_>) -> Poll<C::Output>,
) -> Option<C::Output> {
    let mut watched = Watched::new(drain);
    let mut told = false;
    poll_fn(|context| {
        let phase = watched.phase(context);
        if phase == Phase::Closed {
            return Poll::Ready(None);
        }
        if phase >= Phase::Draining && !told {
            told = true;
            finish(connection.as_mut());
        }
        poll(connection.as_mut(), context).map(Some)
    })
    .await
}

/// Runs the streams of an HTTP/2 connection. Each is a task of its own, so each watches the drain for itself.
#[derive(Clone)]
struct Streams {
    drain: Drain,
    /// How long a client may refuse to read.
    patience: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        tokio::spawn(pace::send(stream, self.drain.clone(), self.patience));
    }
}

type Answering<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

/// Hands hyper's requests to the edge.
struct Service {
    edge: Arc<Inner>,
    wire: Arc<Wire>,
    peer: Option<IpAddr>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Answering<Reply>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let edge = Arc::clone(&self.edge);
        let peer = self.peer;
        let (busy, ambiguous) = self.wire.begin();
        Box::pin(async move {
            let response = layers::guarded(&edge, request, peer, ambiguous).await;
            Ok(response.map(|reply| reply.keeping(busy)))
        })
    }
}

/// The same for HTTP/2, whose answers are sent by tasks of their own.
struct InPieces(Service);

impl hyper::service::Service<Request<Incoming>> for InPieces {
    type Response = Response<Paced>;
    type Error = Infallible;
    type Future = Answering<Paced>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move { Ok(answer.await?.map(Paced::new)) })
    }
}
