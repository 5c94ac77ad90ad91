//! The arithmetic of a rate: a leaky bucket (the generic cell rate algorithm, ITU-T I.371, annex A, for cells of any size),
//! in whole numbers.
//!
//! An account with `n` tokens per minute owns a bucket of `n` that leaks evenly. What is used is poured in; what is *held* for
//! requests under way stands on top and does not leak until it is known how much of it was used. So a reservation can be
//! given back exactly, whenever that is, and in any span of `t` no more than `n + n·t/minute` is used.
//!
//! The level is kept in tokens times nanoseconds of the span, of which `n` leak each nanosecond: nothing is ever rounded.
//! Times are nanoseconds since a start that the caller chooses.

use std::time::Duration;

use penstock_config::{Meter, Span};

use crate::rules::Gauge;

/// One rate of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) meter: Meter,
    pub(crate) span: Span,
    pub(crate) limit: u64,
    level: u128,
    at: u64,
}

/// Whether so much fits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Now,
    /// After this time, if nothing comes in between and what is held is used.
    After(Duration),
    /// It is more than the bucket.
    Never,
}

impl Bucket {
    pub(crate) fn new((meter, span, limit): (Meter, Span, u64), now: u64) -> Self {
        Self { meter, span, limit, level: 0, at: now }
    }

    /// A bucket that is so full: in tokens times nanoseconds of its span.
    pub(crate) fn filled((meter, span, limit): (Meter, Span, u64), level: u128) -> Self {
        Self { meter, span, limit, level, at: 0 }
    }

    /// One request that was poured in comes out again.
    pub(crate) fn unpour(&mut self) {
        self.level = self.level.saturating_sub(self.whole(1));
    }

    /// The same use under another limit. A lower one leaves at most a full bucket of it.
    pub(crate) fn limited(mut self, limit: u64, now: u64) -> Self {
        self.leak(now);
        self.limit = limit;
        self.level = self.level.min(self.whole(limit));
        self
    }

    pub(crate) fn fit(&self, held: u64, ask: u64, now: u64) -> Fit {
        if ask == 0 {
            return Fit::Now;
        }
        if ask > self.limit {
            return Fit::Never;
        }
        let needed = self.level_at(now) + self.whole(held) + self.whole(ask);
        match needed.checked_sub(self.whole(self.limit)) {
            None | Some(0) => Fit::Now,
            Some(over) => {
                let nanos = over.div_ceil(u128::from(self.limit));
                Fit::After(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
            }
        }
    }

    /// Whether so much more may be held although it does not fit: at most one bucket of debt.
    pub(crate) fn lends(&self, held: u64, ask: u64, now: u64) -> bool {
        self.level_at(now) + self.whole(held) + self.whole(ask) <= 2 * self.whole(self.limit)
    }

    /// What could come at once.
    pub(crate) fn room(&self, held: u64, now: u64) -> u64 {
        let used = self.level_at(now).div_ceil(u128::from(self.span.nanos()));
        let used = u64::try_from(used).unwrap_or(u64::MAX);
        self.limit.saturating_sub(used).saturating_sub(held)
    }

    pub(crate) fn pour(&mut self, used: u64, now: u64) {
        self.leak(now);
        self.level = self.level.saturating_add(self.whole(used));
    }

    pub(crate) fn gauge(&self, held: u64, now: u64) -> Gauge {
        let filled = self.level_at(now) + self.whole(held);
        let nanos = filled.div_ceil(u128::from(self.limit.max(1)));
        Gauge {
            limit: self.limit,
            remaining: self.room(held, now),
            reset: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
        }
    }

    pub(crate) fn is_empty(&self, now: u64) -> bool {
        self.level_at(now) == 0
    }

    fn leak(&mut self, now: u64) {
        self.level = self.level_at(now);
        self.at = self.at.max(now);
    }

    /// A time before the last one leaks nothing.
    fn level_at(&self, now: u64) -> u128 {
        let leaked = u128::from(self.limit) * u128::from(now.saturating_sub(self.at));
        self.level.saturating_sub(leaked)
    }

    fn whole(&self, tokens: u64) -> u128 {
        u128::from(tokens) * u128::from(self.span.nanos())
    }
}

#[cfg(test)]
mod tests;
