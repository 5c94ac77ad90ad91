//! The time of one call: its phases, its whole, and the asker's deadline.

use std::future::Future;
use std::time::Duration;

use penstock_domain::Error;
use penstock_provider::{Timeouts, within};
use tokio::time::Instant;

use crate::faults;

/// When a call must be over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) timeouts: Timeouts,
    total_end: Instant,
    deadline: Option<std::time::Instant>,
}

impl Clock {
    /// Starts the time of a call.
    pub(crate) fn start(timeouts: Timeouts, deadline: Option<std::time::Instant>) -> Self {
        Self { timeouts, total_end: Instant::now() + timeouts.total, deadline }
    }

    /// The call's end, by its total time or by the asker's deadline.
    pub(crate) fn end(&self) -> Instant {
        self.deadline.map_or(self.total_end, |deadline| self.total_end.min(deadline.into()))
    }

    /// The fault of a call whose time is over, if it is.
    pub(crate) fn over(&self) -> Option<Error> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline.into()) {
            Some(faults::deadline())
        } else if now >= self.total_end {
            Some(faults::total_late(self.timeouts.total))
        } else {
            None
        }
    }

    /// Runs one phase inside the call.
    ///
    /// # Errors
    /// `late` when the phase took too long; the fault of the whole call when that is over first.
    pub(crate) async fn phase<T>(
        &self,
        limit: Duration,
        late: fn(Duration) -> Error,
        work: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let left = self.total_end.saturating_duration_since(Instant::now());
        let total = self.timeouts.total;
        let late = || if left <= limit { faults::total_late(total) } else { late(limit) };
        within(limit.min(left), self.deadline, late, work).await
    }
}
