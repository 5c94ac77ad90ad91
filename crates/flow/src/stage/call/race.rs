//! A second attempt beside a slow first one: whoever has content first answers, and the other is left at once.
//!
//! What it promises: both are on record with what they may cost; nothing is asked twice that may have effects twice.
//! The rules are those of Dean and Barroso, "The Tail at Scale" (2013); when and whether is routing's.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use penstock_domain::{Content, Dialect, Error, Request, Task};
use penstock_routing::{Flight, Plan};

use super::attempt::{Attempt, Begun};
use super::queue::{Asker, Lobby};
use super::{Terms, now};
use crate::Flow;
use crate::doors::{Asking, Pass};
use crate::journey::{Journey, Turn};

/// Members with which a vendor acts or keeps something, beside tools.
const ACTS: [&str; 6] = ["store", "background", "web_search_options", "mcp_servers", "container", "prompt"];

/// Whether asking twice does no more than asking once, but for its cost.
pub(super) fn may_hedge(request: &Request) -> bool {
    if request.choices > 1 {
        return false;
    }
    match request.task {
        Task::Relay => false,
        Task::Embedding | Task::CountTokens => true,
        Task::Completion => true,
        Task::Chat => match request.body.content() {
            Ok(Content::Chat(chat)) => {
                // Answers in this dialect are kept by us alone: vendors are told not to.
                let own = |name: &str| name == "store" && request.body.dialect() == Dialect::Responses;
                let acts = |path: &String| ACTS.contains(&path.as_str()) && !own(path);
                chat.tools.is_empty() && !chat.unsaid.iter().any(acts)
            }
            _ => false,
        },
    }
}

/// How one round of attempts went.
pub(super) enum Course {
    Won { turn: Turn, begun: Begun, flight: Flight, clamped: Option<u32> },
    Lost([Option<Error>; 2]),
}

/// What a race works with.
pub(super) struct Racing<'a> {
    pub(super) flow: &'a Arc<Flow>,
    pub(super) journey: &'a mut Journey,
    pub(super) plan: &'a mut Plan,
    pub(super) terms: &'a mut Terms,
}

/// An attempt under way, what is learnt from it, and the bound of its answer.
type Side<F> = (F, Flight, Option<u32>);

impl Racing<'_> {
    /// Waits for the first attempt, and after a while for a second one too.
    pub(super) async fn run<F>(mut self, after: Duration, main: Side<Pin<&mut F>>) -> Course
    where
        F: Future<Output = Result<Begun, Error>>,
    {
        let (mut answering, flight, clamped) = main;
        let slow = pin!(tokio::time::sleep(after));
        if let Either::Left((result, _)) = select(answering.as_mut(), slow).await {
            return self.alone(Turn::Main, result, flight, clamped);
        }
        let Some((attempt, other, asking)) = self.beside() else {
            let result = answering.await;
            return self.alone(Turn::Main, result, flight, clamped);
        };
        let other_clamped = attempt.clamped;
        let beside = pin!(attempt.asked(asking));
        match select(answering, beside).await {
            Either::Left((Ok(begun), _)) => Course::Won { turn: Turn::Main, begun, flight, clamped },
            Either::Right((Ok(begun), _)) => {
                Course::Won { turn: Turn::Beside, begun, flight: other, clamped: other_clamped }
            }
            Either::Left((Err(error), beside)) => {
                self.failed(Turn::Main, &error, flight);
                let result = beside.await;
                self.last(error, (Turn::Beside, result, other, other_clamped))
            }
            Either::Right((Err(error), answering)) => {
                self.failed(Turn::Beside, &error, other);
                let result = answering.await;
                self.last(error, (Turn::Main, result, flight, clamped))
            }
        }
    }

    /// Begins the second attempt, if routing has one.
    fn beside(&mut self) -> Option<(Attempt, Flight, Option<Asking>)> {
        let pick = self.plan.hedge(now())?;
        let attempt = Attempt::of(self.flow, &pick.candidate, self.terms)?;
        let asker = Asker { flow: self.flow, journey: &mut *self.journey, terms: &*self.terms };
        // Nobody waits to ask twice.
        let mut pass = Lobby::default().enter(asker, self.plan, &pick).ok()?;
        let asking = pass.as_mut().and_then(Pass::asking);
        self.journey.attempt(Turn::Beside, (&pick.candidate, pick.why.name()), attempt.request());
        self.journey.inside(Turn::Beside, pass);
        Some((attempt, pick.flight, asking))
    }

    fn failed(&mut self, turn: Turn, error: &Error, flight: Flight) {
        flight.failed(error, now());
        self.journey.tried(turn, error.code().name());
    }

    fn alone(
        &mut self,
        turn: Turn,
        result: Result<Begun, Error>,
        flight: Flight,
        clamped: Option<u32>,
    ) -> Course {
        match result {
            Ok(begun) => Course::Won { turn, begun, flight, clamped },
            Err(error) => {
                self.failed(turn, &error, flight);
                Course::Lost([Some(error), None])
            }
        }
    }

    /// What is left when the other one has failed with this error.
    fn last(&mut self, before: Error, (turn, result, flight, clamped): Ended) -> Course {
        match self.alone(turn, result, flight, clamped) {
            Course::Lost([error, _]) => Course::Lost([Some(before), error]),
            won => won,
        }
    }
}

type Ended = (Turn, Result<Begun, Error>, Flight, Option<u32>);
