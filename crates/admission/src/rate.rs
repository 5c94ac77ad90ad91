//! The arithmetic of a request rate: the generic cell rate algorithm (ITU-T I.371, annex A), which is a token bucket
//! that needs one number of state.
//!
//! A key with `n` requests per minute owns a bucket of `n` tokens that refills evenly, one each 60/n seconds. So the whole
//! minute's worth may come at once, and in *any* span of `t` seconds no more than `n + n·t/60` requests pass. The state
//! is the moment at which the bucket will be full again; times are nanoseconds since a start that the caller chooses.

use std::time::Duration;

const MINUTE_NANOS: u64 = 60_000_000_000;

/// What a caller may be told about its rate: the `x-ratelimit-*-requests` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests per minute.
    pub limit: u32,
    /// Requests that could follow at once.
    pub remaining: u32,
    /// Time until `remaining` equals `limit` again.
    pub reset: Duration,
}

/// The outcome of asking for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may run; the state to keep.
    Pass {
        /// When the bucket will be full again, in nanoseconds.
        full_at: u64,
    },
    /// It may not; nothing is used up.
    Wait {
        /// After this time one request will pass, if none comes in between.
        wait: Duration,
    },
}

/// Asks for one request at `now`, given the state `full_at` (0 at the beginning).
pub fn ask(per_minute: u32, full_at: u64, now: u64) -> Verdict {
    if per_minute == 0 {
        return Verdict::Wait { wait: Duration::from_nanos(MINUTE_NANOS) };
    }
    let gap = gap(per_minute);
    let next = bounded(per_minute, full_at, now).saturating_add(gap);
    let depth = gap.saturating_mul(u64::from(per_minute.max(1)));
    match next.checked_sub(now.saturating_add(depth)) {
        None | Some(0) => Verdict::Pass { full_at: next },
        Some(over) => Verdict::Wait { wait: Duration::from_nanos(over) },
    }
}

/// The rate as it stands at `now`, without asking for anything.
pub fn look(per_minute: u32, full_at: u64, now: u64) -> Rate {
    let gap = gap(per_minute);
    let missing = bounded(per_minute, full_at, now) - now;
    let used = u32::try_from(missing.div_ceil(gap)).unwrap_or(u32::MAX);
    Rate {
        limit: per_minute,
        remaining: per_minute.saturating_sub(used),
        reset: Duration::from_nanos(missing),
    }
}

/// Nanoseconds from one token to the next, rounded up: rounding must never let more through than the limit.
fn gap(per_minute: u32) -> u64 {
    MINUTE_NANOS.div_ceil(u64::from(per_minute.max(1)))
}

/// The state as of now: never in the past, and never emptier than empty, which a limit that was lowered could make it.
fn bounded(per_minute: u32, full_at: u64, now: u64) -> u64 {
    let depth = gap(per_minute).saturating_mul(u64::from(per_minute.max(1)));
    full_at.clamp(now, now.saturating_add(depth))
}

#[cfg(test)]
mod tests;
