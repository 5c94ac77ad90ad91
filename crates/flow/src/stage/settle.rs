//! The end, however it comes: the permit goes back, the record is sent.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use penstock_admission::Permit;
use penstock_domain::{Code, Delta, Error, Stage};
use penstock_observe::Outcome;
use penstock_provider::Deltas;
use tokio::time::Sleep;

use super::admit::Admitted;
use super::call::Live;
use crate::Answer;
use crate::journey::Journey;

/// An admitted request with a live answer: what is left is to see it through.
pub(crate) struct Settling {
    permit: Permit,
    live: Live,
}

/// Joins the permit and the live answer.
pub(crate) fn settle(admitted: Admitted, live: Live) -> Settling {
    Settling { permit: admitted.permit, live }
}

impl Settling {
    /// The answer whose stream settles when it ends or is dropped.
    pub(crate) fn answer(self, mut journey: Journey) -> Answer {
        let bill = journey.answering();
        let head = journey.head();
        let Live { deadline, held, rest } = self.live;
        let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        let settled =
            Settled { held: held.into_iter(), rest: Some(rest), deadline, _permit: self.permit, journey };
        Answer { head, deltas: Box::pin(settled), bill }
    }
}

/// The answer's stream. Dropped early, the journey's own drop records the cancellation, the permit's returns the slot,
/// and the provider's stream cancels the call.
struct Settled {
    held: std::vec::IntoIter<Delta>,
    rest: Option<Deltas>,
    deadline: Option<Pin<Box<Sleep>>>,
    _permit: Permit,
    journey: Journey,
}

impl Settled {
    fn end(&mut self, outcome: Outcome) {
        self.rest = None;
        self.journey.end(outcome);
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
        if let Some(delta) = this.held.next() {
            if this.held.len() == 0 {
                // Its memory would stay for as long as the answer streams.
                this.held = Vec::new().into_iter();
            }
            this.journey.see(&delta);
            return Poll::Ready(Some(delta));
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
            Poll::Pending => {
                let Some(deadline) = this.deadline.as_mut() else { return Poll::Pending };
                if deadline.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                let say = "the deadline of the request passed before the answer was complete";
                Poll::Ready(Some(this.fail(Error::new(Code::DeadlineExceeded, say))))
            }
        }
    }
}
