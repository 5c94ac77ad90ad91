//! Where it goes.

use std::sync::Arc;

use penstock_domain::{Code, Error, Request};
use penstock_provider::Provider;
use penstock_routing::Candidate;

use super::prepare::Prepared;
use crate::Flow;

/// A request with its candidates in order; never empty.
pub(crate) struct Routed {
    pub(crate) request: Arc<Request>,
    pub(crate) candidates: Vec<(Candidate, Arc<dyn Provider>)>,
}

/// Asks the catalogue for candidates and finds their back ends.
pub(crate) fn route(flow: &Flow, prepared: Prepared) -> Result<Routed, Error> {
    let Prepared { request, model } = prepared;
    let catalogue = &flow.parts.catalogue;
    let planned = match (&model, request.body.passage()) {
        (Some(model), _) => catalogue.plan(model, &request.model).candidates,
        (None, Some(passage)) => catalogue.relay(&passage.path, passage.family()).into_iter().collect(),
        (None, None) => Vec::new(),
    };
    let known = |candidate: Candidate| {
        let provider = flow.parts.providers.get(&candidate.provider).map(Arc::clone);
        provider.map(|provider| (candidate, provider))
    };
    let candidates: Vec<_> = planned.into_iter().filter_map(known).collect();
    if candidates.is_empty() {
        return Err(Error::new(Code::NoProviderAvailable, "no provider of this model is configured"));
    }
    Ok(Routed { request, candidates })
}
