//! Which of several equals: two are drawn by their weights, and the one that is expected to be quicker mostly wins.
//!
//! Two draws instead of the best of all (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001): what is known
//! of each is a little old, and if everybody went to the best it would be the worst a moment later. The race between the two is
//! by chance too, so that equals keep exactly the shares that their weights say.

use crate::random::{Random, mix, unit};

/// One of the equals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) index: usize,
    pub(crate) weight: f64,
    /// How good it is: seconds, times load, times price. Less is better; more than 0.
    pub(crate) score: f64,
    pub(crate) digest: u64,
}

/// Where a prompt is at home it may be so much worse than elsewhere, and still be better off for what is remembered there.
const SPILL: f64 = 1.5;
/// One that is drawn twice has no rival; when it is so much worse than the best of the others, it gets one.
const RIVAL: f64 = 1.5;

/// Chooses one of at least one.
pub(crate) fn choose(choices: &[Choice], prefix: Option<u64>, random: &mut Random) -> Option<usize> {
    if let [_, _, ..] = choices
        && let Some(home) = prefix.and_then(|prefix| home(choices, prefix))
        && choices.iter().all(|other| home.score <= SPILL * other.score)
    {
        return Some(home.index);
    }
    let one = draw(choices, random)?;
    let other = draw(choices, random)?;
    if one.index != other.index {
        // Odds by the square: twice as slow is a fifth of the traffic, ten times as slow is a hundredth.
        let (mine, others) = (one.score * one.score, other.score * other.score);
        return Some(if random.chance(others / (mine + others)) { one.index } else { other.index });
    }
    let best =
        choices.iter().filter(|other| other.index != one.index).min_by(|a, b| a.score.total_cmp(&b.score));
    Some(best.filter(|best| one.score > RIVAL * best.score).map_or(one.index, |best| best.index))
}

fn draw(choices: &[Choice], random: &mut Random) -> Option<Choice> {
    let mut at = random.unit() * choices.iter().map(|choice| choice.weight).sum::<f64>();
    let hit = choices.iter().find(|choice| {
        at -= choice.weight;
        at < 0.0
    });
    hit.or(choices.last()).copied()
}

/// Where equal beginnings meet: weighted rendezvous hashing (Thaler and Ravishankar, 1998), so that when a target leaves only its own
/// prompts move.
fn home(choices: &[Choice], prefix: u64) -> Option<Choice> {
    let pull =
        |choice: &Choice| -choice.weight / unit(mix(choice.digest ^ mix(prefix))).max(f64::MIN_POSITIVE).ln();
    choices.iter().copied().max_by(|a, b| pull(a).total_cmp(&pull(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(of: &[(f64, f64)]) -> Vec<Choice> {
        let choice = |(index, &(weight, score)): (usize, &(f64, f64))| Choice {
            index,
            weight,
            score,
            digest: mix(index as u64 + 77),
        };
        of.iter().enumerate().map(choice).collect()
    }

    fn shares(of: &[(f64, f64)]) -> Vec<f64> {
        let (choices, mut random) = (choices(of), Random::new(4));
        let mut counts = vec![0; of.len()];
        for _ in 0..100_000 {
            counts[choose(&choices, None, &mut random).unwrap()] += 1;
        }
        counts.iter().map(|count| f64::from(*count) / 100_000.0).collect()
    }

    #[test]
    fn equals_share_as_their_weights_say() {
        for of in
            [&[(1.0, 1.0), (1.0, 1.0)][..], &[(9.0, 1.0), (1.0, 1.0)], &[(90.0, 1.0), (5.0, 1.0), (5.0, 1.0)]]
        {
            let total: f64 = of.iter().map(|(weight, _)| weight).sum();
            for (share, (weight, _)) in shares(of).iter().zip(of) {
                assert!((share - weight / total).abs() < 0.01, "{of:?}: {share}");
            }
        }
    }

    #[test]
    fn the_slow_get_little_and_never_nothing() {
        let shares = shares(&[(1.0, 0.4), (1.0, 0.5), (1.0, 4.0)]);
        assert!(shares[0] > shares[1] && shares[1] > 0.2, "{shares:?}");
        assert!(shares[2] > 0.001 && shares[2] < 0.02, "{shares:?}");
    }

    /// The loads of 50 alike servers after many arrivals that leave in turn: with two choices none is far above the mean.
    #[test]
    fn load_spreads_evenly_over_many() {
        let mut random = Random::new(6);
        let mut load = [0_u32; 50];
        let mut under_way = std::collections::VecDeque::new();
        let mut worst = 0;
        for _ in 0..50_000 {
            let of: Vec<_> = load.iter().map(|load| (1.0, 1.0 + f64::from(*load))).collect();
            let index = choose(&choices(&of), None, &mut random).unwrap();
            load[index] += 1;
            under_way.push_back(index);
            if under_way.len() > 500 {
                load[under_way.pop_front().unwrap()] -= 1;
            }
            worst = worst.max(*load.iter().max().unwrap());
        }
        // Ten each on average; drawn by chance alone, the fullest has more than 24 at some time.
        assert!(worst <= 20, "{worst}");
    }

    #[test]
    fn equal_beginnings_meet_again_and_only_those_of_a_lost_target_move() {
        let of = choices(&[(1.0, 1.0), (1.0, 1.2), (1.0, 0.9)]);
        let mut random = Random::new(8);
        let mut counts = [0; 3];
        for prefix in 0..3_000 {
            let at = choose(&of, Some(prefix), &mut random).unwrap();
            counts[at] += 1;
            assert_eq!(choose(&of, Some(prefix), &mut random), Some(at));
            let without: Vec<_> = of.iter().copied().filter(|choice| choice.index != 1).collect();
            let then = choose(&without, Some(prefix), &mut random).unwrap();
            assert!(at == 1 || then == at);
        }
        assert!(counts.iter().all(|count| (850..=1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn who_is_at_home_with_a_slow_target_goes_elsewhere() {
        let of = choices(&[(1.0, 1.0), (1.0, 1.6)]);
        let mut random = Random::new(8);
        let slow = (0..1_000).filter(|prefix| choose(&of, Some(*prefix), &mut random) == Some(1)).count();
        assert!(slow < 350, "{slow}");
    }
}
