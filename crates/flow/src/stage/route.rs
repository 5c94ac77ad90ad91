//! Where it goes.

use std::sync::Arc;
use std::time::Instant;

use penstock_domain::{Code, Error, Request};
use penstock_identity::Caller;
use penstock_routing::{Ask, Plan, Unroutable};

use super::prepare::Prepared;
use crate::Flow;

/// A request with its plan.
pub(crate) struct Routed {
    pub(crate) request: Arc<Request>,
    pub(crate) plan: Plan,
}

/// Asks the catalogue for a plan inside what caller and request allow.
pub(crate) fn route(flow: &Flow, caller: &Caller, prepared: Prepared) -> Result<Routed, Error> {
    let Prepared { request, model } = prepared;
    let parts = &flow.parts;
    let plan = match (&model, request.body.passage()) {
        (Some(model), _) => {
            let ask = Ask {
                model,
                asked: &request.model,
                input: 0,
                output: request.max_output_tokens,
                bounds: caller.team.as_ref().and_then(|team| parts.bounds.get(team)),
                residency: request.residency.as_deref(),
                prefix: None,
                now: Instant::now(),
            };
            parts.catalogue.plan(&parts.fleet, ask)
        }
        (None, Some(passage)) => {
            let plan = parts.catalogue.relay(&parts.fleet, &passage.path, passage.family());
            plan.ok_or(Unroutable::Nothing)
        }
        (None, None) => Err(Unroutable::Nothing),
    };
    match plan {
        Ok(plan) => Ok(Routed { request, plan }),
        Err(Unroutable::Bounds) => Err(Error::new(
            Code::DataResidencyMismatch,
            "no provider of this model is inside the regions that the caller or the request allows; nothing was sent",
        )),
        Err(Unroutable::Nothing) => {
            Err(Error::new(Code::NoProviderAvailable, "no provider of this model is configured"))
        }
    }
}
