//! What is counted of calls: attempts with their reasons, failovers, hedges, resumed answers, and the state of targets.
//!
//! Labels stay bounded: providers and targets come from the configuration, reasons and codes from closed sets, and of
//! targets at most [`MOST_TARGETS`] are shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{OneOutcome, OneProvider};
use crate::{Attempt, Record, names};

/// Most targets of which the state is shown: a model that passes names on can have any number.
const MOST_TARGETS: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    provider: String,
    why: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    provider: String,
    credential: u32,
    model: String,
    state: &'static str,
}

/// What a scrape tells of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetState {
    /// The provider's name in the configuration.
    pub provider: Arc<str>,
    /// Which of the provider's credentials, from 0.
    pub credential: u32,
    /// The model as that provider names it.
    pub model: Arc<str>,
    /// One of a closed set of words.
    pub state: &'static str,
}

/// A counter that somebody else keeps: only what it has grown by is added.
type Grown = Counter<u64, AtomicU64>;

#[derive(Default)]
pub(super) struct Calls {
    attempts: Family<Called, Counter>,
    failovers: Family<OneProvider, Counter>,
    hedges: Family<OneOutcome, Counter>,
    resumes: Family<OneOutcome, Counter>,
    states: Family<InState, Gauge>,
    ejections: Family<OneProvider, Grown>,
    /// One scrape at a time.
    scrape: Mutex<()>,
}

impl Calls {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            names::ATTEMPTS,
            "Calls made to providers, by reason and end",
            self.attempts.clone(),
        );
        registry.register(names::FAILOVERS, "Calls that another candidate took over", self.failovers.clone());
        registry.register(names::HEDGES, "Second calls beside a slow one", self.hedges.clone());
        registry.register(names::RESUMES, "Broken answers to be continued", self.resumes.clone());
        registry.register(names::TARGET_STATE, "1 for the state a target is in", self.states.clone());
        registry.register(names::EJECTIONS, "Targets ejected", self.ejections.clone());
    }

    /// The counter of calls that went well at once: nearly all of them.
    pub(super) fn plain(&self, provider: &str) -> Counter {
        let label = Called { provider: provider.to_owned(), why: "first", code: "ok" };
        self.attempts.get_or_create_owned(&label)
    }

    /// Counts the calls of a record; `plain` is the counter of its usual one.
    pub(super) fn count(&self, record: &Record, plain: &Counter) {
        let mut before: Option<&Attempt> = None;
        for one in &record.tries {
            let usual = one.why == "first" && one.code == "ok";
            if usual && record.provider.as_ref() == Some(&one.provider) {
                plain.inc();
            } else {
                let label = Called { provider: one.provider.to_string(), why: one.why, code: one.code };
                self.attempts.get_or_create(&label).inc();
            }
            match (one.why, before) {
                ("failover", Some(failed)) => {
                    let label = OneProvider { provider: failed.provider.to_string() };
                    self.failovers.get_or_create(&label).inc();
                }
                ("hedge", _) => {
                    let outcome = match one.code {
                        "ok" => "won",
                        "cancelled" => "lost",
                        _ => "failed",
                    };
                    self.hedges.get_or_create(&OneOutcome { outcome }).inc();
                }
                ("resume", _) => {
                    let outcome = if one.code == "ok" { "continued" } else { "failed" };
                    self.resumes.get_or_create(&OneOutcome { outcome }).inc();
                }
                _ => {}
            }
            before = Some(one);
        }
    }

    /// Says what state targets are in; those that are not named any more are forgotten.
    pub(super) fn targets(&self, targets: impl Iterator<Item = TargetState>) {
        let _alone = self.scrape.lock();
        self.states.clear();
        for TargetState { provider, credential, model, state } in targets.take(MOST_TARGETS) {
            let label =
                InState { provider: provider.to_string(), credential, model: model.to_string(), state };
            self.states.get_or_create(&label).set(1);
        }
    }

    /// Says how often targets of a provider have been ejected so far.
    pub(super) fn ejected(&self, provider: &str, total: u64) {
        let _alone = self.scrape.lock();
        let counter = self.ejections.get_or_create_owned(&OneProvider { provider: provider.to_owned() });
        let shown = counter.inner().load(Ordering::Relaxed);
        counter.inc_by(total.saturating_sub(shown));
    }
}
