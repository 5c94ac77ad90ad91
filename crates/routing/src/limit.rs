//! How many attempts a self-hosted target takes at once, learnt from when it turned them away.
//!
//! There is no limit until the target rejects for the first time, and none again when it has not for a while. A rejection makes the
//! limit smaller by a factor, answers at the limit raise it by one per round (AIMD: Chiu and Jain, 1989). Before an engine
//! rejects, its queue grows: when the time to the first token per token of the prompt is well above what it usually is, the limit
//! shrinks too (the gradient of Netflix's concurrency-limits).

use std::time::{Duration, Instant};

/// What a rejection leaves of the limit.
const DECREASE: f64 = 0.8;
/// Rejections so close together are one: they were all sent before the first came back.
const ONE_EVENT: Duration = Duration::from_millis(250);
/// Without a rejection for so long there is no limit.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// How much slower than usual is no reason for concern.
const TOLERANCE: f64 = 2.0;
/// Tokens that any prompt counts more: the part of the time that does not depend on its length.
const BASE: f64 = 500.0;

/// The limit of one target.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    most: Option<f64>,
    rejected: Option<Instant>,
    usual: f64,
    recent: f64,
}

impl Limit {
    /// The most that is sent at once, where it is known.
    pub(crate) fn most(&self) -> Option<u32> {
        self.most.map(|most| most as u32)
    }

    /// Whether one more is too many.
    pub(crate) fn full(&self, in_flight: u32) -> bool {
        self.most().is_some_and(|most| in_flight >= most)
    }

    /// One of so many attempts under way was turned away.
    pub(crate) fn rejected(&mut self, in_flight: u32, now: Instant) {
        let event = self.rejected.is_none_or(|at| now.saturating_duration_since(at) >= ONE_EVENT);
        if event {
            let reached = f64::from(in_flight.saturating_sub(1).max(1));
            self.most = Some((self.most.unwrap_or(reached).min(reached) * DECREASE).max(1.0));
            self.rejected = Some(now);
        }
    }

    /// An answer began after so long, with so many attempts under way.
    pub(crate) fn answered(&mut self, input: u64, took: Duration, in_flight: u32, now: Instant) {
        let pace = took.as_secs_f64() / (input as f64 + BASE);
        let follow = |old: f64, weight: f64| if old == 0.0 { pace } else { old + weight * (pace - old) };
        self.recent = follow(self.recent, 0.2);
        self.usual = follow(self.usual, 0.005);
        let Some(most) = self.most else { return };
        if self.rejected.is_some_and(|at| now.saturating_duration_since(at) >= FORGOTTEN) {
            self.most = None;
            return;
        }
        let gradient = (TOLERANCE * self.usual / self.recent).clamp(0.5, 1.0);
        if gradient < 1.0 {
            self.most = Some((most * (0.95 + 0.05 * gradient)).max(1.0));
        } else if f64::from(in_flight) >= most.floor() {
            self.most = Some(most + 1.0 / most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(300);

    #[test]
    fn who_never_rejects_has_no_limit() {
        let mut limit = Limit::default();
        (0..1_000).for_each(|n| limit.answered(100, TOOK * (1 + n / 100), n, Instant::now()));
        assert!(!limit.full(1_000_000));
    }

    #[test]
    fn the_limit_settles_near_what_the_engine_takes() {
        let mut now = Instant::now();
        let mut limit = Limit::default();
        let mut in_flight = 0;
        let mut rejections = 0;
        for _ in 0..20_000 {
            now += Duration::from_millis(10);
            // Everything the limit lets pass is sent; the engine takes eight.
            if limit.full(in_flight) || in_flight > 8 {
                in_flight -= 1;
                limit.answered(100, TOOK, in_flight + 1, now);
                continue;
            }
            in_flight += 1;
            if in_flight > 8 {
                limit.rejected(in_flight, now);
                in_flight -= 1;
                rejections += 1;
            }
        }
        assert!((5..=9).contains(&limit.most().unwrap()), "{limit:?}");
        assert!(rejections < 2_000, "{rejections}");
    }

    #[test]
    fn a_burst_of_rejections_is_one_and_the_floor_is_one() {
        let now = Instant::now();
        let mut limit = Limit::default();
        (0..50).for_each(|_| limit.rejected(11, now));
        assert_eq!(limit.most(), Some(8));
        (0..50).for_each(|n| limit.rejected(11, now + ONE_EVENT * n));
        assert_eq!(limit.most(), Some(1));
        assert!(!limit.full(0));
    }

    #[test]
    fn a_growing_queue_shrinks_the_limit_and_time_lifts_it() {
        let now = Instant::now();
        let mut limit = Limit::default();
        (0..500).for_each(|_| limit.answered(1_000, TOOK, 20, now));
        limit.rejected(21, now);
        (0..100).for_each(|_| limit.answered(1_000, TOOK * 6, 16, now));
        assert!(limit.most().unwrap() < 8, "{limit:?}");
        limit.answered(1_000, TOOK, 1, now + FORGOTTEN);
        assert_eq!(limit.most(), None);
    }
}
