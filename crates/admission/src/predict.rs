//! How long a model's next answer will be at most, nineteen times out of twenty.
//!
//! A histogram of lengths in steps of a quarter octave, which forgets slowly, gives a quantile; which quantile is steered by
//! what happened: adaptive conformal inference (Gibbs and Candès, "Adaptive Conformal Inference Under Distribution Shift",
//! NeurIPS 2021, equation 2). It begins at the 90 % quantile, goes up when an answer was longer than predicted and down a
//! little when it was not, so that in the long run one answer in twenty is longer, whatever the lengths are like.

/// Steps of the histogram: four for each of the first 24 octaves.
const STEPS: usize = 96;
/// Fewer answers than this say nothing.
const ENOUGH: u32 = 32;
/// The histogram is halved when it has this many.
const MANY: u32 = 4_096;

/// Shares are kept in this fraction of the whole.
const WHOLE: i64 = 1 << 20;
/// The share of answers that may be longer than predicted: 5 %.
const TARGET: i64 = WHOLE / 20;
/// The share to begin with: the 90 % quantile.
const BEGIN: i64 = WHOLE / 10;
/// One answer moves the share by this part of its error.
const PACE: i64 = 100;

/// The lengths of one model's answers.
#[derive(Debug, Clone)]
pub(crate) struct Sketch {
    counts: [u16; STEPS],
    total: u32,
    /// The share of answers that the quantile leaves out.
    left_out: i64,
    prediction: Option<u64>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { counts: [0; STEPS], total: 0, left_out: BEGIN, prediction: None }
    }
}

impl Sketch {
    /// The most tokens that an answer will probably have; `None` when too little is known.
    pub(crate) fn predict(&self) -> Option<u64> {
        self.prediction
    }

    /// Learns how long an answer was, and whether that was more than `predicted`, if anything was.
    pub(crate) fn learn(&mut self, tokens: u64, predicted: Option<u64>) {
        if let Some(predicted) = predicted {
            let missed = if tokens > predicted { WHOLE } else { 0 };
            self.left_out = (self.left_out + (TARGET - missed) / PACE).clamp(-WHOLE, WHOLE / 2);
        }
        if self.total >= MANY {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
        self.counts[step(tokens)] += 1;
        self.total += 1;
        self.prediction = self.quantile();
    }

    fn quantile(&self) -> Option<u64> {
        if self.total < ENOUGH {
            return None;
        }
        let wanted = (i64::from(self.total) * (WHOLE - self.left_out) + WHOLE - 1) / WHOLE;
        let (mut sum, mut longest) = (0, 0);
        for (step, count) in self.counts.iter().enumerate() {
            sum += i64::from(*count);
            longest = if *count > 0 { step } else { longest };
            if sum >= wanted {
                return Some(end(step));
            }
        }
        // More is wanted than was ever seen.
        Some(end(longest).saturating_mul(2))
    }
}

/// The step that a length belongs to.
fn step(tokens: u64) -> usize {
    let tokens = tokens.clamp(4, (1 << 25) - 1);
    let octave = tokens.ilog2();
    let quarter = (tokens >> (octave - 2)) & 3;
    ((octave as usize - 2) * 4 + quarter as usize).min(STEPS - 1)
}

/// The longest length of a step.
fn end(step: usize) -> u64 {
    let (octave, quarter) = (step / 4 + 2, step as u64 % 4);
    ((4 + quarter + 1) << (octave - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_at_most_the_end_of_its_step_and_a_quarter_below_it() {
        for tokens in (4..100_000).chain([1 << 20, (1 << 25) - 1]) {
            let end = end(step(tokens));
            assert!(tokens <= end && end < tokens + tokens / 4 + 1, "{tokens} in a step that ends at {end}");
        }
    }

    /// A small generator (Marsaglia's xorshift), so that a failure can be repeated.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn at_most_one_answer_in_twenty_is_longer_than_predicted_even_when_they_change() {
        // Even, heavy-tailed, two kinds of answer, and lengths that double in the middle.
        let kinds: [fn(u64, usize) -> u64; 4] = [
            |random, _| random % 1_000,
            |random, _| 50_000 / (random % 1_000 + 1),
            |random, _| if random % 10 == 0 { 4_000 + random % 1_000 } else { 20 + random % 50 },
            |random, at| (100 + random % 400) << (at / 10_000),
        ];
        for (number, kind) in kinds.iter().enumerate() {
            let (mut sketch, mut state, mut missed) = (Sketch::default(), 88_172_645_463_325_252, 0);
            for at in 0..20_000 {
                let tokens = kind(random(&mut state), at);
                let predicted = sketch.predict();
                missed += u32::from(predicted.is_some_and(|predicted| tokens > predicted));
                sketch.learn(tokens, predicted);
            }
            assert!(missed <= 1_100, "kind {number}: {missed} of 20,000 were longer than predicted");
        }
    }

    #[test]
    fn answers_of_one_length_are_predicted_closely_and_few_answers_not_at_all() {
        let mut sketch = Sketch::default();
        for _ in 0..ENOUGH - 1 {
            sketch.learn(1_000, sketch.predict());
            assert_eq!(sketch.predict(), None);
        }
        sketch.learn(1_000, None);
        assert_eq!(sketch.predict(), Some(1_023));
    }
}
