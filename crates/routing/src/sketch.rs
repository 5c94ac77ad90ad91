//! How long things take, as quantiles: counts in buckets whose bounds grow by a factor, so that a quantile is off by at most
//! 5 % (Masson, Rim, Lee, "DDSketch", 2019). The range is fixed, 1 ms to 18 min, and old observations fade.

use std::time::Duration;

const GAMMA: f64 = 1.1;
const BUCKETS: usize = 148;
/// Above so many observations every count is halved: the newer half weighs more.
const FULL: u32 = 1024;

/// Durations of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Sketch {
    counts: [u16; BUCKETS],
    total: u32,
}

impl Sketch {
    pub(crate) const fn new() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }

    pub(crate) fn add(&mut self, took: Duration) {
        let index = (took.as_secs_f64() * 1e3).max(1.0).ln() / GAMMA.ln();
        self.counts[(index.ceil() as usize).min(BUCKETS - 1)] += 1;
        self.total += 1;
        if self.total > FULL {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
    }

    /// How many observations there are.
    pub(crate) const fn total(&self) -> u32 {
        self.total
    }

    /// The duration that this part of the observations does not exceed.
    pub(crate) fn quantile(&self, part: f64) -> Option<Duration> {
        let rank = part * f64::from(self.total.checked_sub(1)?);
        let mut below = 0.0;
        let index = self.counts.iter().position(|count| {
            below += f64::from(*count);
            below > rank
        })?;
        // The middle of the bucket by ratio, after the paper.
        let power = i32::try_from(index).unwrap_or(i32::MAX);
        Some(Duration::from_secs_f64(2.0 * GAMMA.powi(power) / (GAMMA + 1.0) / 1e3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn quantiles_are_within_five_percent_of_the_true_ones() {
        let mut sketch = Sketch::new();
        assert_eq!(sketch.quantile(0.5), None);
        let mut all: Vec<f64> = Vec::new();
        let mut random = Random::new(2);
        for _ in 0..1_000 {
            // Spread over four orders of magnitude.
            let seconds = 0.002 * (random.unit() * 9.0).exp();
            sketch.add(Duration::from_secs_f64(seconds));
            all.push(seconds);
        }
        all.sort_by(f64::total_cmp);
        for part in [0.0, 0.5, 0.95, 0.99] {
            let (truth, said) = (all[(part * 999.0) as usize], sketch.quantile(part).unwrap().as_secs_f64());
            assert!((said / truth - 1.0).abs() <= 0.05, "{part}: {said} for {truth}");
        }
    }

    #[test]
    fn the_new_replaces_the_old_and_nothing_is_out_of_range() {
        let mut sketch = Sketch::new();
        (0..2_000).for_each(|_| sketch.add(Duration::ZERO));
        (0..5_000).for_each(|_| sketch.add(Duration::from_secs(86_400)));
        assert!(sketch.quantile(0.1).unwrap() > Duration::from_secs(600));
    }
}
