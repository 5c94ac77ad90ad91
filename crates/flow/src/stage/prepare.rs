//! What the name means: the catalogue's model, and its bounds.

use std::sync::Arc;

use penstock_domain::{Error, Request, Resume};
use penstock_identity::Caller;
use penstock_routing::Model;

use super::admit::unknown_model;
use super::call::{Terms, may_resume};
use crate::Flow;
use crate::journey::Journey;

/// A request whose model is known; a relayed one has none.
pub(crate) struct Prepared {
    pub(crate) terms: Terms,
    pub(crate) model: Option<Arc<Model>>,
}

/// Finds the model, and what bounds the answer.
pub(crate) fn prepare(
    flow: &Flow,
    journey: &mut Journey,
    caller: &Caller,
    mut request: Request,
) -> Result<Prepared, Error> {
    if request.body.passage().is_some() {
        return Ok(Prepared { model: None, terms: Terms::new(Arc::new(request), None) });
    }
    let Some(model) = flow.parts.catalogue.find(&request.model) else {
        return Err(unknown_model(flow, caller, &request.model));
    };
    journey.model = Some(Arc::clone(&model.name));
    if model.policy.resume && request.resume == Resume::Unsaid && may_resume(&request) {
        request.resume = Resume::Armed;
    }
    let terms = Terms::new(Arc::new(request), caller.limits.max_output_tokens);
    Ok(Prepared { model: Some(Arc::clone(model)), terms })
}
