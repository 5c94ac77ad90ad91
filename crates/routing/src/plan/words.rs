//! What goes into a plan and what comes out of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Bounds, Flight, Model, Prices, Target};

/// What the route of a request depends on.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The model in the catalogue.
    pub model: &'a Arc<Model>,
    /// The name as it was asked.
    pub asked: &'a Arc<str>,
    /// Tokens of the prompt, an estimate.
    pub input: u64,
    /// The bound of the answer, where one is known.
    pub output: Option<u32>,
    /// What the caller may not leave.
    pub bounds: Option<&'a Bounds>,
    /// The regions that the request itself may not leave.
    pub residency: Option<&'a [Arc<str>]>,
    /// A digest of the prompt's beginning, where equal beginnings should meet again.
    pub prefix: Option<u64>,
    /// Now.
    pub now: Instant,
}

/// One place that can answer.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The model in the catalogue that it belongs to: the asked one or a fall-back. `None` for relayed requests.
    pub serves: Option<Arc<Model>>,
    /// Where it is.
    pub target: Arc<Target>,
    /// What it costs; `None` when nobody said.
    pub prices: Option<Arc<Prices>>,
}

/// Why a plan has no candidate at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unroutable {
    /// There are some, and all are outside the regions, or run by others, than the request allows.
    Bounds,
    /// There is none.
    Nothing,
}

/// Why a candidate is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// It was the best.
    First,
    /// The attempt before failed, and the same may work now.
    Retry,
    /// The attempt before failed.
    Failover,
    /// The attempt before is slow.
    Hedge,
    /// To see whether it has recovered.
    Probe,
    /// Everything is out, and it is the least bad.
    Panic,
}

impl Why {
    /// The name in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Why::First => "first",
            Why::Retry => "retry",
            Why::Failover => "failover",
            Why::Hedge => "hedge",
            Why::Probe => "probe",
            Why::Panic => "panic",
        }
    }
}

/// A candidate to try now.
#[derive(Debug)]
pub struct Pick {
    /// Who.
    pub candidate: Candidate,
    /// Why.
    pub why: Why,
    /// How long to wait before it is asked; mostly not at all. The flight begins after it.
    pub pause: Duration,
    /// The attempt, for what is learnt from it.
    pub flight: Flight,
}

/// What was thought of one candidate, for `penstock explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// The provider's name.
    pub provider: Arc<str>,
    /// Which of its credentials.
    pub credential: u32,
    /// The model as that provider names it.
    pub model: Arc<str>,
    /// Why it was not tried, or `tried`.
    pub verdict: &'static str,
}
