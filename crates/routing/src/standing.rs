//! Whether a target is well: ejected when the evidence suffices, tried again with single requests after a pause, and given its
//! traffic back in growing shares.
//!
//! The pauses grow to a few seconds and no further: what a try costs is one request's failover, and whoever has recovered is to be
//! back soon. A target never gets everything back at once, which would be the next overload.

use std::time::{Duration, Instant};

use crate::cusum::Cusum;
use crate::random::Random;

/// The first pause after an ejection, and the longest; each is drawn between a half of it and all.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// A try that has not ended after so long no longer keeps the next from beginning.
const PATIENCE: Duration = Duration::from_secs(5);
/// Seconds from the first good answer until half, and until all, of the traffic is back.
const HALF: f64 = 4.0;
const FULL: f64 = 12.0;
/// So many good answers are needed for the whole share; each one more allows the same part of it.
const ANSWERS: u32 = 6;
/// Who is ejected again within this time of its return waits longer than the last time.
const RELAPSE: Duration = Duration::from_secs(60);
/// Seconds in which 63 % of the attempts that have ended are no longer among those that ended lately.
const LATELY: f64 = 10.0;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Well,
    Ejected { until: Instant, trying: Option<Instant> },
    Returning { since: Instant, answers: u32 },
}

/// How a target may be used now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Use {
    /// Like every other, with this part of its share.
    Share(f64),
    /// Only when there is nobody else.
    Out {
        /// Whether one request may try it.
        due: bool,
        /// When it is tried again.
        until: Instant,
    },
}

/// The standing of one target.
#[derive(Debug)]
pub(crate) struct Standing {
    test: Cusum,
    phase: Phase,
    streak: u32,
    /// When it was last ejected or let back: what was begun before says nothing about it as it is now.
    changed: Option<Instant>,
    returned: Option<Instant>,
    ejections: u64,
    rate: f64,
    /// How many attempts have ended lately, as of when.
    ends: Option<(f64, Instant)>,
}

/// A failed attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    /// When it was begun, or when its content began.
    pub(crate) begun: Instant,
    /// It had already counted as an answer.
    pub(crate) begun_well: bool,
    /// Other attempts at the same target that have not answered yet, about.
    pub(crate) pending: u32,
}

impl Standing {
    pub(crate) fn new() -> Self {
        Self {
            test: Cusum::new(),
            phase: Phase::Well,
            streak: 0,
            changed: None,
            returned: None,
            ejections: 0,
            rate: 0.0,
            ends: None,
        }
    }

    pub(crate) fn usable(&self, now: Instant) -> Use {
        match self.phase {
            Phase::Well => Use::Share(1.0),
            Phase::Returning { since, answers } => Use::Share(share(since, answers, now)),
            Phase::Ejected { until, trying } => Use::Out { due: due(until, trying, now), until },
        }
    }

    /// Takes the one try that is due; false when somebody else was quicker.
    pub(crate) fn try_again(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            Phase::Ejected { until, trying } if due(*until, *trying, now) => {
                *trying = Some(now);
                true
            }
            _ => false,
        }
    }

    /// The try ended without saying anything.
    pub(crate) fn nothing_learnt(&mut self) {
        if let Phase::Ejected { trying, .. } = &mut self.phase {
            *trying = None;
        }
    }

    /// The target answered an attempt of that beginning. True when it had been out.
    pub(crate) fn answered(&mut self, begun: Instant, now: Instant) -> bool {
        if self.changed.is_some_and(|at| begun < at) {
            return false;
        }
        self.rate += 0.05 * (0.0 - self.rate);
        self.ended(now);
        match &mut self.phase {
            Phase::Well => {
                self.test.record(false);
                false
            }
            Phase::Ejected { .. } => {
                self.phase = Phase::Returning { since: now, answers: 1 };
                self.returned = Some(now);
                self.changed = Some(now);
                self.test.restart(true);
                true
            }
            Phase::Returning { since, answers } => {
                *answers = answers.saturating_add(1);
                let whole = share(*since, *answers, now) >= 1.0;
                self.test.record(false);
                if whole {
                    self.phase = Phase::Well;
                    // The head start was for the way back.
                    self.test.restart(false);
                }
                false
            }
        }
    }

    /// The target failed an attempt.
    pub(crate) fn failed(&mut self, failure: Failure, now: Instant, random: &mut Random) {
        if self.changed.is_some_and(|at| failure.begun < at) {
            return;
        }
        let ended = self.ended(now);
        self.rate += 0.05 * (1.0 - self.rate);
        match self.phase {
            Phase::Ejected { until, .. } => {
                // Earlier ones had nowhere else to go, and do not make the pause longer.
                if now >= until {
                    self.streak = self.streak.saturating_add(1);
                    self.pause(now, random);
                }
            }
            Phase::Well | Phase::Returning { .. } => {
                if failure.begun_well {
                    self.test.take_back();
                }
                self.test.record(true);
                let open = (f64::from(failure.pending) - ended).max(0.0);
                if self.test.convicts(open) {
                    let relapse = self.returned.is_some_and(|at| now.saturating_duration_since(at) < RELAPSE);
                    self.streak = if relapse { self.streak.saturating_add(1) } else { 0 };
                    self.ejections += 1;
                    self.pause(now, random);
                }
            }
        }
    }

    /// Counts one more end, and tells how many there were lately.
    fn ended(&mut self, now: Instant) -> f64 {
        let (ends, at) = self.ends.unwrap_or((0.0, now));
        let passed = now.saturating_duration_since(at).as_secs_f64();
        let ends = ends * (-passed / LATELY).exp() + 1.0;
        self.ends = Some((ends, at.max(now)));
        ends
    }

    fn pause(&mut self, now: Instant, random: &mut Random) {
        let longest = (PAUSE.0 * (1 << self.streak.min(8))).min(PAUSE.1);
        self.changed = Some(now);
        let until = now + longest.mul_f64(0.5 + 0.5 * random.unit());
        self.phase = Phase::Ejected { until, trying: None };
    }

    /// How often it was ejected.
    pub(crate) fn ejections(&self) -> u64 {
        self.ejections
    }

    /// The share of attempts that failed, the last twenty or so.
    pub(crate) fn error_rate(&self) -> f64 {
        self.rate
    }

    /// How far the evidence has come, 0 to 1.
    pub(crate) fn suspicion(&self) -> f64 {
        match self.phase {
            Phase::Ejected { .. } => 1.0,
            Phase::Well | Phase::Returning { .. } => self.test.suspicion(),
        }
    }
}

fn due(until: Instant, trying: Option<Instant>, now: Instant) -> bool {
    now >= until && trying.is_none_or(|since| now.saturating_duration_since(since) >= PATIENCE)
}

/// The part of its traffic that a returning target gets: as much as time and answers both allow.
fn share(since: Instant, answers: u32, now: Instant) -> f64 {
    let seconds = now.saturating_duration_since(since).as_secs_f64();
    let by_time = if seconds < HALF {
        0.05 + 0.45 * seconds / HALF
    } else {
        0.5 + 0.5 * (seconds - HALF) / (FULL - HALF)
    };
    by_time.min(f64::from(answers) / f64::from(ANSWERS)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(begun: Instant) -> Failure {
        Failure { begun, begun_well: false, pending: 0 }
    }

    fn ejected(now: Instant, random: &mut Random) -> Standing {
        let mut standing = Standing::new();
        (0..5).for_each(|_| standing.failed(alone(now), now, random));
        assert!(matches!(standing.usable(now), Use::Out { due: false, .. }));
        standing
    }

    #[test]
    fn one_request_at_a_time_tries_again_after_a_pause() {
        let (now, mut random) = (Instant::now(), Random::new(1));
        let mut standing = ejected(now, &mut random);
        assert!(!standing.try_again(now));
        let later = now + PAUSE.0;
        assert!(standing.try_again(later));
        assert!(!standing.try_again(later), "one is under way");
        assert!(standing.try_again(later + PATIENCE), "one that hangs does not block for ever");
        standing.nothing_learnt();
        assert!(standing.try_again(later + PATIENCE));
    }

    #[test]
    fn pauses_grow_up_to_a_bound_and_failures_of_before_do_not_prolong_them() {
        let (mut now, mut random) = (Instant::now(), Random::new(1));
        let mut standing = ejected(now, &mut random);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            let Use::Out { until, .. } = standing.usable(now) else { panic!("it is out") };
            pauses.push(until.duration_since(now));
            standing.failed(alone(now), now, &mut random);
            assert_eq!(standing.usable(now), Use::Out { due: false, until });
            now = until;
            assert!(standing.try_again(now));
            standing.failed(alone(now), now, &mut random);
        }
        assert!(pauses[0] <= PAUSE.0);
        assert!(pauses.iter().all(|pause| (PAUSE.0 / 2..=PAUSE.1).contains(pause)), "{pauses:?}");
        assert!(pauses[10..].iter().any(|pause| *pause > PAUSE.1.mul_f64(0.7)), "{pauses:?}");
    }

    #[test]
    fn a_share_grows_with_time_and_with_answers_and_a_relapse_is_noticed_soon() {
        let (now, mut random) = (Instant::now(), Random::new(1));
        let mut standing = ejected(now, &mut random);
        assert!(standing.answered(now, now));
        let share =
            |standing: &Standing, seconds: u64| match standing.usable(now + Duration::from_secs(seconds)) {
                Use::Share(share) => share,
                Use::Out { .. } => 0.0,
            };
        assert!((share(&standing, 0) - 0.05).abs() < 1e-9);
        assert!(share(&standing, 3600) < 0.2, "time alone proves nothing");
        (0..8).for_each(|_| assert!(!standing.answered(now, now)));
        assert!((share(&standing, 4) - 0.5).abs() < 1e-9);
        standing.answered(now, now + Duration::from_secs(12));
        assert_eq!(standing.phase, Phase::Well);

        let mut standing = ejected(now, &mut random);
        standing.answered(now, now);
        (0..2).for_each(|_| standing.failed(alone(now), now, &mut random));
        assert!(matches!(standing.usable(now), Use::Out { .. }), "two failures suffice on the way back");
        assert_eq!(standing.ejections(), 2);
    }

    #[test]
    fn what_was_begun_before_an_ejection_or_a_return_says_nothing_about_what_is_now() {
        let (now, mut random) = (Instant::now(), Random::new(1));
        let (before, later) = (now - Duration::from_secs(1), now + PAUSE.0);
        let mut standing = ejected(now, &mut random);
        assert!(!standing.answered(before, now), "an answer that was under way");
        assert!(matches!(standing.usable(now), Use::Out { .. }));
        assert!(standing.answered(later, later));
        (0..10).for_each(|_| standing.failed(alone(now), later, &mut random));
        assert!(matches!(standing.usable(later), Use::Share(_)), "time-outs of before its recovery");
    }

    #[test]
    fn quick_failures_weigh_less_while_most_of_a_burst_is_still_open() {
        let (now, mut random) = (Instant::now(), Random::new(1));
        let failures = |standing: &mut Standing, pending, random: &mut Random| {
            let failure = Failure { begun: now, begun_well: false, pending };
            (1..).find(|_| {
                standing.failed(failure, now, random);
                matches!(standing.usable(now), Use::Out { .. })
            })
        };
        assert_eq!(failures(&mut Standing::new(), 0, &mut random), Some(4));
        assert_eq!(
            failures(&mut Standing::new(), 10_000, &mut random),
            Some(8),
            "a hung target is noticed all the same"
        );
        let mut busy = Standing::new();
        (0..500).for_each(|_| assert!(!busy.answered(now, now)));
        assert_eq!(failures(&mut busy, 300, &mut random), Some(4), "as many under way as usual");
    }
}
