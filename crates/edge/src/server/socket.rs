//! A socket that keeps time: how long a head may take, how long a connection may idle, how long a client may refuse to
//! read. One timer for reading and one for writing, made when they are first needed and moved only when they fire or a
//! head is late, so that a busy connection pays nothing per request.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use penstock_provider::{Bell, Turn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::head::{HeadScan, Seen};
use crate::EdgeSettings;

/// How every HTTP/2 connection begins (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the socket and the service of one connection tell each other.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// A request is being answered: silence is not idleness, and bytes that come are its body.
    busy: AtomicBool,
    /// The last head could be read in two ways.
    ambiguous: AtomicBool,
    /// What an HTTP/1 connection waits for rings it. On HTTP/2, where every stream is a task of its own, it is never
    /// answered, and so never still.
    pub(super) bell: Bell,
}

/// Marks a connection as busy until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Wire>);

impl Wire {
    /// A request has been read. Gives the mark, and whether its head was ambiguous.
    pub(super) fn begin(self: &Arc<Self>) -> (Busy, bool) {
        self.busy.store(true, Ordering::Relaxed);
        (Busy(Arc::clone(self)), self.ambiguous.load(Ordering::Relaxed))
    }
}

impl Busy {
    /// The turn in which the connection is polled now.
    pub(crate) fn turn(&self) -> Turn {
        self.0.bell.turn()
    }

    /// Whether nothing has happened since then that could give an answer more to say.
    pub(crate) fn is_still(&self, turn: Turn) -> bool {
        self.0.bell.is_still(turn)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Relaxed);
    }
}

/// Which protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.0 or 1.1.
    One,
    /// HTTP/2 without negotiation.
    Two,
}

/// Reads the first bytes and tells the protocol by them. `None` when the client leaves or stays silent.
pub(super) async fn open(
    mut stream: TcpStream,
    wire: Arc<Wire>,
    settings: &EdgeSettings,
) -> Option<(Protocol, Socket)> {
    let mut first = [0; PREFACE.len()];
    let mut length = 0;
    let sniff = async {
        while length < first.len() && first[..length] == PREFACE[..length] {
            match stream.read(&mut first[length..]).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => length += read,
            }
        }
        Some(if first == *PREFACE { Protocol::Two } else { Protocol::One })
    };
    let protocol = timeout(settings.header_timeout, sniff).await.ok()??;
    let mut socket = Socket {
        stream,
        first,
        given: 0,
        length,
        wire,
        scan: (protocol == Protocol::One).then(HeadScan::default),
        in_body: false,
        header_timeout: settings.header_timeout,
        idle_timeout: settings.idle_timeout,
        write_timeout: settings.write_timeout,
        reading: None,
        idle_before: false,
        writing: None,
        blocked: false,
        watched: false,
        left: false,
    };
    // A client that has begun its head is on the clock from the first byte.
    if protocol == Protocol::One {
        socket.reading = Some(Box::pin(sleep(settings.header_timeout)));
    }
    Some((protocol, socket))
}

/// A client's socket.
pub(super) struct Socket {
    stream: TcpStream,
    /// Bytes that were read to tell the protocol, given back first.
    first: [u8; PREFACE.len()],
    given: usize,
    length: usize,
    wire: Arc<Wire>,
    /// Present on HTTP/1 connections, where heads have to be looked at.
    scan: Option<HeadScan>,
    /// The head is complete, and its request has not been answered.
    in_body: bool,
    header_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    reading: Option<Pin<Box<Sleep>>>,
    /// The timer has fired once already while nothing happened.
    idle_before: bool,
    writing: Option<Pin<Box<Sleep>>>,
    blocked: bool,
    /// Whoever reads waits for more and will see the end, or it was seen, or bytes wait that nobody wants yet.
    watched: bool,
    /// The client's end was seen, though not yet read.
    left: bool,
}

impl Socket {
    /// Follows heads and bodies: what has come tells which clock runs.
    fn arrived(&mut self, bytes: &[u8]) {
        self.idle_before = false;
        let Some(scan) = self.scan.as_mut() else { return };
        let busy = self.wire.busy.load(Ordering::Relaxed);
        if self.in_body && busy {
            return;
        }
        // The request before has been answered, so what comes now is a new head. Bytes of a body that nobody wanted may
        // be taken for one; such connections are closed after their refusal.
        self.in_body = false;
        let fresh = scan.is_empty();
        match scan.feed(bytes) {
            Seen::Part if fresh && !scan.is_empty() => {
                let due = Instant::now() + self.header_timeout;
                match self.reading.as_mut() {
                    Some(timer) => timer.as_mut().reset(due),
                    None => self.reading = Some(Box::pin(tokio::time::sleep_until(due))),
                }
            }
            Seen::Part => {}
            Seen::Whole(ambiguous) => {
                self.in_body = true;
                if ambiguous {
                    self.wire.ambiguous.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Nothing to read: is that still all right?
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.scan.is_none() {
            // HTTP/2 pings its peers.
            return Poll::Pending;
        }
        let idle = self.idle_timeout;
        let timer = self.reading.get_or_insert_with(|| Box::pin(sleep(idle)));
        while timer.as_mut().poll(context).is_ready() {
            let busy = self.wire.busy.load(Ordering::Relaxed);
            let late_head = !busy && self.scan.as_ref().is_some_and(|scan| !scan.is_empty());
            if late_head || (!busy && self.idle_before) {
                return Poll::Ready(());
            }
            // Idleness is measured in whole turns of the timer, so that requests need not touch it.
            self.idle_before = !busy;
            timer.as_mut().reset(Instant::now() + idle);
        }
        Poll::Pending
    }

    /// Notices a client that leaves while it is being answered, when nobody reads. A client that closes its half and still
    /// wants the answer cannot be told from one that is gone; it is taken for gone.
    fn look(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.scan.is_none() || self.watched || !self.wire.busy.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut byte = [0];
        match self.stream.poll_peek(context, &mut ReadBuf::new(&mut byte)) {
            Poll::Pending => Ok(()),
            // Whoever still waits for the rest of a body reads before the next turn, and then says what is wrong with it.
            Poll::Ready(Ok(0)) if !self.left => {
                self.left = true;
                context.waker().wake_by_ref();
                Ok(())
            }
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Ok(_)) => {
                self.watched = true;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    /// Bounds how long a write may make no progress at all.
    fn poll_written<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.blocked = false;
            return outcome;
        }
        let wait = self.write_timeout;
        match self.writing.as_mut() {
            Some(timer) if !self.blocked => timer.as_mut().reset(Instant::now() + wait),
            Some(_) => {}
            None => self.writing = Some(Box::pin(sleep(wait))),
        }
        self.blocked = true;
        self.look(context)?;
        let Some(timer) = self.writing.as_mut() else { return Poll::Pending };
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.given < this.length {
            let end = this.length.min(this.given + buf.remaining());
            buf.put_slice(&this.first[this.given..end]);
            this.given = end;
        }
        // What came with the first bytes is read along: given alone, they would make hyper double its buffer.
        match Pin::new(&mut this.stream).poll_read(context, buf) {
            Poll::Pending if buf.filled().len() > before => {}
            // An end of input, for hyper to close on.
            Poll::Pending => {
                this.watched = true;
                return this.poll_patience(context).map(Ok);
            }
            Poll::Ready(outcome) => outcome?,
        }
        let filled = &buf.filled()[before..];
        this.watched = filled.is_empty();
        if !filled.is_empty() {
            this.arrived(filled);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.poll_written(context, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.poll_written(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.look(context)?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
