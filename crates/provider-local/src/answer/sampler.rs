//! One token from one row of logits.
//!
//! Written here rather than taken from the engine: its sampler chain crosses into C++ for each token and each stage, copies
//! the whole row into records first, and sorts it. Here the row is read in place; only tokens within reach of the likeliest
//! are collected, a few hundred of 49,000, and only these are sorted when a request asks for a nucleus.

use std::collections::HashMap;

use llama_cpp_2::token::LlamaToken;
use llguidance::toktrie::SimpleVob;

/// Tokens whose probability is below e^-REACH of the likeliest one are never drawn; all of a vocabulary's tokens together
/// would be drawn less often than once in ten thousand.
const REACH: f32 = 20.0;

/// How a request wants tokens drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
    /// 0 is no limit.
    pub(crate) top_k: usize,
    pub(crate) min_p: f32,
    pub(crate) presence: f32,
    pub(crate) frequency: f32,
    pub(crate) bias: Vec<(u32, f32)>,
    /// How many alternatives to report; `None` reports nothing.
    pub(crate) logprobs: Option<u8>,
    pub(crate) seed: u64,
}

/// The token drawn, with what was asked to be reported.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) token: LlamaToken,
    /// Log probability of the token and of the likeliest ones, before temperature and penalties.
    pub(crate) logprobs: Option<(f32, Vec<(LlamaToken, f32)>)>,
}

/// Memory that all sequences of an engine share between draws.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    row: Vec<f32>,
    candidates: Vec<(f32, i32)>,
}

/// Draws tokens for one answer.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    rules: Rules,
    counts: HashMap<i32, f32>,
    random: u64,
}

impl Sampler {
    /// A sampler; answers of one request differ by `choice`.
    pub(crate) fn new(rules: Rules, choice: u32) -> Self {
        let random = rules.seed.wrapping_add(u64::from(choice).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { rules, counts: HashMap::new(), random }
    }

    /// Draws. `None` when the mask allows no token at all.
    pub(crate) fn draw(
        &mut self,
        logits: &[f32],
        mask: Option<&SimpleVob>,
        scratch: &mut Scratch,
    ) -> Option<Drawn> {
        let touched = mask.is_some() || !self.rules.bias.is_empty() || self.penalises();
        let Scratch { row, candidates } = scratch;
        let shaped = if touched {
            row.clear();
            row.extend_from_slice(logits);
            self.shape(row, mask);
            row.as_slice()
        } else {
            logits
        };
        let (best, top) = likeliest(shaped)?;
        let token = if self.rules.temperature <= 0.0 {
            best
        } else {
            collect(shaped, top - REACH * self.rules.temperature, candidates);
            self.choose(candidates, top)
        };
        if self.penalises() {
            *self.counts.entry(token).or_default() += 1.0;
        }
        let logprobs = self.rules.logprobs.map(|alternatives| report(logits, token, alternatives));
        Some(Drawn { token: LlamaToken(token), logprobs })
    }

    fn penalises(&self) -> bool {
        self.rules.presence != 0.0 || self.rules.frequency != 0.0
    }

    fn shape(&self, row: &mut [f32], mask: Option<&SimpleVob>) {
        for (token, count) in &self.counts {
            if let Some(logit) = usize::try_from(*token).ok().and_then(|index| row.get_mut(index)) {
                *logit -= self.rules.presence + count * self.rules.frequency;
            }
        }
        for (token, bias) in &self.rules.bias {
            if let Some(logit) = row.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        if let Some(mask) = mask {
            // Word by word: most words of a mask are all zero or all one.
            for (word, chunk) in mask.as_slice().iter().zip(row.chunks_mut(32)) {
                match *word {
                    u32::MAX => {}
                    0 => chunk.fill(f32::NEG_INFINITY),
                    bits => {
                        for (bit, logit) in chunk.iter_mut().enumerate() {
                            if bits >> bit & 1 == 0 {
                                *logit = f32::NEG_INFINITY;
                            }
                        }
                    }
                }
            }
            let known = mask.as_slice().len() * 32;
            if known < row.len() {
                row[known..].fill(f32::NEG_INFINITY);
            }
        }
    }

    /// Draws from the candidates, whose first members are probabilities afterwards.
    fn choose(&mut self, candidates: &mut Vec<(f32, i32)>, top: f32) -> i32 {
        for (logit, _) in candidates.iter_mut() {
            *logit = ((*logit - top) / self.rules.temperature).exp();
        }
        let Rules { top_p, top_k, min_p, .. } = self.rules;
        if min_p > 0.0 {
            candidates.retain(|(weight, _)| *weight >= min_p);
        }
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, |a, b| b.0.total_cmp(&a.0));
            candidates.truncate(top_k);
        }
        let mut sum: f32 = candidates.iter().map(|(weight, _)| weight).sum();
        if top_p < 1.0 {
            candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
            let goal = top_p.max(0.0) * sum;
            let mut reached = 0.0;
            let kept = candidates.iter().position(|(weight, _)| {
                reached += weight;
                reached >= goal
            });
            candidates.truncate(kept.map_or(candidates.len(), |last| last + 1));
            sum = candidates.iter().map(|(weight, _)| weight).sum();
        }
        let mut rest = self.next_random() * sum;
        for (weight, token) in candidates.iter() {
            rest -= weight;
            if rest <= 0.0 {
                return *token;
            }
        }
        // Rounding may leave a crumb; the likeliest token is never wrong.
        candidates.iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, token)| *token)
    }

    /// A number from 0 to below 1 (SplitMix64, upper 24 bits).
    fn next_random(&mut self) -> f32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 40) as f32 / (1_u64 << 24) as f32
    }
}

/// The token with the largest logit. `None` when every token is forbidden.
fn likeliest(row: &[f32]) -> Option<(i32, f32)> {
    // Eight running maxima let the compiler use whole vector registers; the position is searched afterwards.
    let mut lanes = [f32::NEG_INFINITY; 8];
    let chunks = row.chunks_exact(8);
    let mut top = chunks
        .remainder()
        .iter()
        .fold(f32::NEG_INFINITY, |most, value| if *value > most { *value } else { most });
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    for lane in lanes {
        top = if lane > top { lane } else { top };
    }
    if top == f32::NEG_INFINITY {
        return None;
    }
    let place = row.iter().position(|value| *value == top)?;
    Some((i32::try_from(place).ok()?, top))
}

fn collect(row: &[f32], floor: f32, candidates: &mut Vec<(f32, i32)>) {
    candidates.clear();
    for (index, chunk) in row.chunks(16).enumerate() {
        if chunk.iter().any(|logit| *logit >= floor) {
            for (offset, logit) in chunk.iter().enumerate() {
                if *logit >= floor {
                    candidates.push((*logit, (index * 16 + offset) as i32));
                }
            }
        }
    }
}

fn report(logits: &[f32], token: i32, alternatives: u8) -> (f32, Vec<(LlamaToken, f32)>) {
    let top = likeliest(logits).map_or(0.0, |(_, top)| top);
    let sum: f32 = logits.iter().map(|logit| (logit - top).exp()).sum();
    let log_sum = top + sum.ln();
    let own = usize::try_from(token)
        .ok()
        .and_then(|index| logits.get(index))
        .map_or(f32::NEG_INFINITY, |logit| logit - log_sum);
    let wanted = usize::from(alternatives).min(logits.len());
    if wanted == 0 {
        return (own, Vec::new());
    }
    let mut order: Vec<i32> = (0..logits.len() as i32).collect();
    let descending = |a: &i32, b: &i32| logits[*b as usize].total_cmp(&logits[*a as usize]);
    if wanted < order.len() {
        order.select_nth_unstable_by(wanted, descending);
        order.truncate(wanted);
    }
    order.sort_unstable_by(descending);
    (own, order.into_iter().map(|id| (LlamaToken(id), logits[id as usize] - log_sum)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence: 0.0,
            frequency: 0.0,
            bias: Vec::new(),
            logprobs: None,
            seed: 7,
        }
    }

    fn shares(rules: Rules, logits: &[f32]) -> Vec<f32> {
        let mut sampler = Sampler::new(rules, 0);
        let mut scratch = Scratch::default();
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.draw(logits, None, &mut scratch).unwrap().token.0 as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0, 1.0_f32.ln(), 2.0_f32.ln(), 4.0_f32.ln()];
        for (share, expected) in shares(rules(), &logits).iter().zip([0.125, 0.125, 0.25, 0.5]) {
            assert!((share - expected).abs() < 0.02, "{share} {expected}");
        }
    }

    #[test]
    fn filters_keep_the_likeliest() {
        let logits = [0.0, 0.0, 2.0_f32.ln(), 4.0_f32.ln()];
        for narrowed in [
            Rules { top_k: 1, ..rules() },
            Rules { top_p: 0.4, ..rules() },
            Rules { min_p: 0.9, ..rules() },
            Rules { temperature: 0.0, ..rules() },
        ] {
            assert!(shares(narrowed, &logits)[3] > 0.999);
        }
        assert!((shares(Rules { top_p: 0.7, ..rules() }, &logits)[2] - 1.0 / 3.0).abs() < 0.02);
    }

    #[test]
    fn masks_bias_and_penalties_change_the_choice() {
        let logits: Vec<f32> = (0..100).map(|n| n as f32).collect();
        let mut scratch = Scratch::default();
        let greedy = Rules { temperature: 0.0, ..rules() };
        let mut mask = SimpleVob::alloc(100);
        mask.allow_token(41);
        mask.allow_token(7);
        let drawn = Sampler::new(greedy.clone(), 0).draw(&logits, Some(&mask), &mut scratch).unwrap();
        assert_eq!(drawn.token.0, 41);
        assert_eq!(
            Sampler::new(greedy.clone(), 0).draw(&logits, Some(&SimpleVob::alloc(100)), &mut scratch),
            None
        );
        let biased = Rules { bias: vec![(3, 100.0), (400, 5.0)], ..greedy.clone() };
        assert_eq!(Sampler::new(biased, 0).draw(&logits, None, &mut scratch).unwrap().token.0, 3);
        let mut wary = Sampler::new(Rules { presence: 2.5, ..greedy }, 0);
        let drawn: Vec<i32> =
            (0..3).map(|_| wary.draw(&logits, None, &mut scratch).unwrap().token.0).collect();
        assert_eq!(drawn, [99, 98, 97]);
    }

    #[test]
    fn logprobs_are_of_the_model_not_of_the_draw() {
        let rules = Rules { temperature: 0.0, logprobs: Some(2), ..rules() };
        let drawn = Sampler::new(rules, 0).draw(&[0.0, 3.0_f32.ln()], None, &mut Scratch::default()).unwrap();
        let (own, top) = drawn.logprobs.unwrap();
        assert!((own - 0.75_f32.ln()).abs() < 1e-5);
        assert_eq!(top.iter().map(|(token, _)| token.0).collect::<Vec<_>>(), [1, 0]);
        assert!((top[1].1 - 0.25_f32.ln()).abs() < 1e-5);
    }
}
