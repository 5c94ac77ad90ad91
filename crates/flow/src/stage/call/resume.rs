//! A broken text answer, continued by another candidate.
//!
//! What it promises: only plain text of one choice is continued, never tool arguments, reasoning or structured output; the
//! end of what was said is held back, and a continuation is believed only when it begins with exactly that, so that no word
//! is lost, doubled or changed. Whatever does not fit ends the answer with the error that broke it. The asker's deadline,
//! bound of tokens and regions hold for all parts together, and each part is on the bill.
//!
//! Whoever has it off pays nothing here: such an answer never has a [`Resuming`].

mod script;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use penstock_domain::{Blame, Delta, Error, Request, Usage};
use penstock_routing::{Flight, Plan};

use super::attempt::{Attempt, Begun};
use super::queue::{Asker, Lobby};
use super::{Terms, is_nearly_over, now};
use crate::Flow;
use crate::doors::Pass;
use crate::journey::{Journey, Turn};
use script::{Script, is_plain};

/// How often one answer is continued at most.
const MOST: u32 = 3;

/// What is known of an answer that may have to be continued.
pub(crate) struct Resuming {
    flow: Arc<Flow>,
    plan: Plan,
    terms: Terms,
    script: Script,
    /// What goes out next.
    out: VecDeque<Delta>,
    /// What the parts that broke have used.
    spent: Usage,
    /// The call that is to continue, until its first content is here.
    next: Option<Next>,
    times: u32,
}

struct Next {
    answering: Pin<Box<dyn Future<Output = Result<Begun, Error>> + Send>>,
    flight: Flight,
    /// Why there has to be one.
    broke: Error,
}

/// An answer that goes on.
pub(crate) struct Continued {
    pub(crate) held: Vec<Delta>,
    pub(crate) rest: penstock_provider::Deltas,
    pub(crate) flight: Flight,
}

impl Resuming {
    pub(super) fn new(flow: Arc<Flow>, mut plan: Plan, terms: Terms) -> Self {
        // Somebody else goes on or nobody: whoever broke off is not waited for while the reader sees nothing.
        plan.repeat_no_more();
        Self {
            flow,
            plan,
            terms,
            script: Script::default(),
            out: VecDeque::new(),
            spent: Usage::default(),
            next: None,
            times: 0,
        }
    }

    /// The next delta that leaves.
    pub(crate) fn take(&mut self) -> Option<Delta> {
        self.out.pop_front()
    }

    /// Takes what the provider gave; what may leave of it waits in [`Resuming::take`].
    ///
    /// # Errors
    /// The error that broke the answer before, when what comes does not continue it.
    pub(crate) fn give(&mut self, delta: Delta) -> Result<(), Error> {
        let delta = match delta {
            // One answer, one bill.
            Delta::Usage(usage) if self.times > 0 => Delta::Usage(self.spent.plus(&usage)),
            Delta::Started(_) | Delta::Dropped(_) if self.times > 0 => return Ok(()),
            delta => delta,
        };
        self.script.give(delta, &mut self.out)
    }

    /// The provider's stream has come to its end: what was held back leaves.
    ///
    /// # Errors
    /// As [`Resuming::give`].
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.script.finish(&mut self.out)
    }

    /// What was held back leaves: nobody continues the answer.
    pub(crate) fn release(&mut self) {
        self.script.release(&mut self.out);
    }

    /// Whether nothing waits to leave.
    pub(crate) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The answer broke: asks somebody else to go on. `false` when nobody can.
    pub(crate) fn broke(&mut self, error: &Error, journey: &mut Journey) -> bool {
        let vendors = error.blame() == Blame::Vendor;
        if vendors && self.times < MOST && self.script.can_be_continued() {
            let book = |journey: &mut Journey| Some(journey.broke(error.code().name()));
            return self.begin((error, error), book, journey);
        }
        false
    }

    /// Begins a call that continues. `book` notes the call that broke, once it is clear that there is another.
    fn begin(
        &mut self,
        (broke, after): (&Error, &Error),
        book: impl FnOnce(&mut Journey) -> Option<Usage>,
        journey: &mut Journey,
    ) -> bool {
        let now = now();
        let asked = Arc::clone(self.terms.request());
        if is_nearly_over(asked.deadline, now) {
            return false;
        }
        let (pick, mut pass) = loop {
            let Some(pick) = self.plan.next(Some(after), now) else { return false };
            let asker = Asker { flow: &self.flow, journey, terms: &self.terms };
            // Nobody waits in the middle of an answer.
            if let Ok(pass) = Lobby::default().enter(asker, &mut self.plan, &pick) {
                break (pick, pass);
            }
        };
        let Some(attempt) = Attempt::of(&self.flow, &pick.candidate, &mut self.terms) else { return false };
        let Some(request) = self.script.request(attempt.request()) else { return false };
        if let Some(used) = book(journey) {
            self.spent = self.spent.plus(&used);
            self.times += 1;
        }
        let attempt = attempt.asking(request);
        let asking = pass.as_mut().and_then(Pass::asking);
        journey.attempt(Turn::Main, (&pick.candidate, "resume"), attempt.request());
        journey.inside(Turn::Main, pass);
        journey.consider(&self.plan);
        let answering = Box::pin(attempt.asked(asking));
        self.next = Some(Next { answering, flight: pick.flight, broke: broke.clone() });
        true
    }

    /// Waits for whoever continues. `None` when nobody is asked.
    ///
    /// # Errors
    /// The error that broke the answer, when nobody could continue it.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        journey: &mut Journey,
    ) -> Option<Poll<Result<Continued, Error>>> {
        loop {
            let next = self.next.as_mut()?;
            let Poll::Ready(result) = next.answering.as_mut().poll(context) else {
                return Some(Poll::Pending);
            };
            let Next { mut flight, broke, .. } = self.next.take()?;
            match result {
                Ok(Begun { held, rest }) => {
                    flight.first_content(now());
                    journey.resumed();
                    self.script.expect(broke);
                    return Some(Poll::Ready(Ok(Continued { held, rest, flight })));
                }
                Err(error) => {
                    flight.failed(&error, now());
                    journey.tried(Turn::Main, error.code().name());
                    if !self.begin((&broke, &error), |_| None, journey) {
                        return Some(Poll::Ready(Err(broke)));
                    }
                }
            }
        }
    }
}

/// Whether a request asks for an answer that could be continued.
pub(crate) fn may_resume(request: &Request) -> bool {
    request.stream && request.choices <= 1 && is_plain(request)
}
