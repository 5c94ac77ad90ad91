//! Where a model of the catalogue can be served: its own deployments and those of its fall-backs, worked out once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use crate::budget::Budgets;
use crate::{Deployment, Fleet, Model, Target};

/// So many models may stand in for one another.
const MODELS: usize = 16;

/// The lanes of one model.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// In the order of preference.
    pub(crate) lanes: Box<[Lane]>,
    budgets: OnceLock<Arc<Budgets>>,
}

/// One deployment.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The model that it belongs to.
    pub(crate) model: Arc<Model>,
    at: usize,
    /// How many models are preferred to it.
    pub(crate) rank: u16,
    targets: OnceLock<Box<[Arc<Target>]>>,
}

impl Lanes {
    /// The deployments of a model and then of its fall-backs in their order, then of the fall-backs of those. No model comes twice.
    pub(crate) fn of(model: &Arc<Model>, exact: &HashMap<Arc<str>, Arc<Model>>) -> Self {
        let mut models = vec![Arc::clone(model)];
        let mut seen: HashSet<Arc<str>> = HashSet::from([Arc::clone(&model.name)]);
        let mut next = 0;
        while let Some(model) = models.get(next).cloned() {
            next += 1;
            let fallbacks = model.fallbacks.iter().filter_map(|name| exact.get(name));
            for fallback in fallbacks {
                if models.len() < MODELS && seen.insert(Arc::clone(&fallback.name)) {
                    models.push(Arc::clone(fallback));
                }
            }
        }
        let lanes = models.iter().zip(0..).flat_map(|(model, rank)| {
            (0..model.deployments.len()).map(move |at| Lane {
                model: Arc::clone(model),
                at,
                rank,
                targets: OnceLock::new(),
            })
        });
        Self { lanes: lanes.collect(), budgets: OnceLock::new() }
    }

    /// What requests of this model may spend.
    pub(crate) fn budgets(&self, name: &Arc<str>, fleet: &Fleet) -> &Arc<Budgets> {
        self.budgets.get_or_init(|| fleet.budgets(name))
    }
}

impl Lane {
    pub(crate) fn deployment(&self) -> &Deployment {
        &self.model.deployments[self.at]
    }

    /// Hands each target over, one for each credential. Those of a fixed name are looked up once: a catalogue serves one fleet.
    pub(crate) fn targets(&self, fleet: &Fleet, asked: &Arc<str>, mut take: impl FnMut(Arc<Target>)) {
        let Deployment { provider, credentials, upstream, .. } = self.deployment();
        match upstream {
            Some(upstream) => {
                let find = || (0..*credentials).map(|n| fleet.target(provider, n, upstream)).collect();
                self.targets.get_or_init(find).iter().map(Arc::clone).for_each(take);
            }
            None => (0..*credentials).for_each(|n| take(fleet.target(provider, n, asked))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fallbacks_come_nearest_first_and_circles_end() {
        let model = |name: &str, fallbacks: &[&str]| {
            let fallbacks = fallbacks.iter().map(|name| Arc::from(*name)).collect();
            Arc::new(Model { fallbacks, ..Model::single(name, name, Some("m".into())) })
        };
        let models = [
            model("a", &["b", "c", "a", "nobody"]),
            model("b", &["d", "a"]),
            model("c", &["b"]),
            model("d", &["a", "e"]),
            model("e", &[]),
        ];
        let exact = models.iter().map(|model| (Arc::clone(&model.name), Arc::clone(model))).collect();
        let lanes = Lanes::of(&models[0], &exact);
        let order: Vec<_> = lanes.lanes.iter().map(|lane| (&*lane.model.name, lane.rank)).collect();
        assert_eq!(order, [("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4)]);
    }
}
