//! A vendor's stream as deltas.
//!
//! What it is: a hand-written [`Stream`] over the body of an answer. Nothing stands between the socket and the asker: no
//! task, no channel, no allocation per chunk; the vendor is read only when the asker wants more.
//!
//! What it promises: a stream that ends without [`Delta::Failed`] was complete. Silence counts only while we wait for the
//! vendor, never while the asker is slow. Dropping the stream drops the body, which closes an HTTP/1.1 connection and
//! resets an HTTP/2 stream.
//!
//! What it refuses to know: what the events mean; the lane does.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use http_body::Body;
use hyper::body::Incoming;
use penstock_dialect::openai::raw_lane::RawLane;
use penstock_dialect::openai::stream::ChunkReader;
use penstock_domain::{Delta, Dialect, Error, Request};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock::Clock;
use crate::faults;

/// What turns body chunks into deltas.
pub(crate) enum Lane {
    /// For an asker of the vendor's dialect: bytes stay bytes.
    Raw(RawLane),
    /// For an asker of another dialect.
    Read(ChunkReader),
}

impl Lane {
    /// The lane that the asker of this request needs.
    pub(crate) fn for_request(request: &Request) -> Self {
        match request.body.dialect() {
            Dialect::OpenAi => Lane::Raw(RawLane::for_request(request).expecting(request.choices)),
            Dialect::Anthropic => Lane::Read(ChunkReader::new(request.task)),
        }
    }

    fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        match self {
            Lane::Raw(lane) => lane.push(chunk),
            Lane::Read(lane) => lane.push(chunk),
        }
    }

    fn next(&mut self) -> Option<Delta> {
        match self {
            Lane::Raw(lane) => lane.next(),
            Lane::Read(lane) => lane.next(),
        }
    }

    fn finish(&mut self) -> Option<Delta> {
        match self {
            Lane::Raw(lane) => lane.finish(),
            Lane::Read(lane) => lane.finish(),
        }
    }
}

/// The stream of one answer.
pub(crate) struct Events {
    /// `None` once the body has ended or was given up.
    body: Option<Incoming>,
    lane: Lane,
    clock: Clock,
    /// The one timer of the answer. It may fire early; the truth is in the instants.
    timer: Pin<Box<Sleep>>,
    /// When the first event must be here, while none is.
    first_by: Option<Instant>,
    /// Since when we wait for the vendor in vain.
    silent_since: Option<Instant>,
    /// What ends the stream once the lane is empty.
    last: Option<Delta>,
    /// Held until the answer is over.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Events {
    /// A stream over an answer whose headers are here; `first_by` is when its first event must be.
    pub(crate) fn new(
        body: Incoming,
        lane: Lane,
        clock: Clock,
        first_by: Instant,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let timer = Box::pin(sleep_until(first_by.min(clock.end())));
        Self {
            body: Some(body),
            lane,
            clock,
            timer,
            first_by: Some(first_by),
            silent_since: None,
            last: None,
            _slot: slot,
        }
    }

    /// Gives the vendor up. What the lane has finished still goes out before the fault.
    fn fail(&mut self, fault: Error) {
        self.body = None;
        self.last = Some(Delta::Failed(fault));
    }

    /// Nothing is here: waits for the vendor, or gives it up when its time is over.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        let idle = self.clock.timeouts.idle;
        let phase_end = self.first_by.unwrap_or(since + idle);
        let end = phase_end.min(self.clock.end());
        if self.timer.deadline() > end {
            self.timer.as_mut().reset(end);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() < end {
                self.timer.as_mut().reset(end);
                continue;
            }
            let fault = match self.clock.over() {
                Some(fault) => fault,
                None if self.first_by.is_some() => faults::first_token_late(self.clock.timeouts.first_token),
                None => faults::idle_late(idle),
            };
            self.give_up(fault);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The vendor's time is over. If its answer is complete and only the end of the body is missing, that is an end.
    fn give_up(&mut self, fault: Error) {
        match self.lane.finish() {
            Some(Delta::Failed(_)) => self.fail(fault),
            complete => {
                self.body = None;
                self.last = complete;
            }
        }
    }
}

impl Stream for Events {
    type Item = Delta;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delta>> {
        let this = &mut *self;
        loop {
            if let Some(delta) = this.lane.next() {
                this.first_by = None;
                if matches!(delta, Delta::Failed(_)) {
                    this.body = None;
                    this.last = None;
                }
                return Poll::Ready(Some(delta));
            }
            let Some(body) = &mut this.body else {
                return Poll::Ready(this.last.take());
            };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.silent_since = None;
                    if let Some(fault) = this.clock.over() {
                        this.give_up(fault);
                    } else if let Ok(chunk) = frame.into_data()
                        && let Err(fault) = this.lane.push(chunk)
                    {
                        this.fail(fault);
                    }
                }
                Poll::Ready(Some(Err(cause))) => this.fail(faults::cut(cause)),
                Poll::Ready(None) => {
                    this.body = None;
                    this.last = this.lane.finish();
                }
                Poll::Pending => match this.wait(cx) {
                    Poll::Ready(()) => {}
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}
