//! What replicas share.
//!
//! What it is: the port [`Shared`], under which several gateways count against the same limits and budgets at once; the
//! [`Link`] of this gateway with it; and the [`Keeper`], the task that brings to it what ended, tells dead gateways from
//! living ones, and finds the way back when it was gone.
//!
//! What it promises: a request takes from all of its accounts or from none, for all gateways together, in one round trip.
//! The ledger is the truth about money and this its cache: what an account has spent is what the ledger says of it, which
//! only ever grows, and what has ended but is not written yet. So everything brought here may be brought twice, in any
//! order, and after a loss the state is built anew from the ledger and from what each gateway has open. While it is away,
//! each gateway lives on its part of what was left ([`Terms::failure`]).
//!
//! What it refuses to know: Redis, sockets.

use std::sync::Arc;
use std::time::Duration;

use crate::ledger::{GatewayId, Pending, Sums};
use crate::rules::{Allowance, Level, Need};

mod around;
mod keeper;
pub(crate) mod lease;
pub(crate) mod link;
mod notes;

pub use keeper::Keeper;
pub use link::{Counts, Link, Standing};

/// Counts for all gateways together. Every method is one step: nobody sees half of it.
pub trait Shared: Send + Sync {
    /// Takes what a request needs from all of its accounts, or says what they lack.
    ///
    /// # Errors
    /// `store_unavailable`: whether it was taken is not known.
    fn reserve<'a>(&'a self, hold: &'a Hold) -> Pending<'a, Reply>;

    /// Looks at accounts and takes nothing; `None` for one that is not known here.
    fn look<'a>(&'a self, shares: &'a [Share]) -> Pending<'a, Vec<Option<Seen>>>;

    /// Brings what happened. The same may be brought again. Returns the requests that hold more than may be lent.
    ///
    /// # Errors
    /// `conflict` when this gateway is not known, unless the changes make it known; `store_unavailable`.
    fn put<'a>(&'a self, changes: &'a Changes) -> Pending<'a, Vec<u64>>;

    /// Says that this gateway is here, and finds who else is; connects where there is no connection. With `whole` all that
    /// is known of this gateway's own requests.
    fn greet(&self, whole: bool) -> Pending<'_, Present>;

    /// Gives back what a gateway held that is no more, and forgets it; unless `go`, only names the accounts.
    fn bury<'a>(&'a self, gateway: &'a GatewayId, go: bool) -> Pending<'a, Vec<Place>>;
}

/// What a gateway does while what is shared is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Each gateway admits its part: every rate and what was left of every budget, divided by the gateways that lived.
    Local,
    /// No request is admitted.
    Refuse,
}

/// How a gateway deals with what is shared.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The longest time that a request waits for it.
    pub timeout: Duration,
    /// What happens without it.
    pub failure: Failure,
}

/// An account, by level and name; the organisation's name is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Whose.
    pub level: Level,
    /// Its name.
    pub name: Arc<str>,
}

/// An account of a request.
#[derive(Debug, Clone)]
pub struct Share {
    /// Which.
    pub place: Place,
    /// What it allows.
    pub allowance: Allowance,
    /// The names under which the ledger has it, where they are not its own.
    pub names: Option<Arc<[Arc<str>]>>,
}

impl Share {
    /// The names under which the ledger has it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let own = self.names.is_none().then_some(&self.place.name);
        own.into_iter().chain(self.names.iter().flat_map(|names| names.iter()))
    }
}

/// What a request is to hold.
#[derive(Debug)]
pub struct Hold {
    /// The request's number at this gateway.
    pub number: u64,
    /// Its accounts.
    pub shares: Arc<[Share]>,
    /// How much.
    pub need: Need,
}

/// The answer to [`Shared::reserve`].
#[derive(Debug)]
pub enum Reply {
    /// Taken; the accounts as they are now.
    Held(Vec<Seen>),
    /// It does not fit; the accounts as they are.
    Refused(Vec<Seen>),
    /// What these accounts have spent is not known: nothing was taken.
    Unknown(Vec<usize>),
    /// This gateway is not known: everything was lost, or it was taken for dead.
    Stranger,
}

/// An account as all gateways see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Requests in flight.
    pub in_flight: u32,
    /// What is held for them.
    pub held: Need,
    /// Money spent.
    pub spent: Sums,
    /// How full each rate is, in tokens times nanoseconds of its span, in the order of [`crate::Limits::rates`].
    pub rates: Vec<u128>,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It runs and holds something.
    Held,
    /// It has ended, and the ledger does not have it yet.
    Ended,
    /// The ledger has it.
    Gone,
}

/// A request as it is now.
#[derive(Debug, Clone)]
pub struct Put {
    /// Its number.
    pub number: u64,
    /// How far it has come.
    pub phase: Phase,
    /// What it holds, or has used.
    pub amount: Need,
    /// Its accounts; empty for one of which only its number is known.
    pub shares: Arc<[Share]>,
}

/// Tokens and requests that nobody held when they were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Debt {
    /// Requests.
    pub requests: u64,
    /// Tokens of prompts.
    pub input: u64,
    /// Tokens of answers.
    pub output: u64,
}

/// What the ledger says of an account.
#[derive(Debug, Clone)]
pub struct Seed {
    /// Which.
    pub place: Place,
    /// By each of its names there.
    pub names: Vec<(Arc<str>, Sums)>,
    /// The day, counted since 1970, and the month, counted since the year 0, that these sums are of.
    pub period: (u64, u64),
}

/// What is brought at once.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Requests.
    pub puts: Vec<Put>,
    /// Accounts, their name in the ledger, and what they have spent ever.
    pub totals: Vec<(Place, Arc<str>, u64)>,
    /// Accounts as the ledger has them.
    pub seeds: Vec<Seed>,
    /// What was used without being held; once for each turn.
    pub debts: Option<(u64, Vec<(Place, Debt)>)>,
    /// This is all there is of this gateway, which is known from now on.
    pub complete: bool,
}

/// Who is here.
#[derive(Debug, Clone, Default)]
pub struct Present {
    /// Whether this gateway is known.
    pub known: bool,
    /// For how long the present state exists.
    pub age: Duration,
    /// Every gateway that was here, and whether all it has was brought.
    pub gateways: Vec<(GatewayId, bool)>,
    /// The numbers of this gateway's requests that are known, if they were asked for.
    pub numbers: Vec<u64>,
}
