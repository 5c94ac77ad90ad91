//! What requests may cost beyond their first call: retries, failovers and hedges, each from a purse of its own.
//!
//! Every request of a model pays a part of a call into each purse, and what is not spent fades within seconds (Finagle's retry
//! budget). So repeats stay a share of what is asked now, whatever was asked before, and an outage is not met with a
//! multiple of the load. One purse for all would not do: at 30 % failures a common 20 % caps success at 90 %.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What an extra call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    /// The same target again, or a target that is known to fail because there is no other.
    Retry,
    /// A target that is well.
    Failover,
    /// A second target beside a slow one.
    Hedge,
}

/// How a purse fills.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// Calls that each request pays in.
    ratio: f64,
    /// Seconds in which 63 % of what is not spent are gone.
    fades: f64,
    /// Calls per second that are free, however little is asked; also how many may be saved up.
    free: f64,
}

const RETRY: Terms = Terms { ratio: 0.20, fades: 5.0, free: 3.0 };
// Whoever failed may go to somebody who is well: a hung provider fails everything that it was given.
const FAILOVER: Terms = Terms { ratio: 1.0, fades: 10.0, free: 10.0 };
const HEDGE: Terms = Terms { ratio: 0.05, fades: 120.0, free: 0.0 };

/// The purses of one model.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    begun: AtomicU64,
    purses: Mutex<Purses>,
}

#[derive(Debug, Default)]
struct Purses {
    at: Option<Instant>,
    retry: Purse,
    failover: Purse,
    hedge: Purse,
}

#[derive(Debug, Default)]
struct Purse {
    earned: f64,
    spent_free: f64,
}

impl Budgets {
    /// A request has begun.
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one call, if there is one.
    pub(crate) fn take(&self, extra: Extra, now: Instant) -> bool {
        self.with(extra, now, |purse, terms| {
            if purse.earned >= 1.0 {
                purse.earned -= 1.0;
            } else if purse.spent_free + 1.0 <= terms.free {
                purse.spent_free += 1.0;
            } else {
                return false;
            }
            true
        })
    }

    /// Whether there would be one.
    pub(crate) fn has(&self, extra: Extra, now: Instant) -> bool {
        self.with(extra, now, |purse, terms| purse.earned >= 1.0 || purse.spent_free + 1.0 <= terms.free)
    }

    fn with<T>(&self, extra: Extra, now: Instant, use_it: impl FnOnce(&mut Purse, Terms) -> T) -> T {
        let mut purses = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = self.begun.swap(0, Ordering::Relaxed) as f64;
        let passed = purses.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        purses.at = purses.at.max(Some(now));
        purses.retry.fill(RETRY, begun, passed);
        purses.failover.fill(FAILOVER, begun, passed);
        purses.hedge.fill(HEDGE, begun, passed);
        match extra {
            Extra::Retry => use_it(&mut purses.retry, RETRY),
            Extra::Failover => use_it(&mut purses.failover, FAILOVER),
            Extra::Hedge => use_it(&mut purses.hedge, HEDGE),
        }
    }
}

impl Purse {
    /// So many requests came, evenly, in so many seconds.
    fn fill(&mut self, terms: Terms, begun: f64, passed: f64) {
        let stays = (-passed / terms.fades).exp();
        // What the early ones paid has partly faded already.
        let counts = if passed > 0.0 { terms.fades / passed * (1.0 - stays) } else { 1.0 };
        self.earned = self.earned * stays + terms.ratio * begun * counts;
        self.spent_free = (self.spent_free - terms.free * passed).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::random::Random;

    /// Extra calls granted in 60 seconds of requests that each want as many as they can get.
    fn granted(extra: Extra, per_second: u32, wanted: usize) -> f64 {
        let budgets = Budgets::default();
        let mut now = Instant::now();
        let mut granted = 0;
        for _ in 0..60 * per_second {
            now += Duration::from_secs(1) / per_second;
            budgets.begin();
            granted += (0..wanted).filter(|_| budgets.take(extra, now)).count();
        }
        granted as f64 / f64::from(60 * per_second)
    }

    #[test]
    fn each_purse_pays_its_share_and_no_more() {
        assert!((0.20..=0.21).contains(&granted(Extra::Retry, 500, 3)));
        assert!((1.0..=1.03).contains(&granted(Extra::Failover, 500, 3)));
        assert!((0.045..=0.05).contains(&granted(Extra::Hedge, 500, 3)));
        assert!((granted(Extra::Failover, 500, 1) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_single_request_may_be_repeated_and_a_quiet_hour_saves_nothing_up() {
        assert!(granted(Extra::Retry, 1, 1) >= 1.0);
        let budgets = Budgets::default();
        let mut now = Instant::now();
        budgets.take(Extra::Retry, now);
        (0..100_000).for_each(|_| budgets.begin());
        now += Duration::from_secs(3600);
        let taken = (0..1_000).filter(|_| budgets.take(Extra::Retry, now)).count();
        // 20 % of 28 requests per second, for five seconds, and the free ones.
        assert!((25..=32).contains(&taken), "{taken}");
    }

    #[test]
    fn no_purse_is_ever_overdrawn_whatever_comes() {
        let mut random = Random::new(9);
        for _ in 0..200 {
            let budgets = Budgets::default();
            let start = Instant::now();
            for _ in 0..500 {
                // Time as several threads see it: it may run backwards a little.
                let now = start + Duration::from_millis(random.next() % 60_000);
                (0..random.next() % 4).for_each(|_| budgets.begin());
                let extra = [Extra::Retry, Extra::Failover, Extra::Hedge][(random.next() % 3) as usize];
                let had = budgets.has(extra, now);
                assert_eq!(budgets.take(extra, now), had);
            }
            let purses = budgets.purses.lock().unwrap();
            for purse in [&purses.retry, &purses.failover, &purses.hedge] {
                assert!(purse.earned >= 0.0 && purse.spent_free >= 0.0, "{purses:?}");
            }
        }
    }
}
