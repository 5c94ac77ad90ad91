//! The right of one call to be inside.

use std::sync::Arc;

use penstock_admission::fair::Charge;
use penstock_admission::{Need, Now};
use penstock_domain::{Cost, Usage};

use super::Door;

/// So many further tokens are counted together: a lock per token would cost more than the tokens matter.
const STEP: u64 = 64;

/// One call inside. Dropped without an end it used nothing.
pub(crate) struct Pass(Option<Box<Held>>);

struct Held {
    door: Arc<Door>,
    lane: u64,
    need: Need,
    charge: Charge,
    /// From how many generated tokens on the door is to be told.
    tell_at: u64,
}

impl Pass {
    pub(super) fn new(door: Arc<Door>, lane: u64, need: Need, charge: Charge) -> Self {
        let tell_at = charge.output().saturating_add(STEP);
        Self(Some(Box::new(Held { door, lane, need, charge, tell_at })))
    }

    /// So many tokens were generated so far.
    pub(crate) fn generated(&mut self, output: u64) {
        let Some(held) = &mut self.0 else { return };
        if output < held.tell_at {
            return;
        }
        held.tell_at = output.saturating_add(STEP);
        let Held { door, need, charge, .. } = &mut **held;
        door.state().fair.progress(charge, output);
        if output > need.output {
            let more = Need { output: output - need.output, ..Need::default() };
            need.output = output;
            door.quota().more(more);
        }
    }

    /// The call has ended, and used this.
    pub(crate) fn end(mut self, usage: Option<Usage>, cost: Cost) {
        self.leave(usage, cost);
    }

    fn leave(&mut self, usage: Option<Usage>, cost: Cost) {
        let Some(held) = self.0.take() else { return };
        let Held { door, lane, need, charge, .. } = *held;
        let now = Now::read();
        let micros = cost.known().unwrap_or_default().micros();
        let tokens = usage.map(|usage| (usage.input, usage.output));
        let (input, output) = tokens.unwrap_or_default();
        let mut state = door.state();
        state.room.count_out(lane);
        let nanos = door.nanos(now.at);
        state.fair.end(charge, tokens, nanos);
        door.quota().settle(need, Need { input, output, micros }, now);
        drop(state);
        door.look();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.leave(None, Cost::None);
    }
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pass").field(&self.0.as_ref().map(|held| held.need)).finish()
    }
}
