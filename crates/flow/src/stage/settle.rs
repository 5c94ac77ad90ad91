//! The end, however it comes: the journey settles what was held and sends the record.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use penstock_domain::{Code, Delta, Error, Stage};
use penstock_identity::KeySource;
use penstock_observe::Outcome;
use penstock_provider::Deltas;
use penstock_routing::Flight;
use tokio::time::Sleep;

mod resumable;

use super::admit::Confirmed;
use super::call::{Live, Resuming, now};
use crate::Answer;
use crate::journey::Journey;

/// How long a silent stream may go on after its key was revoked; one that speaks ends at its next piece.
const LOOK: Duration = Duration::from_secs(2);

/// An admitted request with a live answer: what is left is to see it through.
pub(crate) struct Settling {
    live: Live,
}

/// Takes the live answer of a request that was admitted.
pub(crate) fn settle(_: Confirmed, live: Live) -> Settling {
    Settling { live }
}

impl Settling {
    /// The answer whose stream settles when it ends or is dropped.
    pub(crate) fn answer(self, mut journey: Journey) -> Answer {
        let bill = journey.answering();
        let head = journey.head();
        let Live { deadline, held, rest, flight, resuming } = self.live;
        let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        let settled = Settled {
            held: held.into_iter(),
            rest: Some(rest),
            deadline,
            look: None,
            flight: Some(flight),
            resuming,
            journey,
        };
        Answer { head, deltas: Box::pin(settled), bill }
    }
}

/// The answer's stream. Dropped early, the journey's own drop records the cancellation and settles what was held, and the
/// provider's stream cancels the call.
struct Settled {
    held: std::vec::IntoIter<Delta>,
    rest: Option<Deltas>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// When a silent stream next looks whether its key was revoked.
    look: Option<Pin<Box<Sleep>>>,
    /// Dropped, it was cancelled, which says nothing about the target.
    flight: Option<Flight>,
    resuming: Option<Box<Resuming>>,
    journey: Journey,
}

impl Settled {
    fn end(&mut self, outcome: Outcome) {
        (self.rest, self.resuming) = (None, None);
        let (flight, fault) = (self.flight.take(), outcome.error().cloned());
        let tokens = self.journey.end(outcome);
        match (flight, fault) {
            (Some(flight), Some(error)) => flight.failed(&error, now()),
            (Some(flight), None) => flight.complete(tokens, now()),
            (None, _) => {}
        }
    }

    fn fail(&mut self, error: Error) -> Delta {
        let error = error.at(Stage::Reply);
        self.end(Outcome::Failed(error.clone()));
        Delta::Failed(error)
    }
}

impl Stream for Settled {
    type Item = Delta;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delta>> {
        let this = self.get_mut();
        if let Some(error) = this.unleashed() {
            return Poll::Ready(Some(this.fail(error)));
        }
        if let Some(resuming) = this.resuming.take() {
            return this.poll_resuming(resuming, context);
        }
        if let Some(delta) = this.held.next() {
            if this.held.len() == 0 {
                // Its memory would stay for as long as the answer streams.
                this.held = Vec::new().into_iter();
            }
            this.journey.see(&delta);
            return Poll::Ready(Some(delta));
        }
        if let Some(error) = this.journey.overdrawn() {
            return Poll::Ready(Some(this.fail(error)));
        }
        let Some(rest) = this.rest.as_mut() else { return Poll::Ready(None) };
        this.journey.polling = true;
        let polled = rest.as_mut().poll_next(context);
        this.journey.polling = false;
        match polled {
            Poll::Ready(Some(Delta::Failed(error))) => Poll::Ready(Some(this.fail(error))),
            Poll::Ready(Some(delta)) => {
                this.journey.see(&delta);
                Poll::Ready(Some(delta))
            }
            Poll::Ready(None) => {
                let outcome = this.journey.delivered();
                this.end(outcome);
                Poll::Ready(None)
            }
            Poll::Pending => this.poll_deadline(context),
        }
    }
}

impl Settled {
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<Option<Delta>> {
        let Some(deadline) = self.deadline.as_mut() else { return self.poll_leash(context) };
        if deadline.as_mut().poll(context).is_pending() {
            return self.poll_leash(context);
        }
        let say = "the deadline of the request passed before the answer was complete";
        Poll::Ready(Some(self.fail(Error::new(Code::DeadlineExceeded, say))))
    }

    /// Why the answer ends although nothing is wrong with it: its key was revoked. That is no fault of the target.
    fn unleashed(&mut self) -> Option<Error> {
        let open = self.rest.is_some() || self.resuming.is_some();
        let source = self.journey.unleashed().filter(|_| open)?;
        (self.flight, self.resuming) = (None, None);
        let (code, what) = match source {
            KeySource::Token => (Code::InvalidToken, "access token"),
            KeySource::File | KeySource::Database => (Code::InvalidApiKey, "API key"),
        };
        Some(Error::new(code, format!("this {what} was revoked while its answer was on the way")))
    }

    /// A silent stream looks up every now and then whether its key still holds.
    fn poll_leash(&mut self, context: &mut Context<'_>) -> Poll<Option<Delta>> {
        loop {
            let look = self.look.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK)));
            if look.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.look = None;
            if let Some(error) = self.unleashed() {
                return Poll::Ready(Some(self.fail(error)));
            }
        }
    }
}
