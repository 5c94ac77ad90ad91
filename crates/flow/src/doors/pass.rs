//! The right of one call to be inside.

use std::sync::Arc;

use penstock_admission::fair::Charge;
use penstock_admission::{Need, Now, Question, Stake};
use penstock_domain::{Cost, Usage};

use super::{Door, Shut};

/// So many further tokens are counted together: a lock per token would cost more than the tokens matter.
const STEP: u64 = 64;

/// One call inside. Dropped without an end it used nothing.
pub(crate) struct Pass(Option<Box<Held>>);

struct Held {
    door: Arc<Door>,
    lane: u64,
    stake: Stake,
    charge: Charge,
    /// From how many generated tokens on the door is to be told.
    tell_at: u64,
}

/// What the other gateways have to be asked before a call begins, for whoever cannot wait at the door itself.
pub(crate) struct Asking(Arc<Door>, Question);

impl Pass {
    pub(super) fn new(door: Arc<Door>, lane: u64, stake: Stake, charge: Charge) -> Self {
        let tell_at = charge.output().saturating_add(STEP);
        Self(Some(Box::new(Held { door, lane, stake, charge, tell_at })))
    }

    /// What is to be asked before the call begins; `None` where there is nobody to be asked, or it was asked.
    pub(crate) fn asking(&mut self) -> Option<Asking> {
        let held = self.0.as_mut()?;
        let question = held.stake.question()?;
        Some(Asking(Arc::clone(&held.door), question))
    }

    /// Asks the other gateways, where there are any.
    ///
    /// # Errors
    /// They have no room: the call is out again and has used nothing.
    pub(crate) async fn confirm(mut self) -> Result<Self, Shut> {
        if let Some(asking) = self.asking() {
            Box::pin(asking.ask()).await?;
        }
        Ok(self)
    }

    /// So many tokens were generated so far.
    pub(crate) fn generated(&mut self, output: u64) {
        let Some(held) = &mut self.0 else { return };
        if output < held.tell_at {
            return;
        }
        held.tell_at = output.saturating_add(STEP);
        let Held { door, stake, charge, .. } = &mut **held;
        door.state().fair.progress(charge, output);
        stake.grow(output);
    }

    /// The call has ended, and used this. Gives the number by which the ledger says that it has what was paid.
    pub(crate) fn end(mut self, usage: Option<Usage>, cost: Cost) -> Option<u64> {
        self.leave(usage, cost)
    }

    fn leave(&mut self, usage: Option<Usage>, cost: Cost) -> Option<u64> {
        let Held { door, lane, stake, charge, .. } = *self.0.take()?;
        let now = Now::read();
        let micros = cost.known().unwrap_or_default().micros();
        let tokens = usage.map(|usage| (usage.input, usage.output));
        let (input, output) = tokens.unwrap_or_default();
        let mut state = door.state();
        state.room.count_out(lane);
        let nanos = door.nanos(now.at);
        state.fair.end(charge, tokens, nanos);
        let number = stake.end(Need { input, output, micros }, now);
        drop(state);
        door.look();
        Some(number)
    }
}

impl Asking {
    /// Asks.
    ///
    /// # Errors
    /// There is no room at all gateways together.
    pub(crate) async fn ask(self) -> Result<(), Shut> {
        let Self(door, question) = self;
        let answer = question.ask().await;
        // Whoever is behind waited for the answer.
        door.next_asks();
        answer.map_err(|short| Shut { error: short.error, word: "quota", waits: short.wait.is_some() })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.leave(None, Cost::None);
    }
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pass").field(&self.0.as_ref().map(|held| &held.stake)).finish()
    }
}
