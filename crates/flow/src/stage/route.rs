//! Where it goes.

use std::sync::Arc;

use penstock_domain::{Code, Error, Request};
use penstock_identity::Caller;
use penstock_routing::{Ask, Model, Plan, Unroutable};

use super::call::{Terms, now};
use super::prepare::Prepared;
use crate::Flow;
use crate::journey::Journey;

/// A request with its plan.
pub(crate) struct Routed {
    pub(crate) terms: Terms,
    pub(crate) plan: Plan,
}

/// Asks the catalogue for a plan inside what caller and request allow.
pub(crate) fn route(
    flow: &Flow,
    journey: &mut Journey,
    caller: &Caller,
    prepared: Prepared,
) -> Result<Routed, Error> {
    let Prepared { terms, model } = prepared;
    let request = terms.request();
    let parts = &flow.parts;
    let plan = match (&model, request.body.passage()) {
        (Some(model), _) => {
            let ask = Ask {
                model,
                asked: &request.model,
                input: input(journey, request, model),
                output: terms.output(Some(model)),
                bounds: caller.team.as_ref().and_then(|team| parts.bounds.get(team)),
                residency: request.residency.as_deref(),
                prefix: model.policy.affinity.then(|| prefix(request.body.bytes())),
                now: now(),
            };
            parts.catalogue.plan(&parts.fleet, ask)
        }
        (None, Some(passage)) => {
            let bounds = caller.team.as_ref().and_then(|team| parts.bounds.get(team));
            parts.catalogue.relay(&parts.fleet, (&passage.path, passage.family()), bounds)
        }
        (None, None) => Err(Unroutable::Nothing),
    };
    match plan {
        Ok(plan) => Ok(Routed { terms, plan }),
        Err(Unroutable::Bounds) => Err(outside(flow, caller, request)),
        Err(Unroutable::Nothing) => {
            Err(Error::new(Code::NoProviderAvailable, "no provider of this model is configured"))
        }
    }
}

/// Tokens of the prompt. Long ones where there is a choice, and those of a stream that will need the estimate anyway, as we
/// estimate them; else by the length of the body, which costs nothing: no window is so small that a short prompt's could
/// matter, and shares and prices of equals want no more than its size.
fn input(journey: &mut Journey, request: &Request, model: &Model) -> u64 {
    let choice = model.deployments.len() > 1 || !model.fallbacks.is_empty();
    let length = request.body.bytes().len();
    if request.stream || (choice && length > SHORT) {
        return journey.weigh(request);
    }
    length as u64 / BYTES_PER_TOKEN
}

/// Bytes of a request's body that make a token, about.
const BYTES_PER_TOKEN: u64 = 4;

/// Bodies up to this many bytes are about a thousand tokens.
const SHORT: usize = 4 << 10;

/// What of a body has to be equal for two requests to share what a replica has cached: its beginning, where system
/// prompts and tools stand.
const BEGINNING: usize = 2 << 10;

/// A digest of the beginning of a request, the same in every gateway of every version, so that several agree where a prompt is at
/// home. It is no secret and keeps none: it is only ever compared.
fn prefix(body: &[u8]) -> u64 {
    let digest = blake3::hash(&body[..body.len().min(BEGINNING)]);
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Nobody is inside the regions; nothing was sent.
fn outside(flow: &Flow, caller: &Caller, request: &Request) -> Error {
    let bounds = caller.team.as_ref().and_then(|team| flow.parts.bounds.get(team));
    let list = |regions: &[Arc<str>]| regions.join(", ");
    let mut only = Vec::new();
    if let Some(bounds) = bounds {
        if !bounds.regions.is_empty() {
            only.push(format!("the caller's team allows only {}", list(&bounds.regions)));
        }
        if bounds.internal_only {
            only.push("the caller's team allows only what the operator runs".to_owned());
        }
    }
    if let Some(regions) = &request.residency {
        only.push(format!("the request allows only {}", list(regions)));
    }
    let say = format!(
        "no provider of the model '{}' is where it may be asked: {}; nothing was sent",
        request.model,
        only.join(", and ")
    );
    Error::new(Code::DataResidencyMismatch, say)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_has_the_same_digest_in_every_gateway() {
        // Whoever changes these moves every prompt away from where its beginning is cached, while old and new gateways disagree.
        // The first eight bytes of BLAKE3's digest of nothing, as its paper gives it.
        assert_eq!(prefix(b""), 0xa6a1_f9f5_b949_13af);
        assert_eq!(prefix(br#"{"model":"m","messages":[]}"#), 9_486_063_348_786_469_002);
        let long = [b'a'; BEGINNING + 1];
        assert_eq!(prefix(&long), prefix(&long[..BEGINNING]));
        assert_ne!(prefix(&long), prefix(&long[1..BEGINNING]));
    }
}
