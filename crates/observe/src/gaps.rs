//! The pauses between the pieces of one stream, in a fixed amount of memory.

use std::time::Duration;

/// Buckets per doubling.
const STEPS: u32 = 4;
/// The first bucket ends at 2^FIRST microseconds.
const FIRST: u32 = 6;
/// Doublings above it: 64 µs to 67 s; what is longer counts in the last bucket.
const DOUBLINGS: u32 = 20;
const BUCKETS: usize = (STEPS * DOUBLINGS) as usize + 1;

/// How long the pauses between the pieces of one streamed answer were: count, sum, longest, and a histogram with four
/// buckets per doubling from 64 µs to 67 s. What is read from the histogram is at most 12 % off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gaps {
    count: u32,
    sum: Duration,
    max: Duration,
    buckets: [u32; BUCKETS],
}

impl Default for Gaps {
    fn default() -> Self {
        Self { count: 0, sum: Duration::ZERO, max: Duration::ZERO, buckets: [0; BUCKETS] }
    }
}

/// The bucket of a pause: the doubling by its highest bit, the step by the two bits after it.
fn bucket(micros: u64) -> usize {
    if micros < 1 << FIRST {
        return 0;
    }
    let doubling = micros.ilog2();
    let step = (micros >> (doubling - STEPS.ilog2())) as u32 & (STEPS - 1);
    let index = (doubling - FIRST) * STEPS + step + 1;
    (index as usize).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> u64 {
    let Some(index) = (bucket as u32).checked_sub(1) else { return 1 << (FIRST - 1) };
    let (doubling, step) = (FIRST + index / STEPS, u64::from(index % STEPS));
    let width = 1u64 << (doubling - STEPS.ilog2());
    (1 << doubling) + step * width + width / 2
}

impl Gaps {
    /// Counts one pause.
    pub fn add(&mut self, pause: Duration) {
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(pause);
        self.max = self.max.max(pause);
        let bucket = bucket(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
    }

    /// How many there were.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// All together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The pause that `share` (0 to 1) of all are not longer than; never more than the longest.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (share.clamp(0.0, 1.0) * f64::from(self.count)).ceil().max(1.0) as u64;
        let mut before = 0;
        for (index, held) in self.buckets.iter().enumerate() {
            before += u64::from(*held);
            if before >= rank {
                return Duration::from_micros(middle(index)).min(self.max);
            }
        }
        self.max
    }

    /// Half of the pauses are not longer.
    pub fn p50(&self) -> Duration {
        self.quantile(0.5)
    }

    /// All but one in a hundred are not longer.
    pub fn p99(&self) -> Duration {
        self.quantile(0.99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_an_eighth_of_the_truth_from_microseconds_to_a_minute() {
        for exact in [70u64, 100, 999, 20_000, 33_333, 1_000_000, 59_999_999] {
            let mut gaps = Gaps::default();
            (0..99).for_each(|_| gaps.add(Duration::from_micros(exact)));
            gaps.add(Duration::from_secs(600));
            let p50 = gaps.p50().as_micros() as f64;
            assert!((p50 / exact as f64 - 1.0).abs() <= 0.125, "{exact}: {p50}");
            assert_eq!(gaps.p99(), gaps.p50());
            assert_eq!(gaps.max(), Duration::from_secs(600));
            assert_eq!(gaps.count(), 100);
        }
    }

    #[test]
    fn buckets_follow_each_other_without_gap() {
        let mut last = 0;
        for micros in 0..1u64 << 17 {
            let now = bucket(micros);
            assert!(now == last || now == last + 1, "{micros}");
            last = now;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for index in 1..BUCKETS {
            assert_eq!(bucket(middle(index)), index);
        }
    }

    #[test]
    fn no_pause_is_reported_longer_than_the_longest() {
        let mut gaps = Gaps::default();
        gaps.add(Duration::from_micros(3));
        assert_eq!((gaps.p50(), gaps.p99(), gaps.sum()), (gaps.max(), gaps.max(), Duration::from_micros(3)));
    }
}
