//! A vendor's stream as deltas.
//!
//! What it is: a hand-written [`Stream`] over the body of an answer. Nothing stands between the socket and the asker: no
//! task, no channel, no allocation per chunk; the vendor is read only when the asker wants more.
//!
//! What it promises: a stream that ends without [`Delta::Failed`] was complete. Silence counts only while we wait for the
//! vendor, never while the asker is slow; bytes that trickle without completing a line are silence. Dropping the stream drops the body, which closes an HTTP/1.1 connection and
//! resets an HTTP/2 stream.
//!
//! What it refuses to know: what the events mean; the lane does.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use http_body::Body;
use penstock_dialect::Lane;
use penstock_domain::{Delta, Error};
use penstock_provider::Alarm;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::exchange::Arriving;
use crate::faults;

/// How long the end of the body may lag behind the end marker: it makes the connection usable again, and the asker waits
/// for it.
const LINGER: Duration = Duration::from_millis(20);

/// What a vendor has to send, in bytes, to be said to speak although no line of it is complete: less than this within the
/// idle time is a trickle that would hold an asker for ever.
const SPOKEN: usize = 1024;

/// The stream of one answer.
pub(crate) struct Events {
    /// `None` once the body has ended or was given up.
    body: Option<Arriving>,
    lane: Box<dyn Lane>,
    clock: Clock,
    /// The one timer of the answer. It may fire early; the truth is in the instants.
    timer: Alarm,
    /// When the first content must be here, while none is. Comments and opening events do not count.
    first_by: Option<Instant>,
    /// Since when we wait for the vendor in vain, and the bytes that came since without making a difference.
    silent_since: Option<Instant>,
    trickled: usize,
    /// The body came to its proper end: the lane is to be asked whether the answer did.
    ended: bool,
    /// The fault that ends the stream once the lane is empty.
    fault: Option<Error>,
    /// Held until the answer is over.
    slot: Option<OwnedSemaphorePermit>,
}

impl Events {
    /// A stream over an answer whose headers are here; `first_by` is when its first content must be.
    pub(crate) fn new(
        body: Arriving,
        lane: Box<dyn Lane>,
        clock: Clock,
        first_by: Instant,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let timer = Alarm::at(first_by.min(clock.end()));
        Self {
            body: Some(body),
            lane,
            clock,
            timer,
            first_by: Some(first_by),
            silent_since: None,
            trickled: 0,
            ended: false,
            fault: None,
            slot,
        }
    }

    /// Gives the vendor up. What the lane has finished still goes out before the fault; a complete answer has none.
    fn give_up(&mut self, fault: Error) {
        self.body = None;
        self.fault = (!self.lane.is_over()).then_some(fault);
    }

    /// The vendor said something.
    fn heard(&mut self) {
        self.silent_since = None;
        self.trickled = 0;
    }

    /// Nothing follows a failure, whoever noticed it.
    fn hand_out(&mut self, delta: Delta) -> Delta {
        if matches!(delta, Delta::Failed(_)) {
            self.body = None;
            self.ended = false;
            self.fault = None;
        }
        delta
    }

    /// Nothing is here: waits for the vendor, or gives it up when its time is over.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut now = Instant::now();
        let since = *self.silent_since.get_or_insert(now);
        let idle = self.clock.timeouts.idle;
        let phase_end = match self.first_by {
            _ if self.lane.is_over() => since + LINGER,
            Some(first_by) => first_by,
            None => since + idle,
        };
        let end = phase_end.min(self.clock.end());
        if self.timer.due() > end {
            self.timer.set(end);
        }
        while self.timer.poll(cx, now).is_ready() {
            now = Instant::now();
            if now < end {
                self.timer.set(end);
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
}

/// Whether a chunk completes a line: of an event, of a comment.
fn ends_a_line(chunk: &[u8]) -> bool {
    chunk.last() == Some(&b'\n') || chunk.contains(&b'\n') || chunk.contains(&b'\r')
}

impl Stream for Events {
    type Item = Delta;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delta>> {
        let this = &mut *self;
        loop {
            if let Some(delta) = this.lane.next() {
                if delta.is_content() {
                    this.first_by = None;
                }
                this.heard();
                return Poll::Ready(Some(this.hand_out(delta)));
            }
            let Some(body) = &mut this.body else {
                this.slot = None;
                let last = if this.ended { this.lane.finish() } else { this.fault.take().map(Delta::Failed) };
                return Poll::Ready(last.map(|delta| this.hand_out(delta)));
            };
            match Pin::new(body).poll_frame(cx) {
                // Nobody wants what follows the end marker.
                Poll::Ready(Some(Ok(_))) if this.lane.is_over() => this.body = None,
                Poll::Ready(Some(Ok(frame))) => {
                    let pushed = frame.into_data().map_or(Ok(()), |chunk| {
                        this.trickled += chunk.len();
                        if this.trickled >= SPOKEN || ends_a_line(&chunk) {
                            this.heard();
                        }
                        this.lane.push(chunk)
                    });
                    // A lane that cannot go on counts as over, so its fault is kept here.
                    if let Some(fault) = this.clock.over().or(pushed.err()) {
                        this.body = None;
                        this.fault = Some(fault);
                    }
                }
                Poll::Ready(Some(Err(cause))) => this.give_up(faults::cut(cause)),
                Poll::Ready(None) => {
                    this.body = None;
                    this.ended = true;
                }
                Poll::Pending => match this.wait(cx) {
                    Poll::Ready(()) => {}
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}
