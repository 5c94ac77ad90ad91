//! What the name means: the catalogue's model, and its bounds.

use std::sync::Arc;

use penstock_domain::{Code, Error, Request};
use penstock_identity::Caller;
use penstock_routing::Model;

use super::admit::unknown_model;
use crate::Flow;
use crate::journey::Journey;

/// A request whose model is known; a relayed one has none.
pub(crate) struct Prepared {
    pub(crate) request: Arc<Request>,
    pub(crate) model: Option<Arc<Model>>,
}

/// Finds the model and holds the request against its bounds.
pub(crate) fn prepare(
    flow: &Flow,
    journey: &mut Journey,
    caller: &Caller,
    request: Request,
) -> Result<Prepared, Error> {
    if request.body.passage().is_some() {
        return Ok(Prepared { model: None, request: Arc::new(request) });
    }
    let Some(model) = flow.parts.catalogue.find(&request.model) else {
        return Err(unknown_model(flow, caller, &request.model));
    };
    journey.model = Some(Arc::clone(&model.name));
    if let (Some(asked), Some(most)) = (request.max_output_tokens, model.max_output_tokens)
        && asked > most
    {
        let say = format!("max_tokens is {asked}, and this model gives at most {most}; ask for less");
        return Err(Error::new(Code::InvalidValue, say).with_param("max_tokens"));
    }
    Ok(Prepared { model: Some(Arc::clone(model)), request: Arc::new(request) })
}
