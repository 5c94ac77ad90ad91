//! The service: events in, deliveries out.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use penstock_config::EventKind;
use penstock_domain::Error;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::event::Event;
use crate::outbox::{Claim, Deliver, Delivery, Endpoint, Notice, Outbox, Outcome, Parcel, Query};
use crate::schedule::judge;

/// How long an attempt may keep a delivery from being handed out again: longer than any attempt takes.
const LEASE: Duration = Duration::from_secs(60);
/// How often the outbox is looked at for what other gateways put there.
const LOOK: Duration = Duration::from_secs(30);
/// How long an outbox that failed is left alone.
const REST: Duration = Duration::from_secs(2);

/// Writes an event as it is sent.
pub type Render = fn(&Event) -> Box<str>;

/// Writes events down and has them delivered.
pub struct Alerts {
    outbox: Arc<dyn Outbox>,
    deliver: Arc<dyn Deliver>,
    render: Render,
    now: fn() -> SystemTime,
    endpoints: RwLock<Arc<[Endpoint]>>,
    /// Those that said that they are gone.
    gone: Mutex<HashSet<Arc<str>>>,
    /// Something may be due.
    bell: Notify,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
    dropped: AtomicU64,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Deliveries that were taken by their endpoint.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Deliveries that were given up.
    pub dead: u64,
    /// Deliveries that were never tried, because too many waited.
    pub dropped: u64,
}

impl Alerts {
    /// Tells nobody yet: see [`Alerts::follow`].
    pub fn new(
        outbox: Arc<dyn Outbox>,
        deliver: Arc<dyn Deliver>,
        render: Render,
        now: fn() -> SystemTime,
    ) -> Self {
        Self {
            outbox,
            deliver,
            render,
            now,
            endpoints: RwLock::new(Arc::new([])),
            gone: Mutex::default(),
            bell: Notify::new(),
            counts: Counts::default(),
        }
    }

    /// Tells these endpoints from now on. One that said that it is gone is asked again.
    pub fn follow(&self, endpoints: Vec<Endpoint>) {
        *self.endpoints.write() = endpoints.into();
        self.gone.lock().clear();
        self.bell.notify_one();
    }

    /// The endpoints that are told.
    pub fn endpoints(&self) -> Arc<[Endpoint]> {
        Arc::clone(&self.endpoints.read())
    }

    /// Whether anybody wants to be told of such an event.
    pub fn wants(&self, kind: EventKind) -> bool {
        self.endpoints.read().iter().any(|endpoint| endpoint.settings.wants(kind))
    }

    /// Takes an event; returns when it is written down, so while the outbox fails this waits. One that nobody wants is not
    /// kept, one that is known changes nothing.
    pub async fn tell(&self, event: &Event) {
        let wanting = self.endpoints();
        let wanting: Vec<Arc<str>> = wanting
            .iter()
            .filter(|endpoint| endpoint.settings.wants(event.kind))
            .map(|endpoint| Arc::clone(&endpoint.id))
            .collect();
        if wanting.is_empty() {
            return;
        }
        let notice = Notice {
            id: event.id(),
            kind: event.kind,
            at: event.at,
            body: (self.render)(event),
            remember_until: event.remember_until(),
        };
        let mut failing = false;
        let added = loop {
            match self.outbox.add(&notice, &wanting).await {
                Ok(added) => break added,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, event = notice.kind.name(), "an event cannot be written down and waits in memory");
                    }
                    tokio::time::sleep(REST).await;
                }
            }
        };
        if added.dropped > 0 {
            self.counts.dropped.fetch_add(added.dropped, Ordering::Relaxed);
            tracing::error!(event = notice.kind.name(), "too many deliveries wait: an event is dropped");
        }
        if added.waiting > 0 {
            tracing::info!(event = notice.kind.name(), id = &*notice.id, "an event is to be delivered");
            self.bell.notify_one();
        }
    }

    /// Delivers for ever. Dropped, it leaves what was under way to be tried again when its lease ends.
    pub async fn run(&self) {
        let mut flights: Flights<'_> = Flights { alerts: self, busy: HashSet::new() };
        let mut under_way = JoinSet::new();
        let mut failing = false;
        loop {
            let wake = flights.launch(&mut under_way).await;
            let pause = match wake {
                Ok(at) => {
                    failing = false;
                    at.map_or(LOOK, |at| at.duration_since((self.now)()).unwrap_or_default().min(LOOK))
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "the outbox of events cannot be read; deliveries wait");
                    }
                    REST
                }
            };
            tokio::select! {
                () = self.bell.notified() => {}
                () = tokio::time::sleep(pause) => {}
                Some(landed) = under_way.join_next() => flights.land(landed).await,
            }
        }
    }

    /// Deliveries, the newest first, each with the address of its endpoint while that is configured.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn list(&self, query: Query) -> Result<Vec<(Delivery, Option<Box<str>>)>, Error> {
        let rows = self.outbox.list(query).await?;
        Ok(rows.into_iter().map(|row| self.addressed(row)).collect())
    }

    /// Has a delivery made anew; `None` when there is none of this id.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn again(&self, id: &str) -> Result<Option<(Delivery, Option<Box<str>>)>, Error> {
        let row = self.outbox.again(id, (self.now)()).await?;
        self.bell.notify_one();
        Ok(row.map(|row| self.addressed(row)))
    }

    /// What was counted since the start.
    pub fn tally(&self) -> Tally {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { delivered, failed, dead, dropped } = &self.counts;
        Tally { delivered: read(delivered), failed: read(failed), dead: read(dead), dropped: read(dropped) }
    }

    fn addressed(&self, row: Delivery) -> (Delivery, Option<Box<str>>) {
        let endpoints = self.endpoints();
        let endpoint = endpoints.iter().find(|endpoint| *endpoint.id == *row.endpoint);
        (row, endpoint.map(|endpoint| endpoint.shown.clone()))
    }
}

/// What came of one attempt.
type Landed = (Arc<str>, Parcel, crate::outbox::Answer);

/// One attempt at a time for each endpoint.
struct Flights<'a> {
    alerts: &'a Alerts,
    busy: HashSet<Arc<str>>,
}

impl Flights<'_> {
    /// Begins what is due; says when the next is.
    async fn launch(&mut self, under_way: &mut JoinSet<Landed>) -> Result<Option<SystemTime>, Error> {
        let mut next: Option<SystemTime> = None;
        let endpoints = self.alerts.endpoints();
        for endpoint in endpoints.iter() {
            if self.busy.contains(&endpoint.id) || self.alerts.gone.lock().contains(&endpoint.id) {
                continue;
            }
            match self.alerts.outbox.claim(&endpoint.id, (self.alerts.now)(), LEASE).await? {
                Claim::Nothing => {}
                Claim::At(at) => next = Some(next.map_or(at, |next| next.min(at))),
                Claim::Due(parcel) => {
                    self.busy.insert(Arc::clone(&endpoint.id));
                    let (deliver, endpoint) = (Arc::clone(&self.alerts.deliver), endpoint.clone());
                    under_way.spawn(async move {
                        let answer = deliver.deliver(&endpoint, &parcel).await;
                        (endpoint.id, *parcel, answer)
                    });
                }
            }
        }
        Ok(next)
    }

    /// Writes down what came of an attempt.
    async fn land(&mut self, landed: Result<Landed, tokio::task::JoinError>) {
        let alerts = self.alerts;
        let Ok((endpoint, parcel, answer)) = landed else {
            // A carrier that panicked: nobody is under way any more for certain only when all are asked anew.
            tracing::error!(
                "an attempt to deliver an event ended without a result: this is a defect, please report it"
            );
            self.busy.clear();
            return;
        };
        self.busy.remove(&endpoint);
        let attempts = parcel.attempts.saturating_add(1);
        let reply = judge(&parcel.id, attempts, answer, (alerts.now)());
        if reply.status == Some(410) {
            tracing::warn!(
                endpoint = &*endpoint,
                "an endpoint says that it is gone (410) and is told nothing until a reload"
            );
            alerts.gone.lock().insert(endpoint);
        }
        let (count, trouble) = match reply.outcome {
            Outcome::Delivered => (&alerts.counts.delivered, None),
            Outcome::Again { .. } => (&alerts.counts.failed, reply.trouble.as_deref()),
            Outcome::Dead => (&alerts.counts.dead, reply.trouble.as_deref()),
        };
        count.fetch_add(1, Ordering::Relaxed);
        if reply.outcome != Outcome::Delivered {
            tracing::warn!(
                id = &*parcel.id,
                event = &*parcel.event,
                attempts,
                status = reply.status,
                trouble,
                given_up = reply.outcome == Outcome::Dead,
                "an event was not delivered"
            );
        }
        if let Err(error) = alerts.outbox.settle(&parcel.id, &reply).await {
            // It is handed out again when its lease ends: at least once.
            tracing::error!(%error, id = &*parcel.id, "what came of a delivery cannot be written down");
        }
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
