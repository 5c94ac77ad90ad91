//! How soon a target is expected to begin its answer, and how much work it takes at once.
//!
//! A refusal or failure counts as a slow answer, never as a fast one: otherwise a target that turns everybody away at once would
//! look like the quickest of all and draw all traffic.

use std::time::{Duration, Instant};

use crate::sketch::Sketch;

/// Prompts up to so many tokens are one class; a third class is longer. Their times to the first token have little in common.
const CLASSES: [u64; 2] = [2_000, 16_000];
/// The weight of one observation.
const WEIGHT: f64 = 0.1;
/// What a failure counts for, at least: so many times what is usual there. Linkerd's load biaser books five seconds whatever is usual;
/// beside equals that begin within milliseconds that would starve a target for one stray error.
const PENALTY: u32 = 10;
/// The least that counts for, and what counts where nothing is usual yet.
const LEAST_PENALTY: Duration = Duration::from_millis(100);
const FIRST_PENALTY: Duration = Duration::from_secs(1);
/// Without news for so long an expectation has lost 63 % of its weight, so that a slow target is asked again some time.
const FADES: f64 = 30.0;
/// Tokens under way at which a target of which nothing is known counts as half as fast.
const CAPACITY: f64 = 32_000.0;
/// Whoever takes so many times as long as usual is a straggler.
const STRAGGLER: u32 = 4;
/// Fewer observations than these say nothing about the 95th percentile.
const ENOUGH: u32 = 20;

/// What is known of one target's speed.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    classes: [Option<Box<Class>>; 3],
    capacity: f64,
}

#[derive(Debug)]
struct Class {
    expected: f64,
    at: Instant,
    sketch: Sketch,
}

fn class(input: u64) -> usize {
    CLASSES.iter().take_while(|most| input > **most).count()
}

impl Latency {
    /// The first token of a prompt of so many tokens came, with so many tokens under way.
    pub(crate) fn began(&mut self, input: u64, took: Duration, under_way: u64, now: Instant) {
        let class = self.note(class(input), took.as_secs_f64(), now);
        class.sketch.add(took);
        // The most that was under way while answers still came; slowly forgotten.
        self.capacity = (self.capacity * 0.999).max(under_way as f64);
    }

    /// An attempt came to nothing after so long.
    pub(crate) fn failed(&mut self, input: u64, took: Duration, now: Instant) {
        let usual = self.quantile_for(input, 0.5).or_else(|| self.quantile(0.5));
        let penalty = usual.map_or(FIRST_PENALTY, |usual| (usual * PENALTY).max(LEAST_PENALTY));
        self.note(class(input), took.max(penalty).as_secs_f64(), now);
    }

    /// An attempt has been waiting for so long that another is begun beside it. If that one wins nobody will know how long the first
    /// would have taken; it counts as a straggler, or else the stragglers would be missing among what is usual.
    pub(crate) fn late(&mut self, input: u64, waited: Duration, now: Instant) {
        self.note(class(input), waited.as_secs_f64(), now).sketch.add(waited * STRAGGLER);
    }

    /// When an answer to a prompt of this length is late, once enough is known: what 95 of 100 do not exceed, or a few medians where
    /// more than 5 of 100 are stragglers and the 95th is one of them.
    pub(crate) fn late_after(&self, input: u64) -> Option<Duration> {
        let median = self.quantile_for(input, 0.50)?;
        Some(self.quantile_for(input, 0.95)?.min(median * STRAGGLER))
    }

    /// Seconds until the first token is expected.
    pub(crate) fn expected(&self, input: u64, now: Instant) -> Option<f64> {
        let wanted = class(input);
        let nearest = [wanted, 1, 0, 2].into_iter().find_map(|class| self.classes[class].as_deref())?;
        let idle = now.saturating_duration_since(nearest.at).as_secs_f64();
        Some((nearest.expected * (-idle / FADES).exp()).max(0.01))
    }

    /// How much slower it is for the tokens under way: 1 when there are none.
    pub(crate) fn load(&self, under_way: u64) -> f64 {
        1.0 + under_way as f64 / self.capacity.max(CAPACITY)
    }

    /// What this part of prompts of this length does not exceed, once there are enough.
    pub(crate) fn quantile_for(&self, input: u64, part: f64) -> Option<Duration> {
        let sketch = &self.classes[class(input)].as_deref()?.sketch;
        (sketch.total() >= ENOUGH).then(|| sketch.quantile(part))?
    }

    /// The same for all prompts together: that of the class with most observations.
    pub(crate) fn quantile(&self, part: f64) -> Option<Duration> {
        let classes = self.classes.iter().flatten();
        classes.max_by_key(|class| class.sketch.total())?.sketch.quantile(part)
    }

    /// Forgets what was expected, which may come from failures; what was measured stays.
    pub(crate) fn pardon(&mut self) {
        for class in self.classes.iter_mut().flatten() {
            if let Some(median) = class.sketch.quantile(0.5) {
                class.expected = median.as_secs_f64();
            }
        }
    }

    fn note(&mut self, class: usize, seconds: f64, now: Instant) -> &mut Class {
        let class = self.classes[class]
            .get_or_insert_with(|| Box::new(Class { expected: seconds, at: now, sketch: Sketch::new() }));
        let idle = now.saturating_duration_since(class.at).as_secs_f64();
        // After a pause the new says more than the old.
        let weight = 1.0 - (1.0 - WEIGHT) * (-idle / FADES).exp();
        class.expected += weight * (seconds - class.expected);
        class.at = class.at.max(now);
        class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_target_that_refuses_at_once_looks_slow() {
        let now = Instant::now();
        let (mut quick, mut refusing) = (Latency::default(), Latency::default());
        quick.began(100, SECOND / 2, 0, now);
        refusing.failed(100, Duration::from_millis(2), now);
        assert!(refusing.expected(100, now) > quick.expected(100, now));
    }

    #[test]
    fn one_stray_error_does_not_starve_a_quick_target() {
        let now = Instant::now();
        let mut latency = Latency::default();
        let usual = Duration::from_millis(20);
        (0..30).for_each(|_| latency.began(100, usual, 0, now));
        latency.failed(100, Duration::from_millis(1), now);
        let expected = latency.expected(100, now).unwrap();
        assert!((1.5..2.5).contains(&(expected / 0.020)), "slower, and not out of the race: {expected}");
        (0..100).for_each(|_| latency.failed(100, Duration::from_millis(1), now));
        assert!(latency.expected(100, now).unwrap() > 9.0 * 0.020, "who always fails is");
    }

    #[test]
    fn an_old_expectation_fades_and_gives_way_to_news() {
        let now = Instant::now();
        let mut latency = Latency::default();
        (0..50).for_each(|_| latency.began(100, 10 * SECOND, 0, now));
        let later = now + Duration::from_secs(120);
        assert!(latency.expected(100, later).unwrap() < 0.2);
        latency.began(100, SECOND, 0, later);
        assert!(latency.expected(100, later).unwrap() < 1.3);
    }

    #[test]
    fn long_prompts_are_not_expected_as_soon_as_short_ones() {
        let now = Instant::now();
        let mut latency = Latency::default();
        (0..30).for_each(|_| latency.began(500, SECOND, 0, now));
        assert!(
            (latency.expected(50_000, now).unwrap() - 1.0).abs() < 1e-9,
            "until there is better to go by"
        );
        (0..30).for_each(|_| latency.began(50_000, 8 * SECOND, 0, now));
        assert!(latency.expected(50_000, now).unwrap() > 7.0);
        assert!(latency.quantile_for(500, 0.95).unwrap() < 2 * SECOND);
        assert_eq!(latency.quantile_for(5_000, 0.95), None);
    }

    #[test]
    fn capacity_is_what_was_once_carried() {
        let mut latency = Latency::default();
        assert!((latency.load(32_000) - 2.0).abs() < 1e-9);
        latency.began(100, SECOND, 320_000, Instant::now());
        assert!(latency.load(32_000) < 1.2);
    }
}
