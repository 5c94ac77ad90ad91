//! Bodies on their way: whole or as events, cut into frames, broken or silent where the script says so.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::events::Events;
use super::wire::Order;
use crate::script::{Cut, Directives, Hang};
use crate::stats::InFlight;

/// HTTP/2 drops what a reset stream has not sent yet: give it the time to send.
const H2_FLUSH: Duration = Duration::from_millis(5);

/// The body of one answer.
pub(crate) struct Reply {
    source: Source,
    faults: Option<Box<Faults>>,
    flight: Option<InFlight>,
}

enum Source {
    Whole(Bytes),
    Events(Box<Events>),
    Silence,
}

/// What happens to the bytes of a body.
struct Faults {
    frame: usize,
    cut: Option<(u64, Cut)>,
    /// How it breaks where the events end broken.
    cut_event: Option<Cut>,
    hang_at: Option<u64>,
    /// HTTP/1.1 breaks the connection; HTTP/2 (`None`) resets the stream.
    order: Option<Arc<Order>>,
    sent: u64,
    rest: Bytes,
    /// The frame before has to leave by itself.
    pause: bool,
    flush: Option<Pin<Box<Sleep>>>,
    ordered: bool,
}

/// The script broke the answer.
#[derive(Debug)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the script broke the answer")
    }
}

impl std::error::Error for Broken {}

impl Reply {
    /// A body that nobody counts and nothing happens to.
    pub(crate) fn plain(bytes: impl Into<Bytes>) -> Self {
        Self { source: Source::Whole(bytes.into()), faults: None, flight: None }
    }

    /// A whole body under a script.
    pub(crate) fn whole(
        bytes: Bytes,
        directives: &Directives,
        order: Option<Arc<Order>>,
        flight: InFlight,
    ) -> Self {
        let half = bytes.len() as u64 / 2;
        let faults = Faults::new(directives, order, half);
        if directives.hang == Some(Hang::AfterHeaders) {
            return Self { source: Source::Silence, faults: None, flight: Some(flight) };
        }
        Self { source: Source::Whole(bytes), faults, flight: Some(flight) }
    }

    /// A stream of events under a script.
    pub(crate) fn events(
        events: Events,
        directives: &Directives,
        order: Option<Arc<Order>>,
        flight: InFlight,
    ) -> Self {
        if directives.hang == Some(Hang::AfterHeaders) {
            return Self { source: Source::Silence, faults: None, flight: Some(flight) };
        }
        let mut faults = Faults::new(directives, order, 0);
        if let Some(faults) = &mut faults {
            // The engine itself falls silent in the middle of its tokens.
            faults.hang_at = None;
        }
        Self { source: Source::Events(Box::new(events)), faults, flight: Some(flight) }
    }

    fn complete(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.complete();
        }
    }

    /// The next bytes of the source, before anything happens to them.
    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match &mut self.source {
            Source::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Whole(bytes) => Poll::Ready(Some(std::mem::take(bytes))),
            Source::Silence => Poll::Pending,
            Source::Events(events) => {
                let before = events.produced();
                let polled = events.poll_next(context);
                if let Some(flight) = &mut self.flight {
                    flight.bill_completion(events.produced() - before);
                }
                polled
            }
        }
    }
}

impl Faults {
    fn new(directives: &Directives, order: Option<Arc<Order>>, half: u64) -> Option<Box<Self>> {
        let cut = directives.cut_at_byte.map(|at| (at, directives.cut.unwrap_or_default()));
        let frame = directives.chunk_bytes.map_or(usize::MAX, |n| n.get() as usize);
        let hang_at = (directives.hang == Some(Hang::MidStream)).then_some(half);
        let cut_event = directives.cut_at_event.map(|_| directives.cut.unwrap_or_default());
        if cut.is_none() && cut_event.is_none() && hang_at.is_none() && frame == usize::MAX {
            return None;
        }
        let rest = Bytes::new();
        Some(Box::new(Self {
            frame,
            cut,
            cut_event,
            hang_at,
            order,
            sent: 0,
            rest,
            pause: false,
            flush: None,
            ordered: false,
        }))
    }

    /// How many more bytes may leave before something happens.
    fn room(&self) -> u64 {
        let stop = self.cut.map(|(at, _)| at).into_iter().chain(self.hang_at).min().unwrap_or(u64::MAX);
        stop.saturating_sub(self.sent)
    }

    /// Breaks the answer once the bytes before have left.
    fn poll_break(&mut self, cut: Cut, context: &mut Context<'_>) -> Poll<Broken> {
        if let Some(order) = &self.order {
            if !self.ordered {
                self.ordered = true;
                order.cut(cut);
                // Nothing else would make the connection flush, and break, again.
                context.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        ready!(self.flush.get_or_insert_with(|| Box::pin(sleep(H2_FLUSH))).as_mut().poll(context));
        Poll::Ready(Broken)
    }

    /// Cuts the next frame off the bytes that wait.
    fn take(&mut self) -> Bytes {
        let room = usize::try_from(self.room()).unwrap_or(usize::MAX);
        let length = self.rest.len().min(self.frame).min(room);
        self.sent += length as u64;
        self.pause = self.frame != usize::MAX;
        self.rest.split_to(length)
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        loop {
            if let Some(faults) = &mut this.faults {
                if std::mem::take(&mut faults.pause) {
                    // With nothing to say for a moment, hyper writes what it has.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if faults.room() == 0 {
                    let Some((at, cut)) = faults.cut else { return Poll::Pending };
                    if faults.hang_at.is_some_and(|hang| hang < at) {
                        return Poll::Pending;
                    }
                    let polled = faults.poll_break(cut, context);
                    this.complete();
                    return polled.map(|broken| Some(Err(broken)));
                }
                if !faults.rest.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(faults.take()))));
                }
            }
            let Some(bytes) = ready!(this.poll_source(context)) else {
                if let (Source::Events(events), Some(faults)) = (&this.source, &mut this.faults)
                    && events.broken()
                {
                    faults.cut = Some((faults.sent, faults.cut_event.unwrap_or_default()));
                    continue;
                }
                this.complete();
                return Poll::Ready(None);
            };
            let Some(faults) = &mut this.faults else {
                if matches!(this.source, Source::Whole(_)) {
                    this.complete();
                }
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            };
            faults.rest = bytes;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.faults.is_none() && matches!(&self.source, Source::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.source, &self.faults) {
            (Source::Whole(bytes), None) => SizeHint::with_exact(bytes.len() as u64),
            (Source::Whole(bytes), Some(faults)) => {
                SizeHint::with_exact(bytes.len() as u64 + faults.rest.len() as u64)
            }
            _ => SizeHint::default(),
        }
    }
}
