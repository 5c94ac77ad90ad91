use std::future::Future;
use std::time::{Duration, Instant};

use penstock_domain::{Code, Error};

/// How long each phase of a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS.
    pub connect: Duration,
    /// From the request's last byte to the first event or body byte.
    pub first_token: Duration,
    /// Between two events.
    pub idle: Duration,
    /// The whole call.
    pub total: Duration,
}

impl Default for Timeouts {
    /// Connect 5 s, first token 60 s, idle 60 s, total 10 min (the default of the vendors' own SDKs).
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}

/// Runs a future until it ends, its phase's time is over, or the caller's deadline passes, whichever comes first.
///
/// # Errors
/// `late` when the phase's time is over, `deadline_exceeded` when the caller's deadline was the nearer one.
pub async fn within<T>(
    phase: Duration,
    deadline: Option<Instant>,
    late: impl FnOnce() -> Error,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    // The runtime's clock, not the machine's: tests pause and advance it.
    let phase_end = tokio::time::Instant::now().into_std() + phase;
    let (end, callers) = match deadline {
        Some(deadline) if deadline < phase_end => (deadline, true),
        _ => (phase_end, false),
    };
    match tokio::time::timeout_at(end.into(), work).await {
        Ok(value) => Ok(value),
        Err(_) if callers => Err(Error::new(
            Code::DeadlineExceeded,
            "the deadline of the request passed before an answer came",
        )),
        Err(_) => Err(late()),
    }
}
