//! One attempt under way, and what is learnt from its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_domain::Error;

use crate::Target;
use crate::away::Retired;
use crate::outcome::{Outcome, outcome};
use crate::standing::Failure;
use crate::target::{Size, State};

/// Whoever waited so long and got nothing was not too impatient.
const LONG: Duration = Duration::from_secs(5);

/// One attempt under way. Dropped without an end it was cancelled, which says nothing about the target.
#[derive(Debug)]
pub struct Flight {
    target: Arc<Target>,
    size: Size,
    begun: Instant,
    terms: Terms,
    /// Since when its content comes.
    answering: Option<Instant>,
    ended: bool,
}

/// What an attempt is, beside its size.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terms {
    /// Its tokens are taken from what is paid for in advance.
    pub(crate) prepaid: bool,
    /// The operator runs the target.
    pub(crate) internal: bool,
    /// It is the one try of a target that was out.
    pub(crate) trial: bool,
    /// The same request has failed there already: that it fails again says little, for it may be the request.
    pub(crate) repeat: bool,
}

impl Flight {
    pub(crate) fn begin(target: Arc<Target>, size: Size, terms: Terms, now: Instant) -> Self {
        let mut state = target.state();
        state.in_flight += 1;
        state.waiting += 1;
        state.tokens = state.tokens.saturating_add(size.whole);
        state.used = Some(now);
        if let (true, Some(provision)) = (terms.prepaid, &mut state.provision) {
            provision.reserve(size.whole);
        }
        drop(state);
        Self { target, size, begun: now, terms, answering: None, ended: false }
    }

    /// The first content is here.
    pub fn first_content(&mut self, now: Instant) {
        if self.answering.is_some() {
            return;
        }
        self.answering = Some(now);
        let took = now.saturating_duration_since(self.begun);
        let mut state = self.target.state();
        state.waiting = state.waiting.saturating_sub(1);
        let (in_flight, tokens) = (state.in_flight, state.tokens);
        state.latency.began(self.size.input, took, tokens, now);
        if self.terms.internal {
            state.limit.answered(self.size.input, took, in_flight, now);
        }
        self.well(&mut state, now);
    }

    /// The answer came to its end, with so many tokens in all.
    pub fn complete(mut self, tokens: u64, now: Instant) {
        let mut state = self.target.state();
        if self.answering.is_none() {
            self.well(&mut state, now);
        }
        self.release(&mut state, Some(tokens));
        drop(state);
        self.ended = true;
    }

    /// The attempt failed, before or after its first content.
    pub fn failed(mut self, error: &Error, now: Instant) {
        let target = Arc::clone(&self.target);
        let mut state = target.state();
        let waited = now.saturating_duration_since(self.begun);
        match outcome(error) {
            Outcome::Failed => self.sick(&mut state, now),
            // Who turns work away although there is hardly any of ours is not busy but broken.
            Outcome::Overloaded if !self.terms.internal || state.in_flight <= 1 => self.sick(&mut state, now),
            Outcome::Overloaded => self.turned_away(&mut state, now),
            Outcome::Cool(wait) => {
                let State { cooling, random, .. } = &mut *state;
                cooling.refused(wait, now, random);
                self.turned_away(&mut state, now);
            }
            Outcome::Retire { account } => {
                let State { retired, random, .. } = &mut *state;
                if !target.account.refused(account, now, random) {
                    *retired = Some(Retired::again(retired.as_ref(), now, random));
                }
                state.standing.nothing_learnt();
            }
            Outcome::Answered if self.answering.is_none() => self.well(&mut state, now),
            Outcome::OutOfTime if self.answering.is_none() && waited >= self.patience(&state) => {
                self.sick(&mut state, now);
            }
            Outcome::Answered | Outcome::OutOfTime | Outcome::Nothing => self.nothing(&mut state),
        }
        self.release(&mut state, None);
        drop(state);
        self.ended = true;
    }

    fn well(&self, state: &mut State, now: Instant) {
        state.cooling.answered();
        state.retired = None;
        self.target.account.accepted(now);
        if state.standing.answered(self.begun, now) {
            state.latency.pardon();
        }
    }

    fn sick(&self, state: &mut State, now: Instant) {
        if self.terms.repeat && self.answering.is_none() {
            return self.nothing(state);
        }
        let State { standing, random, latency, waiting, .. } = state;
        // An answer that was counted is taken back; it is as old as its first content.
        let begun = self.answering.unwrap_or(self.begun);
        let failure = Failure { begun, begun_well: self.answering.is_some(), pending: *waiting };
        standing.failed(failure, now, random);
        if self.answering.is_none() {
            latency.failed(self.size.input, now.saturating_duration_since(self.begun), now);
        }
    }

    fn turned_away(&self, state: &mut State, now: Instant) {
        if self.terms.internal {
            let in_flight = state.in_flight;
            state.limit.rejected(in_flight, now);
        }
        state.latency.failed(self.size.input, now.saturating_duration_since(self.begun), now);
        self.nothing(state);
    }

    fn nothing(&self, state: &mut State) {
        if self.terms.trial {
            state.standing.nothing_learnt();
            self.target.account.nothing_learnt();
            if let Some(retired) = &mut state.retired {
                retired.nothing_learnt();
            }
        }
    }

    /// How long an answer may be waited for before its target is to blame.
    fn patience(&self, state: &State) -> Duration {
        let usual = state.latency.quantile_for(self.size.input, 0.95).unwrap_or_default();
        LONG.max(usual * 4)
    }

    fn release(&self, state: &mut State, used: Option<u64>) {
        state.in_flight = state.in_flight.saturating_sub(1);
        if self.answering.is_none() {
            state.waiting = state.waiting.saturating_sub(1);
        }
        state.tokens = state.tokens.saturating_sub(self.size.whole);
        if let (true, Some(provision)) = (self.terms.prepaid, &mut state.provision) {
            // Who failed before the first content used nothing; who was cut off used what was expected, as far as we know.
            let used = used.unwrap_or(if self.answering.is_some() { self.size.whole } else { 0 });
            provision.settle(self.size.whole, used);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.ended {
            let mut state = self.target.state();
            if self.answering.is_none() {
                self.nothing(&mut state);
            }
            self.release(&mut state, None);
        }
    }
}
