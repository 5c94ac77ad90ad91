//! What the asker is told when every attempt failed.
//!
//! What it promises: the error from which the asker learns most; never a vendor's refusal of our credential as a refusal of
//! theirs; the smallest wait where waiting helps; and no invitation to retry where we have given up on retrying.

use std::time::{Duration, Instant};

use penstock_domain::{Code, Error, Kind, Retry};
use penstock_routing::Plan;

/// What went wrong so far.
#[derive(Default)]
pub(super) struct Failures {
    last: Option<Error>,
    /// The most useful one before the last.
    best: Option<Error>,
    /// The smallest wait that a vendor asked for.
    wait: Option<Duration>,
}

impl Failures {
    pub(super) fn add(&mut self, error: Error) {
        if let Retry::After(wait) = error.retry() {
            self.wait = Some(self.wait.map_or(wait, |least| least.min(wait)));
        }
        if let Some(before) = self.last.replace(error) {
            self.best = Some(match self.best.take() {
                Some(best) if use_of(&best) >= use_of(&before) => best,
                _ => before,
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    pub(super) fn last(&self) -> Option<&Error> {
        self.last.as_ref()
    }

    /// The error of the request.
    pub(super) fn verdict(self, plan: &Plan, deadline: Option<Instant>, now: Instant) -> Error {
        let Self { last, best, wait } = self;
        let cools = plan.wait(now);
        let Some(last) = last else { return nobody(cools) };
        let error = match best {
            // Of equals the first: it was the one that was wanted most.
            Some(best) if use_of(&best) >= use_of(&last) => best,
            _ => last,
        };
        if deadline.is_some_and(|deadline| deadline <= now) || error.retry() == Retry::Never {
            return error;
        }
        if error.code() == Code::UpstreamRateLimited {
            // Every other one said the same, or cannot answer whatever the time.
            let least = match (wait, cools) {
                // The vendor's own words, unless somebody who was not asked at all is back well before.
                (Some(wait), Some(cools)) if cools + SLACK < wait => Some(cools),
                (wait, cools) => wait.or(cools),
            };
            return least.map_or(error.clone(), |wait| error.with_retry(Retry::After(wait)));
        }
        if plan.is_spent() {
            // Whoever sends it again at once makes the outage worse, as we would.
            return error.with_retry(Retry::Never);
        }
        error
    }
}

/// Nobody could even be asked.
fn nobody(cools: Option<Duration>) -> Error {
    match cools {
        Some(wait) => {
            let say = "every provider of this model limits our rate; send the request again after the wait";
            Error::new(Code::UpstreamRateLimited, say).with_retry(Retry::After(wait))
        }
        None => {
            let say =
                "every provider of this model is out of service now; send the request again after the wait";
            Error::new(Code::NoProviderAvailable, say).with_retry(Retry::After(LOOK_AGAIN))
        }
    }
}

/// The time that attempts themselves have taken makes no wait shorter.
const SLACK: Duration = Duration::from_secs(1);

/// After how long somebody who was out may be asked again at the earliest.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How much an asker learns from an error: what they can mend themselves first, then what time mends, then what only the
/// operator can mend.
fn use_of(error: &Error) -> u8 {
    match (error.code(), error.kind()) {
        (Code::Unsupported, _) => 0,
        (_, Kind::Invalid | Kind::TooLarge) | (Code::DeadlineExceeded, _) => 4,
        (Code::UpstreamAuth | Code::UpstreamQuotaExceeded | Code::LocalModelUnavailable, _) => 1,
        (Code::NoProviderAvailable, _) => 0,
        (Code::UpstreamRateLimited, _) => 2,
        _ => 3,
    }
}
