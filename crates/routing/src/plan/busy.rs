//! Candidates that have no room: nobody's fault, so the next one is looked for as if they had not been picked.
//!
//! What it promises: who was found busy costs no attempt, no try and no budget, and is not picked again before
//! [`Plan::has_room`] says that it may be.

use crate::{Candidate, Pick, Plan, Target, Why};

/// Why a candidate has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy {
    /// The word for explanations.
    pub(crate) word: &'static str,
    /// Whether it can be waited for.
    waits: bool,
}

impl Plan {
    /// The candidate that was picked last could not be asked, for want of room; drop its flight after this. `word` is for
    /// explanations, `waits` says whether there will be room.
    pub fn busy(&mut self, pick: &Pick, (word, waits): (&'static str, bool)) {
        let found = |one: &crate::plan::Entry| one.candidate.target.digest == pick.candidate.target.digest;
        let Some(entry) = self.entries.iter_mut().find(|one| found(one)) else { return };
        entry.tries = entry.tries.saturating_sub(1);
        entry.busy = Some(Busy { word, waits });
        self.attempts = self.attempts.saturating_sub(1);
        (self.current, self.begun) = self.before;
        if !pick.pause.is_zero() {
            self.repeats = self.repeats.saturating_sub(1);
        }
        // It is paid for, and goes to whoever is picked instead.
        self.credit |= matches!(pick.why, Why::Retry | Why::Failover);
    }

    /// The busy candidates that may be waited for, those of the preferred models first.
    pub fn awaited(&self) -> impl Iterator<Item = &Candidate> {
        let mut all: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| self.suits(entry) && entry.busy.is_some_and(|busy| busy.waits))
            .collect();
        all.sort_by_key(|entry| entry.rank);
        all.into_iter().map(|entry| &entry.candidate)
    }

    /// A busy candidate has room now.
    pub fn has_room(&mut self, target: &Target) {
        for entry in self.entries.iter_mut().filter(|entry| entry.candidate.target.digest == target.digest) {
            entry.busy = None;
        }
    }

    /// Tokens of the prompt, an estimate.
    pub fn input(&self) -> u64 {
        self.size.input
    }
}
