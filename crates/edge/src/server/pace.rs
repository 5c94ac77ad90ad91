//! How long an HTTP/2 client may leave no room for the rest of an answer (RFC 9113, 5.2).
//!
//! What it promises: a stream whose client opens no window for as long as it may refuse to read is reset, and what runs behind
//! it is dropped; other streams of the connection go on. What waits beyond a window is one piece of [`PIECE`] bytes.
//!
//! How it is seen: hyper asks for more as soon as there is room for what it was given. So a stream rests either because the
//! answer has nothing to say, or because there is no room. The body tells which, in the task that sends it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::drain::{Drain, Phase, Watched};
use crate::reply::Reply;

/// The most bytes that are given at once: the largest frame that every client takes.
const PIECE: usize = 16 << 10;

tokio::task_local! {
    /// That of the stream whose task this is.
    static PACE: Pace;
}

/// What the body of a stream tells the task that sends it.
#[derive(Debug, Default)]
struct Pace {
    /// How often it gave something.
    given: Cell<u64>,
    /// It gave something and has not been asked again.
    full: Cell<bool>,
}

/// Sends a stream until it ends, its client makes no room for too long, or the drain closes everything.
pub(super) fn send(
    stream: impl Future + Send + 'static,
    drain: Drain,
    patience: Duration,
) -> impl Future<Output = ()> + Send {
    let mut watched = Watched::new(drain);
    PACE.scope(Pace::default(), async move {
        let mut stream = pin!(stream);
        let mut stall = Stall { patience, since: 0, timer: None };
        poll_fn(|context| {
            if watched.phase(context) == Phase::Closed || stream.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            stall.poll(context)
        })
        .await;
    })
}

/// The clock of a stream that has no room. Made when it is first needed.
struct Stall {
    patience: Duration,
    /// What had been given when the clock was set.
    since: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Ready when the client has made no room for too long.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (given, full) = PACE.with(|pace| (pace.given.get(), pace.full.get()));
        if !full {
            return Poll::Pending;
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        if self.since != given {
            self.since = given;
            timer.as_mut().reset(Instant::now() + patience);
        }
        let late = timer.as_mut().poll(context);
        if late.is_ready() {
            tracing::debug!("a stream is reset: its client makes no room for it");
        }
        late
    }
}

/// An answer in pieces, which tells when it was asked for them.
pub(super) struct Paced {
    reply: Reply,
    rest: Option<Bytes>,
}

impl Paced {
    pub(super) fn new(reply: Reply) -> Self {
        Self { reply, rest: None }
    }

    fn piece(&mut self, mut bytes: Bytes) -> Bytes {
        if bytes.len() > PIECE {
            self.rest = Some(bytes.split_off(PIECE));
        }
        bytes
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = match this.rest.take() {
            Some(rest) => Poll::Ready(Some(Ok(Frame::data(rest)))),
            None => Pin::new(&mut this.reply).poll_frame(context),
        };
        // Without a task of ours nobody keeps the time.
        let _ = PACE.try_with(|pace| {
            pace.full.set(frame.is_ready());
            pace.given.set(pace.given.get() + u64::from(frame.is_ready()));
        });
        frame.map(|frame| {
            frame.map(|frame| {
                frame.map(|frame| match frame.into_data() {
                    Ok(bytes) => Frame::data(this.piece(bytes)),
                    Err(other) => other,
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.len() as u64);
        let left = self.reply.size_hint();
        match left.exact() {
            Some(left) => SizeHint::with_exact(left + rest),
            None => left,
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn an_answer_in_pieces_is_the_same_answer() {
        for length in [0, 1, PIECE, PIECE + 1, 3 * PIECE + 7] {
            let whole: Bytes = (0..length).map(|n| n as u8).collect();
            let mut paced = Paced::new(Reply::whole(whole.clone()));
            assert_eq!(paced.size_hint().exact(), Some(length as u64));
            let mut seen = Vec::new();
            while let Some(frame) = paced.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.len() <= PIECE, "{}", piece.len());
                seen.extend_from_slice(&piece);
                assert_eq!(paced.is_end_stream(), seen.len() == length);
            }
            assert_eq!(seen, whole);
        }
    }
}
