//! Who answers: candidates are tried until the first content is in hand.
//!
//! Until then an attempt can fail without the asker seeing anything, so lifecycle deltas are held back (bounded). This
//! is the commit point of the docs: after it an error becomes the last delta of the stream, unless the model allows that
//! another candidate continues the answer.

mod attempt;
mod count;
mod failures;
mod queue;
mod race;
mod resume;
mod terms;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_domain::{Code, Delta, Error, Remedy, Resume};
use penstock_provider::{Call, Deltas};
use penstock_routing::{Candidate, Flight, Pick};

use super::route::Routed;
use crate::Flow;
use crate::journey::{Journey, Turn};
use attempt::{Attempt, Begun};
use failures::Failures;
use queue::{Asker, Lobby};
use race::{Course, Racing};
pub(crate) use resume::{Continued, Resuming, may_resume};
pub(crate) use terms::Terms;

/// The runtime's clock, which is the machine's unless a test pauses it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// With less than this left of the asker's time no further attempt is begun: no vendor answers within it.
const NEARLY_OVER: Duration = Duration::from_millis(20);

/// An answer whose first content is in hand.
pub(crate) struct Live {
    pub(crate) deadline: Option<Instant>,
    pub(crate) held: Vec<Delta>,
    pub(crate) rest: Deltas,
    /// What the target is to learn of the rest.
    pub(crate) flight: Flight,
    /// Continues the answer should it break, where that is allowed.
    pub(crate) resuming: Option<Box<Resuming>>,
}

/// Tries the candidates that the plan names, one after another; only a slow first one may get another beside it.
///
/// # Errors
/// What is most useful to the asker of all that went wrong.
pub(crate) fn call<'a>(
    flow: &'a Arc<Flow>,
    journey: &'a mut Journey,
    routed: Routed,
) -> impl Future<Output = Result<Live, Error>> + Send + 'a {
    // Taken apart before the future begins, which then has room for each part once.
    let Routed { mut plan, mut terms } = routed;
    async move {
        let deadline = terms.request().deadline;
        plan.end_by(deadline);
        let mut failures = Failures::default();
        let mut lobby = Lobby::default();
        let won = loop {
            let Some(pick) = next(&mut plan, &failures, deadline, now()) else {
                // Boxed: only who waits needs the room.
                let asker = Asker { flow, journey, terms: &terms };
                match Box::pin(lobby.wait(asker, &mut plan, &failures)).await {
                    Ok(()) => continue,
                    Err(error) => error.into_iter().for_each(|error| failures.add(error)),
                }
                break None;
            };
            let Some(attempt) = Attempt::of(flow, &pick.candidate, &mut terms) else {
                let missing =
                    Error::new(Code::NoProviderAvailable, "a provider of this model is not configured");
                failures.add(missing.with_remedy(Remedy::Other));
                continue;
            };
            if !pick.pause.is_zero() {
                tokio::time::sleep(pick.pause).await;
            }
            let asker = Asker { flow, journey, terms: &terms };
            let Ok(pass) = lobby.enter(asker, &mut plan, &pick) else { continue };
            let Ok(pass) = lobby.confirm(pass, &mut plan, &pick).await else { continue };
            journey.attempt(Turn::Main, (&pick.candidate, pick.why.name()), attempt.request());
            journey.inside(Turn::Main, pass);
            let hedge = if failures.is_empty() { plan.hedge_after() } else { None };
            let clamped = attempt.clamped;
            let answering = pin!(attempt.first_content());
            let course = match hedge.filter(|_| race::may_hedge(terms.request())) {
                None => match answering.await {
                    Ok(begun) => Course::Won { turn: Turn::Main, begun, flight: pick.flight, clamped },
                    Err(error) => {
                        pick.flight.failed(&error, now());
                        journey.tried(Turn::Main, error.code().name());
                        Course::Lost([Some(error), None])
                    }
                },
                Some(after) => {
                    let racing = Racing { flow, journey, plan: &mut plan, terms: &mut terms };
                    Box::pin(racing.run(after, (answering, pick.flight, clamped))).await
                }
            };
            match course {
                Course::Won { turn, begun, flight, clamped } => break Some((turn, begun, flight, clamped)),
                Course::Lost(errors) => errors.into_iter().flatten().for_each(|error| failures.add(error)),
            }
        };
        journey.consider(&plan);
        let Some((turn, Begun { mut held, rest }, mut flight, clamped)) = won else {
            return Err(failures.verdict(&plan, deadline, now()));
        };
        flight.first_content(now());
        journey.won(turn);
        journey.clamped = clamped;
        journey.dropped = dropped(&mut held);
        journey.counted = held.iter().any(|delta| matches!(delta, Delta::Counted { estimated: true, .. }));
        let armed = terms.request().resume == Resume::Armed;
        let resuming = armed.then(|| Box::new(Resuming::new(Arc::clone(flow), plan, terms)));
        Ok(Live { deadline, held, rest, flight, resuming })
    }
}

/// Who is tried next, if there is time for anybody.
fn next(
    plan: &mut penstock_routing::Plan,
    failures: &Failures,
    deadline: Option<Instant>,
    now: Instant,
) -> Option<Pick> {
    let late = !failures.is_empty() && is_nearly_over(deadline, now);
    if late { None } else { plan.next(failures.last(), now) }
}

/// Whether the asker's time is too short for another attempt.
fn is_nearly_over(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|deadline| deadline.saturating_duration_since(now) < NEARLY_OVER)
}

/// Takes out what the attempt's translation lost: news for the headers, not for the answer.
fn dropped(held: &mut Vec<Delta>) -> Vec<String> {
    let mut all = Vec::new();
    held.retain_mut(|delta| match delta {
        Delta::Dropped(names) => {
            all.append(names);
            false
        }
        _ => true,
    });
    all
}

/// The call of a candidate.
fn call_of(candidate: &Candidate, request: &Arc<penstock_domain::Request>) -> Call {
    Call {
        request: Arc::clone(request),
        model: Arc::clone(&candidate.target.model),
        credential: candidate.target.credential,
        deadline: request.deadline,
    }
}
