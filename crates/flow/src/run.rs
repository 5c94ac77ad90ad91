//! The path, in the order in which it happens.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use penstock_domain::{Credential, Error, Request, RequestId, Stage, Task};
use penstock_identity::{Caller, Scope};
use penstock_observe::Outcome;

use crate::journey::Journey;
use crate::stage::{Admitted, Routed, admit, authenticate, call, confirm, may_ask, prepare, route, settle};
use crate::{Answer, Flow, Refusal};

/// What decode knew of a request that it had to refuse.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The request's id.
    pub id: RequestId,
    /// What the route asks for, if the route was found.
    pub task: Option<Task>,
    /// When it arrived.
    pub arrived: Option<Instant>,
}

impl Flow {
    /// Takes one request from credential to answer. The future resolves when the first content is in hand; the rest
    /// comes through the answer's stream.
    ///
    /// What needs no waiting is done at once, before the future is polled: so the future, of which there is one per open
    /// request, has room neither for the request nor for the credential.
    ///
    /// # Errors
    /// A [`Refusal`] with the reason and how far the request came; it has been recorded.
    pub fn run(
        self: &Arc<Self>,
        request: Request,
        credential: Credential,
        scope: Scope,
    ) -> impl Future<Output = Result<Answer, Refusal>> + Send + use<> {
        let flow = Arc::clone(self);
        let mut journey = Journey::begin(Arc::clone(&flow.parts.recorder), &request);
        let routed = flow.path(&mut journey, request, &credential, scope);
        async move {
            let outcome = match routed {
                Ok((admitted, routed)) => match confirm(&admitted, &mut journey).await {
                    Ok(confirmed) => {
                        let live = call(&flow, &mut journey, routed).await;
                        live.map(|live| settle(confirmed, live)).map_err(|error| error.at(Stage::Call))
                    }
                    Err(error) => Err(error.at(Stage::Admit)),
                },
                Err(error) => Err(error),
            };
            match outcome {
                Ok(settling) => Ok(settling.answer(journey)),
                Err(error) => {
                    let head = journey.refused();
                    journey.end(Outcome::Refused(error.clone()));
                    Err(Refusal { error, head })
                }
            }
        }
    }

    /// The stages before the call.
    fn path(
        &self,
        journey: &mut Journey,
        request: Request,
        credential: &Credential,
        scope: Scope,
    ) -> Result<(Admitted, Routed), Error> {
        journey.enter(Stage::Authenticate);
        let caller =
            authenticate(self, journey, credential).map_err(|error| error.at(Stage::Authenticate))?;
        journey.capture(&self.parts.captures, &request);
        journey.enter(Stage::Admit);
        let admitted =
            admit(self, journey, &caller, scope, &request).map_err(|error| error.at(Stage::Admit))?;
        journey.enter(Stage::Prepare);
        let prepared = prepare(self, journey, &caller, request).map_err(|error| error.at(Stage::Prepare))?;
        journey.enter(Stage::Route);
        let routed = route(self, journey, &caller, prepared).map_err(|error| error.at(Stage::Route))?;
        journey.enter(Stage::Call);
        Ok((admitted, routed))
    }

    /// Proves who asks, and that they may ask this, for whoever looks something up before the path.
    ///
    /// # Errors
    /// What a run would refuse the asker with; nothing is recorded.
    pub fn may_ask(
        &self,
        request: &Request,
        credential: &Credential,
        scope: Scope,
    ) -> Result<Arc<Caller>, Error> {
        let caller = self.parts.keys.authenticate(credential, SystemTime::now())?;
        may_ask(self, &caller, scope, request).map(|()| caller)
    }

    /// Ends a request that is not run: its answer is there already, or there is `trouble` with it. The asker is proved and
    /// judged by the stages of a run; nothing is taken from a limit, nobody is called, nothing is charged. Makes the record.
    ///
    /// # Errors
    /// A [`Refusal`] with the trouble, or with what a run would refuse the asker with.
    pub fn replay(
        &self,
        request: &Request,
        credential: &Credential,
        scope: Scope,
        trouble: Option<Error>,
    ) -> Result<(), Box<Refusal>> {
        let mut journey = Journey::begin(Arc::clone(&self.parts.recorder), request);
        journey.enter(Stage::Authenticate);
        let judged = authenticate(self, &mut journey, credential)
            .map_err(|error| error.at(Stage::Authenticate))
            .and_then(|caller| {
                journey.enter(Stage::Admit);
                may_ask(self, &caller, scope, request).map_err(|error| error.at(Stage::Admit))
            });
        let model = self.parts.catalogue.find(&request.model).filter(|_| request.body.passage().is_none());
        journey.model = model.map(|model| Arc::clone(&model.name));
        match judged.and(trouble.map_or(Ok(()), Err)) {
            Ok(()) => {
                journey.end(Outcome::Replayed);
                Ok(())
            }
            Err(error) => {
                let head = journey.refused();
                journey.end(Outcome::Refused(error.clone()));
                Err(Box::new(Refusal { error, head }))
            }
        }
    }

    /// Records a request that decode refused, so that it counts like any other.
    pub fn refuse(&self, seen: Seen, error: &Error) {
        let mut journey = Journey::with(Arc::clone(&self.parts.recorder), seen.id, seen.task, seen.arrived);
        journey.end(Outcome::Refused(error.clone()));
    }
}
