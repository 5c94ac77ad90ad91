//! Tokens per minute that are paid for in advance: a bucket that fills evenly, from which estimates are reserved and corrected
//! when the truth is known.

use std::time::Instant;

/// The part of a minute that may be used at once.
const BURST: f64 = 0.25;

/// What is left of a target's provisioned tokens.
#[derive(Debug)]
pub(crate) struct Provision {
    per_minute: u64,
    left: f64,
    at: Instant,
}

impl Provision {
    pub(crate) fn new(per_minute: u64, now: Instant) -> Self {
        Self { per_minute, left: per_minute as f64 * BURST, at: now }
    }

    /// Follows a reload.
    pub(crate) fn set(&mut self, per_minute: u64) {
        self.per_minute = per_minute;
    }

    /// Whether there are so many. A request that is larger than the bucket needs a full one.
    pub(crate) fn has(&mut self, tokens: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let most = self.per_minute as f64 * BURST;
        self.left = (self.left + passed * self.per_minute as f64 / 60.0).min(most);
        self.at = self.at.max(now);
        self.left >= (tokens as f64).min(most)
    }

    /// Takes an estimate. Answers that turn out longer leave a debt, which is paid first.
    pub(crate) fn reserve(&mut self, tokens: u64) {
        self.left -= tokens as f64;
    }

    /// Corrects an estimate.
    pub(crate) fn settle(&mut self, reserved: u64, used: u64) {
        self.left += reserved as f64 - used as f64;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_minute_gives_what_was_paid_for_whatever_was_estimated() {
        let mut now = Instant::now();
        let mut provision = Provision::new(60_000, now);
        let mut used = 0;
        for n in 0..60_000 {
            now += Duration::from_millis(10);
            let truth = 100 + n % 900;
            if provision.has(2_000, now) {
                provision.reserve(2_000);
                provision.settle(2_000, truth);
                used += truth;
            }
        }
        // Ten minutes, and the quarter that was there from the beginning.
        assert!((590_000..=616_000).contains(&used), "{used}");
    }

    #[test]
    fn a_debt_is_paid_first_and_a_large_request_is_not_shut_out() {
        let now = Instant::now();
        let mut provision = Provision::new(6_000, now);
        assert!(provision.has(1_000_000, now));
        provision.reserve(3_000);
        assert!(!provision.has(1, now + Duration::from_secs(10)));
        assert!(provision.has(1, now + Duration::from_secs(16)));
    }
}
