//! When a target has begun to fail more than it usually does: Page's cumulative sum test (E. S. Page, "Continuous Inspection
//! Schemes", 1954) on attempts.
//!
//! Each failure adds the logarithm of how much likelier it is from a sick target than from this one at its usual rate, each
//! success subtracts likewise, and the sum never falls below zero. It notices 30 % failures within 17 attempts on average and
//! accuses a target with 1 % once in about 1.5 million, which no count of consecutive failures or fixed window does.
//!
//! The usual rate is learnt, but only from stretches that ended well: what led to an ejection is no part of what is usual.

/// The rate of failures from which a target is sick.
const SICK: f64 = 0.20;
/// The sum at which a target is ejected.
pub(crate) const THRESHOLD: f64 = 11.5;
/// The least and the most that counts as usual. Above the most, a sick target would become its own measure.
const USUAL: std::ops::RangeInclusive<f64> = 0.01..=0.05;
/// How many attempts the usual rate is taken from, at most and to begin with (all good, as far as anybody knows).
const MEMORY: f64 = 4096.0;
const PRIOR: f64 = 1000.0;

/// The test for one target.
#[derive(Debug, Clone)]
pub(crate) struct Cusum {
    score: f64,
    up: f64,
    down: f64,
    /// The rate that `up` and `down` were computed for.
    computed: f64,
    usual: f64,
    seen: f64,
    // Since the sum was last zero.
    attempts: f64,
    failures: f64,
}

impl Cusum {
    pub(crate) fn new() -> Self {
        let usual = *USUAL.start();
        let (up, down) = steps(usual);
        Self { score: 0.0, up, down, computed: usual, usual, seen: PRIOR, attempts: 0.0, failures: 0.0 }
    }

    /// Takes one attempt; true when the evidence suffices.
    pub(crate) fn record(&mut self, failed: bool) -> bool {
        self.attempts += 1.0;
        self.failures += f64::from(u8::from(failed));
        self.score += if failed { self.up } else { self.down };
        if self.score <= 0.0 {
            self.score = 0.0;
            self.learn();
        }
        self.score >= THRESHOLD
    }

    /// Whether the evidence suffices, with so many attempts open beyond what is usual. Failures often show within milliseconds and
    /// answers within seconds; at the beginning of a burst only the former are there. So what is open counts as good, up to as much
    /// evidence again: a target that answers nobody must not profit from it for long.
    pub(crate) fn convicts(&self, open: f64) -> bool {
        self.score >= THRESHOLD + (-self.down * open).min(THRESHOLD)
    }

    /// Takes back one success that was none after all: the failure follows.
    pub(crate) fn take_back(&mut self) {
        self.attempts = (self.attempts - 1.0).max(0.0);
        self.score -= self.down;
    }

    /// Begins anew. With a head start half of the evidence suffices (Lucas and Crosier, "Fast Initial Response for CUSUM
    /// Quality-Control Schemes", 1982): who has just been sick is watched more closely.
    pub(crate) fn restart(&mut self, head_start: bool) {
        self.score = if head_start { THRESHOLD / 2.0 } else { 0.0 };
        (self.attempts, self.failures) = (0.0, 0.0);
    }

    /// How far the evidence has come, 0 to 1.
    pub(crate) fn suspicion(&self) -> f64 {
        (self.score / THRESHOLD).min(1.0)
    }

    fn learn(&mut self) {
        let rate = self.failures / self.attempts;
        self.seen = (self.seen + self.attempts).min(MEMORY.max(self.attempts));
        self.usual += (rate - self.usual) * self.attempts / self.seen;
        (self.attempts, self.failures) = (0.0, 0.0);
        let usual = self.usual.clamp(*USUAL.start(), *USUAL.end());
        // Two logarithms per attempt would buy nothing.
        if (usual - self.computed).abs() > 0.05 * self.computed {
            self.computed = usual;
            (self.up, self.down) = steps(usual);
        }
    }
}

fn steps(usual: f64) -> (f64, f64) {
    ((SICK / usual).ln(), ((1.0 - SICK) / (1.0 - usual)).ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Attempts until ejection at a rate of failures: mean and 99th percentile of many runs.
    fn until_ejected(rate: f64, runs: usize, warm: usize) -> (f64, usize) {
        let mut random = Random::new(11);
        let mut all: Vec<usize> = (0..runs)
            .map(|_| {
                let mut test = Cusum::new();
                for _ in 0..warm {
                    if test.record(random.chance(0.005)) {
                        test.restart(false);
                    }
                }
                1 + (0..1_000_000).take_while(|_| !test.record(random.chance(rate))).count()
            })
            .collect();
        all.sort_unstable();
        (all.iter().sum::<usize>() as f64 / runs as f64, all[runs * 99 / 100])
    }

    #[test]
    fn a_third_of_failures_is_noticed_within_18_attempts_on_average() {
        let (mean, p99) = until_ejected(0.30, 2_000, 0);
        assert!(mean <= 18.0 && p99 <= 45, "{mean} {p99}");
        assert!(until_ejected(1.0, 1, 0).1 <= 5);
    }

    #[test]
    fn a_tenth_of_failures_is_noticed_within_100_attempts_on_average_by_old_hands_and_new_ones() {
        for warm in [0, 5_000] {
            let (mean, _) = until_ejected(0.10, 2_000, warm);
            assert!(mean <= 100.0, "{mean} after {warm}");
        }
    }

    #[test]
    fn one_failure_in_a_hundred_is_left_alone() {
        let mut random = Random::new(7);
        let mut test = Cusum::new();
        let mut ejections = 0;
        for _ in 0..4_000_000 {
            if test.record(random.chance(0.01)) {
                ejections += 1;
                test.restart(false);
            }
        }
        assert!(ejections <= 8, "{ejections} in 4,000,000");
    }

    #[test]
    fn who_usually_fails_in_4_of_100_is_left_alone_once_that_is_known_and_noticed_when_it_grows() {
        let mut random = Random::new(3);
        let mut test = Cusum::new();
        let mut ejections = |test: &mut Cusum, rate: f64, attempts: usize| {
            (0..attempts)
                .filter(|_| {
                    let crossed = test.record(random.chance(rate));
                    if crossed {
                        test.restart(false);
                    }
                    crossed
                })
                .count()
        };
        ejections(&mut test, 0.04, 20_000);
        assert!(ejections(&mut test, 0.04, 100_000) <= 5);
        assert!(ejections(&mut test, 0.40, 100) >= 1);
    }

    #[test]
    fn a_sick_target_does_not_become_its_own_measure() {
        let mut random = Random::new(5);
        let mut test = Cusum::new();
        let mut ejections = 0;
        for _ in 0..200_000 {
            if test.record(random.chance(0.3)) {
                ejections += 1;
                test.restart(false);
            }
        }
        assert!(ejections > 200_000 / 40, "{ejections}");
    }

    #[test]
    fn a_success_that_was_none_leaves_one_failure() {
        let (mut once, mut twice) = (Cusum::new(), Cusum::new());
        for test in [&mut once, &mut twice] {
            test.record(true);
        }
        once.record(true);
        twice.record(false);
        twice.take_back();
        twice.record(true);
        assert!((once.suspicion() - twice.suspicion()).abs() < 1e-9);
    }
}
