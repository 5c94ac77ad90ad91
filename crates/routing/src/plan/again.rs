//! The same target once more, when nobody else has been or can be asked: what failed for a moment may pass.
//!
//! What it promises: at most two repeats of a request, paid for by the purse for retries; pauses with full jitter, so that those
//! who failed together do not come back together (Brooker, "Exponential Backoff And Jitter", AWS 2015); a vendor's own wait is
//! waited out once and only where it is short; nothing that the asker's time does not allow.

use std::time::{Duration, Instant};

use penstock_domain::{Code, Error, Remedy, Retry};

use super::{Place, Plan, Resort, Spot};
use crate::target::Gate;

/// So often a request comes back to the target that failed it: as often as the vendors' own SDKs do.
const REPEATS: u8 = 2;
/// The longest pause before the first repeat; before the second it is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest wait of a vendor that is waited out here. A longer one is the asker's to decide about.
const WAIT: Duration = Duration::from_secs(5);
/// Whatever took so long to fail would take as long again.
const SLOW: Duration = Duration::from_secs(10);
/// Time that must be left when a repeat begins.
const LEFT: Duration = Duration::from_millis(20);

impl Plan {
    /// The request has to be answered by then: no repeat is planned that could not be.
    pub fn end_by(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// From now on only others are asked.
    pub fn repeat_no_more(&mut self) {
        self.repeats = REPEATS;
    }

    /// Whether everything was done that may be done about a fault that can pass: the budget is spent, or the repeats are.
    /// Whoever sends the request again at once makes the outage worse.
    pub fn is_spent(&self) -> bool {
        self.denied.is_some() || self.given_up
    }

    /// The target that has just failed, and after what pause to ask it again.
    pub(super) fn later(&mut self, current: usize, error: &Error, now: Instant) -> Option<(Spot, Duration)> {
        let others = self.entries.iter().enumerate().any(|(n, entry)| n != current && entry.tries > 0);
        let took = now.saturating_duration_since(self.begun?);
        if others || took >= SLOW {
            return None;
        }
        let entry = self.entries.get(current).filter(|entry| entry.busy.is_none())?;
        let view = entry.candidate.target.view(self.size, entry.provisioned, now);
        let stated = match error.retry() {
            Retry::After(wait) => wait,
            Retry::Maybe | Retry::Never => Duration::ZERO,
        };
        let wait = match (error.remedy(), view.gate) {
            // Waited out once: who is refused again is asked too much of.
            (Remedy::Cool, Gate::Cooling { until, .. }) if self.repeats == 0 => {
                until.saturating_duration_since(now).max(stated)
            }
            (Remedy::Same | Remedy::Other, Gate::Open(_) | Gate::Saturated | Gate::Ejected { .. })
                if may_pass(error.code()) =>
            {
                stated
            }
            _ => return None,
        };
        if self.repeats >= REPEATS {
            self.given_up = true;
            return None;
        }
        let jitter = (PAUSE * (1 << self.repeats)).mul_f64(self.random.unit());
        let pause = wait + jitter;
        let late = self.deadline.is_some_and(|deadline| now + pause + LEFT > deadline);
        if wait > WAIT || late {
            return None;
        }
        self.repeats += 1;
        let place = Place { resort: Resort::Usual, rank: 0, same_door: true };
        Some((Spot { index: current, place, view }, pause))
    }
}

/// Faults of a moment. What a target cannot do, it cannot do the next time.
fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::UpstreamError
            | Code::UpstreamUnreachable
            | Code::UpstreamBadResponse
            | Code::UpstreamStreamCut
            | Code::UpstreamTimeout
            | Code::UpstreamIdleTimeout
            | Code::Overloaded
    )
}
