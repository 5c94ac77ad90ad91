//! What everybody together may ask of one provider, and spend there.
//!
//! What it promises: the arithmetic of every other account: what is taken is held until it is known what was used, and then
//! poured into the rates and the budget. A call takes from its provider when it begins and settles when it ends; a hedge or a
//! fail-over takes from its own.
//!
//! What it refuses to know: who waits for it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use penstock_config::Meter;
use penstock_domain::{Error, Tariff};

use crate::Standing;
use crate::account::{Lack, State};
use crate::ledger::Sums;
use crate::refuse;
use crate::rules::{Allowance, Level, Need, Now, Rate};

/// So many answers of unknown length are to find room beside each other.
const CROWD: u64 = 4;

/// The account of one provider.
pub struct Quota {
    name: Arc<str>,
    start: Instant,
    state: Mutex<State>,
}

/// Why a call does not fit.
#[derive(Debug, Clone)]
pub struct Short {
    /// In words: which limit, whose, how much is left, and when it will be enough.
    pub error: Error,
    /// After this time it fits, if nothing comes in between; `None` when waiting is no use.
    pub wait: Option<Duration>,
}

impl Quota {
    /// An account of which nothing was used; later times must not lie before `start`.
    pub fn new(name: Arc<str>, start: Instant) -> Self {
        Self { name, start, state: Mutex::default() }
    }

    /// Takes over what the newest configuration allows; what was used so far stays used.
    pub fn adopt(&self, allowance: &Allowance, now: Instant) {
        let at = self.nanos(now);
        self.state.lock().adopt(allowance, at);
    }

    /// What a call may need. An answer whose asker named no bound `grows`, and need not fit as a whole.
    pub fn need(&self, (input, output): (u64, u64), grows: bool, tariff: Option<&Tariff>) -> Need {
        let longest = if grows { self.state.lock().longest(input, CROWD) } else { u64::MAX };
        Need::of(input, output.min(longest), tariff)
    }

    /// What a call lacks, if anything. `priced`: whether it is known what it costs.
    pub fn short(&self, need: &Need, priced: bool, now: Now) -> Option<Short> {
        let at = self.nanos(now.at);
        let mut state = self.state.lock();
        if state.allowance == Allowance::default() {
            return None;
        }
        state.spent.turn(now.wall);
        if !priced && state.allowance.budget.is_some() {
            let error = refuse::unpriced(Level::Provider, &self.name);
            return Some(Short { error, wait: None });
        }
        let lack = state.lack(need, at)?;
        drop(state);
        let wait = match &lack {
            Lack::Rate { wait, .. } => *wait,
            // Whoever is in flight ends.
            Lack::Slots(_) => Some(Duration::ZERO),
            Lack::Money { .. } => None,
        };
        Some(Short { error: refuse::error(Level::Provider, &self.name, lack), wait })
    }

    /// A call begins that lacks nothing.
    pub fn take(&self, need: Need, now: Now) {
        let at = self.nanos(now.at);
        self.state.lock().take(need, at);
    }

    /// A call under way needs more than it took.
    pub fn more(&self, more: Need) {
        let mut state = self.state.lock();
        state.held = state.held.plus(more);
    }

    /// A call ends: it held this, and used that.
    pub fn settle(&self, held: Need, used: Need, now: Now) {
        let at = self.nanos(now.at);
        let mut state = self.state.lock();
        state.spent.turn(now.wall);
        state.settle(held, used, at);
    }

    /// How long it takes until so many requests with so many tokens have gone through, at the rates alone.
    pub fn drains(&self, requests: u64, tokens: (u64, u64)) -> Duration {
        let state = self.state.lock();
        let share = |meter| match meter {
            Meter::Requests => requests,
            Meter::Input => tokens.0,
            Meter::Output => tokens.1,
            Meter::Tokens => tokens.0.saturating_add(tokens.1),
        };
        let each = state.allowance.limits.rates().map(|(meter, span, limit)| {
            let nanos = u128::from(share(meter)) * u128::from(span.nanos()) / u128::from(limit.max(1));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        });
        each.max().unwrap_or_default()
    }

    /// The account as it stands.
    pub fn standing(&self, now: Now) -> Standing {
        let at = self.nanos(now.at);
        let mut state = self.state.lock();
        state.spent.turn(now.wall);
        let mut rate = Rate::default();
        state.gauges(&mut rate, at);
        let spent = &state.spent;
        let spent = Sums { day: spent.day.1, month: spent.month.1, lifetime: spent.lifetime };
        let budget = state.allowance.budget;
        Standing {
            level: Level::Provider,
            name: Arc::clone(&self.name),
            allowance: state.allowance,
            in_flight: state.in_flight,
            held: state.held,
            spent,
            left: budget.map(|budget| state.left(budget)),
            renewed: budget.and_then(|budget| state.spent.renewed(budget.per)),
            rate,
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota").field("name", &self.name).finish_non_exhaustive()
    }
}
