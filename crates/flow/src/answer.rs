use std::sync::{Arc, OnceLock};

use penstock_admission::Rate;
use penstock_domain::{Cost, Error};
use penstock_observe::Timings;
use penstock_provider::Deltas;

/// What is known of an answer when its first content is in hand: the stuff of response headers.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The model's name in the catalogue.
    pub model: Option<Arc<str>>,
    /// The provider that answers.
    pub provider: Option<Arc<str>>,
    /// The model as that provider names it.
    pub upstream_model: Option<Arc<str>>,
    /// How many upstream calls were made so far.
    pub attempts: u32,
    /// The state of the caller's request rate, where one is limited.
    pub rate: Option<Rate>,
    /// Members of the request that the vendor's dialect cannot express, by path.
    pub dropped: Vec<String>,
    /// The bound of the answer, in tokens, that holds instead of what was asked for.
    pub clamped: Option<u32>,
    /// The answer is a number of tokens that was estimated.
    pub estimated: bool,
    /// Time spent per stage so far.
    pub timings: Timings,
}

/// An answer on its way: what is known now, and the stream of the rest. Dropping it cancels the call behind it.
pub struct Answer {
    /// What is known now.
    pub head: Head,
    /// The rest, see [`penstock_domain::Delta`]; ends with `Failed` if it broke.
    pub deltas: Deltas,
    /// What it costs, for answers that are sent as a whole: known when the stream has ended.
    pub bill: Option<Bill>,
}

/// What an answer costs, once it has ended.
#[derive(Debug, Clone, Default)]
pub struct Bill(Arc<OnceLock<Cost>>);

impl Bill {
    /// What it costs; [`Cost::None`] until the answer has ended.
    pub fn cost(&self) -> Cost {
        self.0.get().copied().unwrap_or_default()
    }

    pub(crate) fn settle(&self, cost: Cost) {
        // The first word stands.
        let _ = self.0.set(cost);
    }
}

/// A request that ended without an answer.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Why.
    pub error: Error,
    /// How far it came.
    pub head: Head,
}
