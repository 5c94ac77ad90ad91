//! May it run now.

use std::sync::Arc;
use std::time::Instant;

use penstock_admission::Permit;
use penstock_domain::{Code, Error, Passage, Request};
use penstock_identity::{Caller, Scope};

use crate::Flow;
use crate::gateway::missing_scope;
use crate::journey::Journey;

/// The right to run, held until the answer has ended or was dropped.
pub(crate) struct Admitted {
    pub(crate) permit: Permit,
}

/// Checks scope and model allow-list, then takes a slot and a request from the caller's rate.
///
/// Rights come before rates, so that a key that may not ask cannot use up anybody's rate. A model that exists but is
/// not allowed reads exactly like one that does not exist.
pub(crate) fn admit(
    flow: &Flow,
    journey: &mut Journey,
    caller: &Arc<Caller>,
    scope: Scope,
    request: &Request,
) -> Result<Admitted, Error> {
    if let Some(passage) = request.body.passage() {
        may_relay(caller, scope, passage)?;
    } else if !caller.scopes.allows(scope, Some(&request.model)) {
        let elsewhere = caller.scopes.reaches(scope);
        return Err(if elsewhere {
            unknown_model(flow, caller, &request.model)
        } else {
            missing_scope(scope)
        });
    } else if !caller.models.allows(&request.model) {
        return Err(unknown_model(flow, caller, &request.model));
    }
    let (rate, permit) = flow.parts.admission.admit(caller.key_id.as_str(), &caller.limits, Instant::now());
    journey.rate = rate;
    Ok(Admitted { permit: permit? })
}

/// Rights to a path that nobody reads: the scope names the kind of objects. A key that may use some models only could
/// reach every other one through bytes that we do not read, so it may relay nothing.
fn may_relay(caller: &Caller, scope: Scope, passage: &Passage) -> Result<(), Error> {
    if !caller.scopes.allows(scope, Some(passage.family())) {
        let say = format!(
            "this key lacks the scope {scope} for these objects; ask the operator for a key that has {scope} or {scope}:NAME with the first segment of the path"
        );
        return Err(Error::new(Code::InsufficientScope, say));
    }
    if caller.models.patterns().is_some() {
        let say = "this key may use some models only, and requests that are passed on are not read: ask the operator for a key without a list of models";
        return Err(Error::new(Code::InsufficientScope, say));
    }
    Ok(())
}

/// The one answer to a name that this caller cannot use. The hint names only what the caller may use.
pub(crate) fn unknown_model(flow: &Flow, caller: &Caller, asked: &str) -> Error {
    let shown: String = asked.chars().filter(|c| !c.is_control()).take(100).collect();
    let hint = match flow.parts.catalogue.nearest(asked) {
        Some(near) if caller.models.allows(near) => format!("did you mean '{near}'? "),
        _ => String::new(),
    };
    Error::new(
        Code::ModelNotFound,
        format!(
            "the model '{shown}' does not exist or this key may not use it; {hint}GET /v1/models lists the models of this key"
        ),
    )
    .with_param("model")
}
