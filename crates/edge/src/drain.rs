//! How a listener learns that it has to end, and how far the end has come.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};

use penstock_domain::{Code, Error};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// How far the end has come; each phase includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving = 0,
    /// No new connections, `/readyz` says no, what runs may end by itself.
    Draining = 1,
    /// What still runs ends with `server_shutdown`.
    Over = 2,
    /// Connections are dropped.
    Closed = 3,
}

#[derive(Debug, Default)]
struct State {
    phase: AtomicU8,
    changed: Arc<Notify>,
}

/// The switch that ends a listener: clones share it.
///
/// The first signal calls [`begin`](Self::begin), the second [`end`](Self::end). Reading the phase is one atomic load;
/// a task that wants to be woken by a change subscribes once ([`Watched`]), so that thousands of streams cost nothing
/// while nothing happens.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<State>);

impl Drain {
    /// A switch that is off.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the drain: no new connections, `/readyz` answers 503, answers in flight go on.
    pub fn begin(&self) {
        self.advance(Phase::Draining);
    }

    /// Ends the grace now: streams get their terminal error, waiting requests 503.
    pub fn end(&self) {
        self.advance(Phase::Over);
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    pub(crate) fn close(&self) {
        self.advance(Phase::Closed);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            2 => Phase::Over,
            _ => Phase::Closed,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase() >= Phase::Over
    }

    fn advance(&self, to: Phase) {
        self.0.phase.fetch_max(to as u8, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }

    /// Resolves once the phase is at least this one.
    pub(crate) async fn reaches(&self, phase: Phase) {
        loop {
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if self.phase() >= phase {
                return;
            }
            changed.await;
        }
    }

    /// Runs a future until it ends or the grace is over. Relies on the task being [`Watched`]: it looks at the phase
    /// only when it is polled.
    pub(crate) async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            if self.is_over() {
                return Poll::Ready(Err(shutdown()));
            }
            work.as_mut().poll(context).map(Ok)
        })
        .await
    }
}

pub(crate) fn shutdown() -> Error {
    Error::new(Code::ServerShutdown, "the gateway is shutting down; send the request again")
}

/// A task's subscription: polls what it wraps, and makes sure that a change of phase wakes the task.
pub(crate) struct Watched {
    drain: Drain,
    changed: Pin<Box<OwnedNotified>>,
    waker: Option<Waker>,
}

impl Watched {
    pub(crate) fn new(drain: Drain) -> Self {
        let mut changed = Box::pin(Arc::clone(&drain.0.changed).notified_owned());
        changed.as_mut().enable();
        Self { drain, changed, waker: None }
    }

    /// Gives the phase and keeps the task subscribed. The subscription is renewed only after a change or when the
    /// waker differs: polling it anew on every wake-up would have all connections take turns at one lock.
    pub(crate) fn phase(&mut self, context: &mut Context<'_>) -> Phase {
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            let phase = self.drain.phase();
            if phase == Phase::Serving {
                return phase;
            }
        }
        while self.changed.as_mut().poll(context).is_ready() {
            self.changed.set(Arc::clone(&self.drain.0.changed).notified_owned());
            self.changed.as_mut().enable();
        }
        self.waker = Some(context.waker().clone());
        self.drain.phase()
    }
}
