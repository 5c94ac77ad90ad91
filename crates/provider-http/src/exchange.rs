//! One HTTP/1.1 connection, driven by whoever waits for its answer.
//!
//! What it is: hyper's connection beside the request that it carries. There is no task per connection and no channel
//! between tasks: the asker's own poll reads the vendor's socket, so a chunk costs one wake-up, and a quiet stream costs
//! no second task's memory.
//!
//! What it promises: a connection goes back among the idle ones only when its answer has come to a proper end and hyper
//! says that it can carry another; dropped at any other time it closes.
//!
//! What it refuses to know: dialling, HTTP/2, what is in a body.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use penstock_provider::Bell;
use tokio::time::Instant;

use crate::connector::{Past, Wire};
use crate::pool::{Failed, Idle};

/// How often a connection may ask to be polled anew within one poll of the asker, before other tasks get their turn.
const TURNS: usize = 16;

type Sender = http1::SendRequest<Full<Bytes>>;
type Connection = http1::Connection<TokioIo<Wire>, Full<Bytes>>;

/// A connection and the bell that its sockets and channels ring.
pub(crate) struct One {
    sender: Sender,
    /// `None` once it has ended.
    connection: Option<Connection>,
    past: Past,
    bell: Arc<Bell>,
    pub(crate) since: Instant,
    pub(crate) reused: bool,
}

impl One {
    /// Takes a connection on which hyper has shaken hands.
    pub(crate) fn new(sender: Sender, connection: Connection, past: Past) -> Self {
        let since = Instant::now();
        Self { sender, connection: Some(connection), past, bell: Arc::default(), since, reused: false }
    }

    /// Lets the connection do what it can: write, read, notice its end.
    fn turn(&mut self, context: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else { return };
        // An error reaches the request or the body that it concerns by itself.
        if Pin::new(connection).poll(context).is_ready() {
            self.connection = None;
        }
    }

    /// Whether another request can be sent. Notices what happened to the socket while nobody polled it.
    pub(crate) fn is_usable(&mut self) -> bool {
        let bell = Arc::clone(&self.bell);
        bell.detached(|context| self.turn(context));
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Sends a request in origin form and waits for the head of its answer.
    pub(crate) async fn ask(
        mut self: Box<Self>,
        request: Request<Full<Bytes>>,
        idle: Arc<Idle>,
    ) -> Result<Response<Arriving>, Failed> {
        self.past.forget();
        let mut answering = pin!(self.sender.try_send_request(request));
        let bell = Arc::clone(&self.bell);
        let answered = poll_fn(|context| {
            bell.poll(context, TURNS, |inner| {
                bell.answer();
                self.turn(inner);
                answering.as_mut().poll(inner)
            })
        })
        .await;
        match answered {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let ended = body.is_end_stream();
                let mut body = Arriving { body, line: Some(self), empty: false, idle };
                if ended {
                    body.release();
                }
                Ok(Response::from_parts(head, body))
            }
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let stale = self.reused && !self.past.was_heard();
                Err(Failed::exchange(error.into_error(), self.reused && unsent, stale))
            }
        }
    }
}

/// The body of an answer, together with the connection that brings it.
pub(crate) struct Arriving {
    body: Incoming,
    /// `None` on HTTP/2, and once the body has come to its end.
    line: Option<Box<One>>,
    /// Nothing of the body waits to be taken, until the connection has its next turn.
    empty: bool,
    idle: Arc<Idle>,
}

impl Arriving {
    /// A body that a task of its own brings.
    pub(crate) fn shared(body: Incoming, idle: Arc<Idle>) -> Self {
        Self { body, line: None, empty: false, idle }
    }

    /// The body is over: the connection can be used again, if it says so itself.
    fn release(&mut self) {
        if let Some(mut line) = self.line.take()
            && line.is_usable()
        {
            line.reused = true;
            line.since = Instant::now();
            self.idle.put(line);
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(line) = &mut this.line else { return Pin::new(&mut this.body).poll_frame(context) };
        let (body, empty) = (&mut this.body, &mut this.empty);
        let bell = Arc::clone(&line.bell);
        let polled = bell.poll(context, TURNS, |inner| {
            // The head and the first bytes often come together. Later on only a turn brings anything, and it is asked for
            // at once.
            if !std::mem::replace(empty, true)
                && let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(inner)
            {
                return Poll::Ready(frame);
            }
            // Whatever the connection waits for rings; when nothing did, it has nothing to do.
            if !bell.answer() {
                return Poll::Pending;
            }
            line.turn(inner);
            Pin::new(&mut *body).poll_frame(inner)
        });
        match &polled {
            Poll::Ready(None) => this.release(),
            Poll::Ready(Some(Ok(_))) if this.body.is_end_stream() => this.release(),
            Poll::Ready(Some(Err(_))) => this.line = None,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
