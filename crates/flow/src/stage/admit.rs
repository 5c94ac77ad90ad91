//! May it run now.

use std::sync::Arc;
use std::time::SystemTime;

use penstock_admission::{Allowance, Claim, Now, Output, Rate};
use penstock_domain::{Code, Error, Passage, Request, Tariff, Task, Usage};
use penstock_identity::{Caller, Scope};
use penstock_routing::Model;

use super::tokens;
use crate::Flow;
use crate::gateway::missing_scope;
use crate::journey::Journey;

/// What an answer is held to have at most while nobody knows how long the model's answers are: the lesser of this and the
/// model's own bound. It grows as the answer does.
const COLD: u32 = 4_096;

/// The proof that a request may run; what is held for it goes with the journey.
pub(crate) struct Admitted(());

/// Checks scope and model allow-list, then takes a slot, a request, tokens and money from the key, its team, the organisation
/// and the model, or from none of them.
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
    may_ask(flow, caller, scope, request)?;
    let now = Now::read();
    let model = flow.parts.catalogue.find(&request.model).filter(|_| request.body.passage().is_none());
    let (input, output) = size(request, model);
    let tariff = tariff(flow, request, model, (input, now.wall));
    let key = caller.key_id.shared();
    let claim = Claim {
        id: &request.id,
        tags: &request.tags,
        key: &key,
        own: Allowance { limits: caller.limits, budget: caller.budget },
        team: caller.team.as_ref(),
        model: model.map(|model| &model.name),
        input,
        output,
        tariff: tariff.as_ref(),
    };
    let count = || tokens::closely(journey, request, model.map(|model| &**model));
    let (rate, permit) = flow.parts.admission.reserve(&flow.parts.rules, claim, now, count);
    journey.rate = Some(rate).filter(|rate| *rate != Rate::default());
    journey.admitted(permit?);
    Ok(Admitted(()))
}

/// The proof that the other gateways, where there are any, agree.
pub(crate) struct Confirmed(());

/// Asks the other gateways. It waits for their answer, so it comes after what needs no waiting; where there are none, nothing
/// is asked and nothing waits.
pub(crate) async fn confirm(_: &Admitted, journey: &mut Journey) -> Result<Confirmed, Error> {
    if journey.is_provisional() {
        // On the heap: the future of a request that asks nobody is to have no room for it.
        Box::pin(journey.confirm()).await?;
    }
    Ok(Confirmed(()))
}

/// Checks scope and model allow-list.
pub(crate) fn may_ask(flow: &Flow, caller: &Caller, scope: Scope, request: &Request) -> Result<(), Error> {
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
    Ok(())
}

/// At most how many tokens the prompt has, and how long the answer may be. No vocabulary has a token of less than a byte, and
/// what JSON writes around a text is more than what vendors add to it.
fn size(request: &Request, model: Option<&Arc<Model>>) -> (u64, Output) {
    let Some(model) = model else { return (0, Output::Bound(0)) };
    let input = request.body.bytes().len() as u64;
    let choices = u64::from(request.choices.max(1));
    let most = model.max_output_tokens.unwrap_or(u32::MAX);
    let asked = request.max_output_tokens.or(model.default_output_tokens);
    match (request.task, asked) {
        (Task::CountTokens | Task::Relay, _) => (0, Output::Bound(0)),
        (Task::Embedding, _) => (input, Output::Bound(0)),
        (_, Some(asked)) => (input, Output::Bound(u64::from(asked.min(most)) * choices)),
        (_, None) => (input, Output::Free { cold: u64::from(COLD.min(most)) * choices, choices }),
    }
}

/// The dearest prices that the request may be billed at; `None` when nobody knows them all.
fn tariff(
    flow: &Flow,
    request: &Request,
    model: Option<&Arc<Model>>,
    (input, when): (u64, SystemTime),
) -> Option<Tariff> {
    match (request.task, model) {
        (Task::Relay, _) => None,
        // Nobody bills a count, and who asks for a model that does not exist is refused later.
        (Task::CountTokens, _) | (_, None) => Some(Tariff::FREE),
        (task, Some(model)) => {
            let output = u64::from(task != Task::Embedding) * u64::from(COLD);
            let usage = Usage { input, output, ..Usage::default() };
            flow.parts.catalogue.dearest(model, &request.model, when, &usage)
        }
    }
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
