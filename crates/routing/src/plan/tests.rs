//! Who is asked next, and who is not.

mod again;
mod away;
mod choice;
mod failover;

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_domain::{Code, Error, Retry};

use crate::budget::Extra;
use crate::{Ask, Catalogue, Deployment, Fleet, Model, Pick, Plan, Policy, TargetReport, Why};

/// A catalogue with its fleet and a time that the test moves.
struct Rig {
    catalogue: Catalogue,
    fleet: Fleet,
    now: Instant,
}

const SECOND: Duration = Duration::from_secs(1);

/// A deployment at a provider that names the model `m`.
fn at(provider: &str) -> Deployment {
    Deployment::new(provider, Some("m".into()))
}

fn model(name: &str, deployments: impl IntoIterator<Item = Deployment>) -> Model {
    Model { deployments: deployments.into_iter().collect(), ..Model::single(name, "", None) }
}

fn error(code: Code) -> Error {
    Error::new(code, "test")
}

fn cool(seconds: u64) -> Error {
    error(Code::UpstreamRateLimited).with_retry(Retry::After(SECOND * seconds as u32))
}

impl Rig {
    fn new(models: impl IntoIterator<Item = Model>) -> Self {
        Self { catalogue: Catalogue::new(models), fleet: Fleet::seeded(1), now: Instant::now() }
    }

    fn plan(&self, model: &str) -> Plan {
        self.plan_for(model, 100, None)
    }

    fn plan_for(&self, model: &str, input: u64, prefix: Option<u64>) -> Plan {
        let asked: Arc<str> = model.into();
        let model = self.catalogue.find(model).unwrap();
        let ask = Ask {
            model,
            asked: &asked,
            input,
            output: Some(100),
            bounds: None,
            residency: None,
            prefix,
            now: self.now,
        };
        self.catalogue.plan(&self.fleet, ask).unwrap()
    }

    /// Plays a request whose attempts all end with these errors in turn, and then well: who was asked, as `provider/credential`.
    fn play(&self, plan: &mut Plan, errors: &[Error]) -> Vec<String> {
        let mut asked = Vec::new();
        let mut after = None;
        while let Some(pick) = plan.next(after, self.now) {
            asked.push(name(&pick));
            after = errors.get(asked.len() - 1);
            match after {
                Some(error) => pick.flight.failed(error, self.now),
                None => {
                    pick.flight.complete(100, self.now);
                    break;
                }
            }
        }
        asked
    }

    /// Lets a model's only target fail until it is ejected.
    fn eject(&self, provider: &str, upstream: &str) {
        let target = self.fleet.target(&provider.into(), 0, &upstream.into());
        for _ in 0..5 {
            let size = crate::target::Size { input: 100, whole: 200 };
            let flight = crate::Flight::begin(Arc::clone(&target), size, Default::default(), self.now);
            flight.failed(&error(Code::UpstreamError), self.now);
        }
        assert_eq!(self.report(provider).state, "ejected");
    }

    fn report(&self, provider: &str) -> TargetReport {
        let all = self.fleet.report(self.now);
        all.into_iter().find(|report| *report.provider == *provider).unwrap()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

fn name(pick: &Pick) -> String {
    let target = &pick.candidate.target;
    format!("{}/{}", target.provider, target.credential)
}
