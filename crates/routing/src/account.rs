//! One credential of a provider, shared by all models that are reached with it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::away::Retired;
use crate::random::Random;

/// A credential that was accepted for any model so lately is good: then a refusal is about one model.
const LATELY: Duration = Duration::from_secs(30);

/// A credential.
#[derive(Debug, Default)]
pub(crate) struct Account {
    out: AtomicBool,
    retired: Mutex<Option<Retired>>,
    // The last accepted attempt, in milliseconds after the first.
    first: OnceLock<Instant>,
    accepted: AtomicU64,
}

impl Account {
    /// An attempt was accepted.
    pub(crate) fn accepted(&self, now: Instant) {
        let first = *self.first.get_or_init(|| now);
        let millis = u64::try_from(now.saturating_duration_since(first).as_millis()).unwrap_or(u64::MAX);
        self.accepted.fetch_max(millis, Ordering::Relaxed);
        if self.out.load(Ordering::Relaxed) {
            self.reinstate();
        }
    }

    /// The vendor refused the credential. False when it is only one model that the credential may not use: who asks for a model
    /// that an account does not have must not take it away from everybody.
    pub(crate) fn refused(&self, certain: bool, now: Instant, random: &mut Random) -> bool {
        if !certain && !self.out.load(Ordering::Relaxed) && self.accepted_lately(now) {
            return false;
        }
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        *retired = Some(Retired::again(retired.as_ref(), now, random));
        self.out.store(true, Ordering::Relaxed);
        true
    }

    fn accepted_lately(&self, now: Instant) -> bool {
        let last = |first: &Instant| *first + Duration::from_millis(self.accepted.load(Ordering::Relaxed));
        self.first.get().is_some_and(|first| now.saturating_duration_since(last(first)) < LATELY)
    }

    /// Its retirement, if it is retired: when it is looked at again, and whether that is now.
    pub(crate) fn retired(&self, now: Instant) -> Option<(Instant, bool)> {
        if !self.out.load(Ordering::Relaxed) {
            return None;
        }
        let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.as_ref().map(|retired| (retired.until(), retired.due(now)))
    }

    /// Takes the one look that is due.
    pub(crate) fn look(&self, now: Instant) -> bool {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.as_mut().is_some_and(|retired| retired.look(now))
    }

    /// The look ended without saying anything.
    pub(crate) fn nothing_learnt(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(retired) = retired.as_mut() {
            retired.nothing_learnt();
        }
    }

    /// Somebody has acted.
    pub(crate) fn reinstate(&self) {
        *self.retired.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.out.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_about_one_model_while_others_are_accepted_unless_it_is_about_money() {
        let (now, mut random) = (Instant::now(), Random::new(1));
        let account = Account::default();
        account.accepted(now);
        assert!(!account.refused(false, now + LATELY / 2, &mut random));
        assert_eq!(account.retired(now), None);
        assert!(account.refused(false, now + LATELY, &mut random));
        assert!(account.retired(now).is_some());
        account.accepted(now + LATELY);
        assert_eq!(account.retired(now), None);
        assert!(account.refused(true, now + LATELY, &mut random));
    }
}
