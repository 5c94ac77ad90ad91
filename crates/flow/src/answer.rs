use std::sync::Arc;

use penstock_admission::Rate;
use penstock_domain::Error;
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
    /// Time spent per stage so far.
    pub timings: Timings,
}

/// An answer on its way: what is known now, and the stream of the rest. Dropping it cancels the call behind it.
pub struct Answer {
    /// What is known now.
    pub head: Head,
    /// The rest, see [`penstock_domain::Delta`]; ends with `Failed` if it broke.
    pub deltas: Deltas,
}

/// A request that ended without an answer.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Why.
    pub error: Error,
    /// How far it came.
    pub head: Head,
}
