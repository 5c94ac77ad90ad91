//! An answer that another candidate may continue: what the provider gives passes through [`Resuming`] on its way out.

use std::task::{Context, Poll};

use penstock_domain::{Delta, Error};

use super::Settled;
use crate::stage::call::{Continued, Resuming, now};

/// What the provider has.
enum Step {
    Given(Delta),
    Broke(Error),
    Over,
}

impl Settled {
    /// The next delta that leaves. `resuming` was taken out and is put back unless the answer has ended.
    pub(super) fn poll_resuming(
        &mut self,
        mut resuming: Box<Resuming>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Delta>> {
        loop {
            if let Some(delta) = resuming.take() {
                self.journey.keep(&delta);
                self.resuming = Some(resuming);
                return Poll::Ready(Some(delta));
            }
            if let Some(polled) = resuming.poll(context, &mut self.journey) {
                match polled {
                    Poll::Pending => {
                        self.resuming = Some(resuming);
                        return self.poll_deadline(context);
                    }
                    Poll::Ready(Ok(Continued { held, rest, flight })) => {
                        (self.held, self.rest, self.flight) = (held.into_iter(), Some(rest), Some(flight));
                    }
                    Poll::Ready(Err(error)) => return self.give_up(resuming, error),
                }
                continue;
            }
            let Poll::Ready(step) = self.poll_source(context) else {
                self.resuming = Some(resuming);
                return self.poll_deadline(context);
            };
            match step {
                Step::Given(delta) => {
                    self.journey.learn(&delta);
                    if let Err(error) = resuming.give(delta) {
                        return self.leave(resuming, error);
                    }
                }
                Step::Broke(error) => {
                    self.rest = None;
                    if let Some(flight) = self.flight.take() {
                        flight.failed(&error, now());
                    }
                    if !resuming.broke(&error, &mut self.journey) {
                        return self.give_up(resuming, error);
                    }
                }
                Step::Over => match resuming.finish() {
                    Ok(()) if resuming.is_empty() => {
                        let outcome = self.journey.delivered();
                        self.end(outcome);
                        return Poll::Ready(None);
                    }
                    Ok(()) => {}
                    Err(error) => return self.leave(resuming, error),
                },
            }
        }
    }

    /// Whoever was to continue says something else and is left, which is no fault of its provider.
    fn leave(&mut self, resuming: Box<Resuming>, error: Error) -> Poll<Option<Delta>> {
        (self.flight, self.rest) = (None, None);
        self.journey.broke("cancelled");
        self.give_up(resuming, error)
    }

    /// What was held back leaves, then the error.
    fn give_up(&mut self, mut resuming: Box<Resuming>, error: Error) -> Poll<Option<Delta>> {
        resuming.release();
        let Some(delta) = resuming.take() else { return Poll::Ready(Some(self.fail(error))) };
        self.journey.keep(&delta);
        let mut left: Vec<Delta> = std::iter::from_fn(|| resuming.take()).collect();
        left.push(Delta::Failed(error));
        self.rest = Some(Box::pin(futures_util::stream::iter(left)));
        self.held = Vec::new().into_iter();
        Poll::Ready(Some(delta))
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        if let Some(delta) = self.held.next() {
            return Poll::Ready(Step::Given(delta));
        }
        let Some(rest) = self.rest.as_mut() else { return Poll::Ready(Step::Over) };
        self.journey.polling = true;
        let polled = rest.as_mut().poll_next(context);
        self.journey.polling = false;
        polled.map(|delta| match delta {
            Some(Delta::Failed(error)) => Step::Broke(error),
            Some(delta) => Step::Given(delta),
            None => {
                self.rest = None;
                Step::Over
            }
        })
    }
}
