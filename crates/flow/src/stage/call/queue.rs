//! Candidates that have their hands full: the others are tried, and when none is left the request waits for its turn.
//!
//! What it promises: nobody waits who need not, or who would have to wait too long; a request that waits is in one line, that of
//! the candidate which will probably be free first; time in the line is booked as the stage `queue`. Whoever has not met a full
//! candidate pays a look-up, and only where any provider has bounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_admission::Now;
use penstock_admission::fair::Ask;
use penstock_domain::{Code, Error, Remedy, Task};
use penstock_routing::{Candidate, Pick, Plan, Target};

use super::failures::Failures;
use super::{Terms, now};
use crate::Flow;
use crate::doors::{Door, Pass, Place, Shut, Wish};
use crate::journey::Journey;

/// What is known of full candidates: nothing, mostly.
#[derive(Default)]
pub(super) struct Lobby(Option<Box<Met>>);

#[derive(Default)]
struct Met {
    /// Whose turn has come.
    ready: Option<(Arc<Target>, Pass)>,
    /// Why the last of them was full.
    shut: Option<Error>,
}

/// A request before its doors.
pub(super) struct Asker<'a> {
    pub(super) flow: &'a Flow,
    pub(super) journey: &'a mut Journey,
    pub(super) terms: &'a Terms,
}

impl Lobby {
    /// Goes in to the candidate that was picked; `None` when its provider has no bounds.
    ///
    /// # Errors
    /// It is full: the plan knows, and the next candidate may be looked for.
    pub(super) fn enter(
        &mut self,
        asker: Asker<'_>,
        plan: &mut Plan,
        pick: &Pick,
    ) -> Result<Option<Pass>, ()> {
        let Some(door) = asker.flow.parts.doors.get(&pick.candidate.target.provider) else { return Ok(None) };
        let ready = self.0.as_mut().and_then(|met| met.ready.take());
        if let Some((target, pass)) = ready
            && target.digest() == pick.candidate.target.digest()
        {
            return Ok(Some(pass));
        }
        match door.enter(&asker.wish(door, plan, &pick.candidate), clocks()) {
            Ok(pass) => Ok(Some(pass)),
            Err(shut) => {
                self.turned_away(shut, plan, pick);
                Err(())
            }
        }
    }

    /// Asks the other gateways for a call that is in, where there are any.
    ///
    /// # Errors
    /// As [`Lobby::enter`].
    pub(super) async fn confirm(
        &mut self,
        pass: Option<Pass>,
        plan: &mut Plan,
        pick: &Pick,
    ) -> Result<Option<Pass>, ()> {
        let Some(pass) = pass else { return Ok(None) };
        match pass.confirm().await {
            Ok(pass) => Ok(Some(pass)),
            Err(shut) => {
                self.turned_away(shut, plan, pick);
                Err(())
            }
        }
    }

    fn turned_away(&mut self, Shut { error, word, waits }: Shut, plan: &mut Plan, pick: &Pick) {
        plan.busy(pick, (word, waits));
        self.0.get_or_insert_default().shut = Some(error);
    }

    /// Nobody is left who could be asked at once: waits for one that is full. `Ok` when the plan has somebody again.
    ///
    /// # Errors
    /// What the asker is told of it; `None` when nobody is full, or nothing that is full would help.
    pub(super) async fn wait(
        &mut self,
        asker: Asker<'_>,
        plan: &mut Plan,
        failures: &Failures,
    ) -> Result<(), Option<Error>> {
        let Some(met) = &mut self.0 else { return Err(None) };
        // Its turn came, and the plan would not have it: it is not waited for twice.
        if met.ready.take().is_some() {
            return Err(None);
        }
        let hopeless =
            |error: &Error| matches!(error.remedy(), Remedy::None | Remedy::Filtered | Remedy::Larger);
        if failures.last().is_some_and(hopeless) {
            return Err(None);
        }
        let shut = met.shut.take();
        let Some((door, wish)) = asker.best(plan) else { return Err(shut) };
        let class = wish.ask.class;
        let patience = asker.patience(&door);
        let place = door.join(&wish, patience, clocks()).map_err(|shut| Some(shut.error))?;
        let since = asker.journey.waits();
        let told = tokio::time::timeout(patience, turn(&door, &wish, place, patience)).await;
        asker.journey.waited(class, since, matches!(told, Ok(Ok(_))));
        match told {
            Ok(Ok(pass)) => {
                plan.has_room(&wish.target);
                met.ready = Some((wish.target, pass));
                Ok(())
            }
            Ok(Err(shut)) => Err(shut.map(|shut| shut.error)),
            Err(_) if is_over(asker.terms) => Err(Some(Error::new(
                Code::DeadlineExceeded,
                "the request waited for its turn until its time was over",
            ))),
            // Whoever asks again is no better off than whoever asks for the first time.
            Err(_) => Err(door.enter(&wish, clocks()).err().map(|shut| shut.error).or(shut)),
        }
    }
}

impl Asker<'_> {
    /// What a call of a candidate asks of its door.
    fn wish(&self, door: &Door, plan: &Plan, candidate: &Candidate) -> Wish {
        let (request, parts) = (self.terms.request(), &self.flow.parts);
        let (tenant, share) = self.journey.tenant(&parts.shares);
        let bound = self.terms.output(candidate.serves.as_deref());
        let choices = u64::from(request.choices.max(1));
        let (input, output, grows) = match (request.task, bound) {
            (Task::CountTokens | Task::Relay, _) => (0, 0, false),
            (Task::Embedding, _) => (plan.input(), 0, false),
            (_, Some(bound)) => (plan.input(), u64::from(bound) * choices, false),
            (_, None) => (plan.input(), self.journey.foreseen().max(1), true),
        };
        let tariff = candidate.prices.as_ref().and_then(|prices| prices.at(std::time::SystemTime::now()));
        let free = request.task == Task::CountTokens;
        Wish {
            target: Arc::clone(&candidate.target),
            need: door.quota().need((input, output), grows, tariff),
            priced: free || tariff.is_some(),
            ask: Ask {
                tenant,
                weight: share.weight.max(1),
                class: Journey::class(share, request),
                lane: candidate.target.digest(),
                input,
                output,
            },
        }
    }

    /// The full candidate that will probably be free first.
    fn best(&self, plan: &Plan) -> Option<(Arc<Door>, Wish)> {
        let doors = &self.flow.parts.doors;
        let waits = plan.awaited().filter_map(|candidate| {
            let door = doors.get(&candidate.target.provider)?;
            let wish = self.wish(door, plan, candidate);
            Some((door.predicts(&wish, clocks()), door, wish))
        });
        // Of equals the first: it is preferred.
        waits.min_by_key(|(wait, ..)| *wait).map(|(_, door, wish)| (Arc::clone(door), wish))
    }

    /// How long this asker waits here at most.
    fn patience(&self, door: &Door) -> Duration {
        let left = self.terms.request().deadline.map(|deadline| deadline.saturating_duration_since(now()));
        door.max_wait().min(left.unwrap_or(Duration::MAX))
    }
}

/// Waits for the turn, and once more where the other gateways left nothing of it.
async fn turn(
    door: &Arc<Door>,
    wish: &Wish,
    mut place: Place,
    patience: Duration,
) -> Result<Pass, Option<Shut>> {
    let end = now() + patience;
    loop {
        let pass = place.turn().await?;
        match pass.confirm().await {
            Ok(pass) => return Ok(pass),
            Err(shut) if !shut.waits => return Err(Some(shut)),
            Err(_) => {
                let left = end.saturating_duration_since(now());
                place = door.join(wish, left, clocks()).map_err(Some)?;
            }
        }
    }
}

/// Whether the asker's own time is over.
fn is_over(terms: &Terms) -> bool {
    terms.request().deadline.is_some_and(|deadline: Instant| deadline <= now())
}

/// Both clocks, the steady one as the runtime has it.
fn clocks() -> Now {
    Now { at: now(), ..Now::read() }
}
