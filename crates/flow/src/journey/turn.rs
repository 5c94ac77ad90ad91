//! What a request's turn depends on, and what is noted of its waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_domain::{Priority, Request, Stage};

use super::Journey;
use super::tries::Turn;
use crate::doors::Pass;
use crate::gateway::{Share, Shares};

impl Journey {
    /// Whose turn it would be, and how much of all turns are theirs: those of the caller's team, or of a key without one.
    pub(crate) fn tenant(&self, shares: &Shares) -> (Arc<str>, Share) {
        let Some(caller) = &self.caller else { return ("".into(), Share::default()) };
        let share = caller.team.as_ref().and_then(|team| shares.get(team)).copied().unwrap_or_default();
        let share = Share { priority: caller.priority.or(share.priority), ..share };
        match &caller.team {
            Some(team) => (Arc::clone(team), share),
            None => (caller.key_id.shared(), share),
        }
    }

    /// How urgent a request is: as its key or team, or less, if it says so.
    pub(crate) fn class(share: Share, request: &Request) -> Priority {
        let most = share.priority.unwrap_or_default();
        request.priority.map_or(most, |own| own.min(most))
    }

    /// The most tokens that the answer will probably have, where its asker did not say.
    pub(crate) fn foreseen(&self) -> u64 {
        self.permit.as_ref().map_or(0, |permit| permit.held().output)
    }

    /// A call went into a door with this.
    pub(crate) fn inside(&mut self, turn: Turn, pass: Option<Pass>) {
        if let Some(pass) = pass {
            self.tries.with(turn, pass);
        }
    }

    /// The request begins to wait.
    pub(crate) fn waits(&mut self) -> Instant {
        self.enter(Stage::Queue);
        Instant::now()
    }

    /// It waits no longer.
    pub(crate) fn waited(&mut self, class: Priority, since: Instant, served: bool) {
        let wait: Duration = since.elapsed();
        self.enter(Stage::Call);
        self.recorder.waited(class, wait, served);
    }
}
