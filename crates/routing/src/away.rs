//! Targets that are left alone because their vendor said so: cooling after a rate limit, retired for want of a valid credential or
//! of money. Neither says that the target is sick.

use std::time::{Duration, Instant};

use crate::random::Random;

/// The first guess of a wait that the vendor did not state, and the longest.
const GUESS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest wait that is believed: what a vendor says is input like any other.
const BELIEVED: Duration = Duration::from_secs(3600);
/// How long a retired credential is left alone before one request tries it, at first and at most.
const LOOK: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// A look that has not ended after so long no longer keeps the next from beginning.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a rate limit left behind.
#[derive(Debug, Default)]
pub(crate) struct Cooling {
    until: Option<(Instant, bool)>,
    streak: u32,
}

impl Cooling {
    /// The vendor refused for its rate limit, with or without a wait.
    pub(crate) fn refused(&mut self, wait: Option<Duration>, now: Instant, random: &mut Random) {
        let (until, stated) = match wait {
            Some(wait) => (now + wait.min(BELIEVED), true),
            // Several that were under way together are one refusal.
            None if self.now(now).is_some() => return,
            None => {
                let longest = (GUESS.0 * (1 << self.streak.min(8))).min(GUESS.1);
                self.streak = self.streak.saturating_add(1);
                (now + longest.mul_f64(0.5 + 0.5 * random.unit()), false)
            }
        };
        self.until = self.until.max(Some((until, stated)));
    }

    pub(crate) fn answered(&mut self) {
        self.streak = 0;
    }

    /// Until when it cools, and whether the vendor said so.
    pub(crate) fn now(&self, now: Instant) -> Option<(Instant, bool)> {
        self.until.filter(|(until, _)| *until > now)
    }
}

/// A credential of no use until somebody acts, looked at from time to time.
#[derive(Debug, Clone)]
pub(crate) struct Retired {
    next: Instant,
    pause: Duration,
    looking: Option<Instant>,
}

impl Retired {
    /// Retired just now, or still when looked at again.
    pub(crate) fn again(before: Option<&Retired>, now: Instant, random: &mut Random) -> Self {
        let pause = match before {
            None => LOOK.0,
            // Others that were under way are no look.
            Some(before) if now < before.next => return before.clone(),
            Some(before) => (before.pause * 2).min(LOOK.1),
        };
        Self { next: now + pause.mul_f64(0.8 + 0.2 * random.unit()), pause, looking: None }
    }

    /// When it is looked at again.
    pub(crate) fn until(&self) -> Instant {
        self.next
    }

    pub(crate) fn due(&self, now: Instant) -> bool {
        now >= self.next && self.looking.is_none_or(|since| now.saturating_duration_since(since) >= PATIENCE)
    }

    /// Takes the one look that is due.
    pub(crate) fn look(&mut self, now: Instant) -> bool {
        let due = self.due(now);
        if due {
            self.looking = Some(now);
        }
        due
    }

    /// The look ended without saying anything.
    pub(crate) fn nothing_learnt(&mut self) {
        self.looking = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_stated_wait_is_kept_exactly_and_an_absurd_one_is_cut() {
        let (now, mut random) = (Instant::now(), Random::new(1));
        let mut cooling = Cooling::default();
        cooling.refused(Some(20 * SECOND), now, &mut random);
        assert_eq!(cooling.now(now + 19 * SECOND), Some((now + 20 * SECOND, true)));
        assert_eq!(cooling.now(now + 20 * SECOND), None);
        cooling.refused(Some(Duration::MAX), now, &mut random);
        assert_eq!(cooling.now(now), Some((now + BELIEVED, true)));
    }

    #[test]
    fn guesses_grow_to_a_minute_and_begin_anew_after_an_answer() {
        let (mut now, mut random) = (Instant::now(), Random::new(1));
        let mut cooling = Cooling::default();
        let mut guess = |cooling: &mut Cooling| {
            cooling.refused(None, now, &mut random);
            cooling.refused(None, now, &mut random);
            let (until, stated) = cooling.now(now).unwrap();
            assert!(!stated);
            let took = until - now;
            now = until;
            took
        };
        let guesses: Vec<_> = (0..12).map(|_| guess(&mut cooling)).collect();
        assert!(guesses[0] <= SECOND && guesses[0] >= SECOND / 2, "{guesses:?}");
        assert!(guesses[11] >= 30 * SECOND && guesses[11] <= 60 * SECOND, "{guesses:?}");
        cooling.answered();
        assert!(guess(&mut cooling) <= SECOND);
    }

    #[test]
    fn a_retired_credential_is_looked_at_less_and_less_often_and_by_one_request() {
        let (mut now, mut random) = (Instant::now(), Random::new(1));
        let mut retired = Retired::again(None, now, &mut random);
        for _ in 0..8 {
            assert!(!retired.look(now));
            now = retired.until();
            assert!(retired.look(now) && !retired.look(now));
            retired = Retired::again(Some(&retired), now, &mut random);
            assert_eq!(Retired::again(Some(&retired), now, &mut random).until(), retired.until());
        }
        let pause = retired.until() - now;
        assert!(pause > 200 * SECOND && pause <= 300 * SECOND, "{pause:?}");
    }
}
