//! The candidates of one request, and which is next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_domain::{Error, Remedy};

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

/// The candidates for one request.
#[derive(Debug)]
pub struct Plan {
    candidates: std::vec::IntoIter<Candidate>,
    tried: bool,
}

impl Plan {
    pub(crate) fn new(candidates: Vec<Candidate>) -> Self {
        Self { candidates: candidates.into_iter(), tried: false }
    }

    /// Who is tried next: the first, or after a failure, which its flight has already been told, somebody who may do
    /// better. `None` when there is nobody, nothing helps, or the budget for retries or failovers is spent.
    pub fn next(&mut self, after: Option<&Error>, _now: Instant) -> Option<Pick> {
        if after.is_some_and(|error| error.remedy() == Remedy::None) {
            return None;
        }
        let candidate = self.candidates.next()?;
        let why = if std::mem::replace(&mut self.tried, true) { Why::Failover } else { Why::First };
        let flight = Flight::begin(Arc::clone(&candidate.target));
        Some(Pick { candidate, why, flight })
    }

    /// How long until the first candidate may be asked again, when all of them cool because their vendors said so; `None` when
    /// another reason keeps anybody away. For the `retry-after` of a request that [`Plan::next`] has nobody for.
    pub fn wait(&self, _now: Instant) -> Option<Duration> {
        None
    }

    /// How long after the first attempt's begin a hedge may start, if this request may have one.
    pub fn hedge_after(&self) -> Option<Duration> {
        None
    }

    /// Somebody else to ask beside the attempt under way, if the budget for hedges allows it.
    pub fn hedge(&mut self, _now: Instant) -> Option<Pick> {
        None
    }

    /// What was thought of each candidate so far.
    pub fn considered(&self) -> Vec<Considered> {
        Vec::new()
    }
}
