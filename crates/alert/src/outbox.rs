//! The ports: where events wait, and who carries them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_config::{EventKind, Webhook};
use penstock_domain::Error;

use crate::event::digest;

/// Most deliveries that wait; what comes then is dropped and counted.
pub const MOST_WAITING: usize = 10_000;
/// Most deliveries that are kept to be looked at when they are done; the oldest that were delivered go first.
pub const MOST_DONE: usize = 10_000;

/// What the methods of [`Outbox`] return.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// What [`Deliver::deliver`] returns.
pub type Delivering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Keeps events until they are delivered, and remembers them so that none is told twice. Several gateways may share one.
pub trait Outbox: Send + Sync {
    /// Takes an event for some endpoints, all or nothing. One that it knows by its id changes nothing. Drops the oldest of
    /// what was delivered, and what nobody has to remember any more.
    ///
    /// # Errors
    /// `store_unavailable`.
    fn add<'a>(&'a self, notice: &'a Notice, endpoints: &'a [Arc<str>]) -> Pending<'a, Added>;

    /// Hands out the next delivery to an endpoint and keeps it from being handed out again until the lease ends: the oldest
    /// in the line, and only that one; or one that stands outside of the line and is due.
    ///
    /// # Errors
    /// `store_unavailable`.
    fn claim<'a>(&'a self, endpoint: &'a str, now: SystemTime, lease: Duration) -> Pending<'a, Claim>;

    /// Writes down how an attempt ended.
    ///
    /// # Errors
    /// `store_unavailable`.
    fn settle<'a>(&'a self, id: &'a str, reply: &'a Reply) -> Pending<'a, ()>;

    /// Deliveries, the newest first.
    ///
    /// # Errors
    /// `store_unavailable`.
    fn list(&self, query: Query) -> Pending<'_, Vec<Delivery>>;

    /// Has a delivery made anew, whatever became of it, outside of the line. Returns it as it stands then.
    ///
    /// # Errors
    /// `store_unavailable`.
    fn again<'a>(&'a self, id: &'a str, now: SystemTime) -> Pending<'a, Option<Delivery>>;
}

/// Carries one delivery to its endpoint.
pub trait Deliver: Send + Sync {
    /// Makes one attempt, bounded in time, and says what came of it.
    fn deliver<'a>(&'a self, endpoint: &'a Endpoint, parcel: &'a Parcel) -> Delivering<'a>;
}

/// An event as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its id.
    pub id: Box<str>,
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub at: SystemTime,
    /// What is sent, byte for byte, at every attempt.
    pub body: Box<str>,
    /// Until when it has to be remembered; `None`: for good.
    pub remember_until: Option<SystemTime>,
}

impl Notice {
    /// The id of its delivery to an endpoint.
    pub fn delivery(&self, endpoint: &str) -> Box<str> {
        digest("dlv_", &[&self.id, endpoint])
    }
}

/// What became of an event that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// Deliveries that now wait.
    pub waiting: u64,
    /// Deliveries that were not taken, because too many wait already.
    pub dropped: u64,
}

/// What there is to do for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// This, now.
    Due(Box<Parcel>),
    /// Nothing before this moment.
    At(SystemTime),
    /// Nothing.
    Nothing,
}

/// One delivery that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// The delivery's id.
    pub id: Box<str>,
    /// The event's id: receivers know by it what they have seen.
    pub event: Box<str>,
    /// What is sent.
    pub body: Box<str>,
    /// Attempts so far.
    pub attempts: u32,
}

/// What came of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status; `None`: there was no answer.
    pub status: Option<u16>,
    /// The time for which the endpoint asks to be left alone.
    pub retry_after: Option<Duration>,
    /// What went wrong, without secrets.
    pub trouble: Option<Box<str>>,
}

/// How an attempt ended, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What follows.
    pub outcome: Outcome,
    /// When the attempt ended.
    pub at: SystemTime,
    /// The status.
    pub status: Option<u16>,
    /// What went wrong, bounded, without secrets.
    pub trouble: Option<Box<str>>,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Delivered,
    /// It is tried again then. `in_line`: the endpoint is in trouble, and what comes after it waits.
    Again {
        /// When.
        at: SystemTime,
        /// Whether later deliveries wait for this one.
        in_line: bool,
    },
    /// It is given up.
    Dead,
}

/// What became of a delivery so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits for its first or next attempt.
    Waiting,
    /// The endpoint has taken it.
    Delivered,
    /// It was given up.
    Dead,
}

impl State {
    /// Every state.
    pub const ALL: [State; 3] = [State::Waiting, State::Delivered, State::Dead];

    /// `waiting`, `delivered` or `dead`.
    pub const fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Delivered => "delivered",
            State::Dead => "dead",
        }
    }
}

/// Which deliveries are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Query {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those that were taken before this place.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

/// One delivery as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: Box<str>,
    /// Its place in the order in which deliveries were taken.
    pub place: u64,
    /// The event's id.
    pub event: Box<str>,
    /// What happened.
    pub kind: Box<str>,
    /// The id of its endpoint.
    pub endpoint: Box<str>,
    /// What became of it.
    pub state: State,
    /// When the event happened.
    pub created: SystemTime,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is tried next.
    pub next: Option<SystemTime>,
    /// When it was tried last.
    pub last: Option<SystemTime>,
    /// The status of the last attempt.
    pub status: Option<u16>,
    /// What went wrong at the last attempt.
    pub trouble: Option<Box<str>>,
}

/// Somebody who is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id: a digest of its address.
    pub id: Arc<str>,
    /// Its address without the path, for people.
    pub shown: Box<str>,
    /// What the configuration says of it.
    pub settings: Webhook,
}

impl Endpoint {
    /// The endpoint of a configuration; `shown` is its address without what may be secret.
    pub fn new(settings: &Webhook, shown: impl Into<Box<str>>) -> Self {
        let id = digest("ep_", &[&settings.url]);
        Self { id: id.into(), shown: shown.into(), settings: settings.clone() }
    }
}

/// Without the path, which may be a secret.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({} {})", self.id, self.shown)
    }
}
