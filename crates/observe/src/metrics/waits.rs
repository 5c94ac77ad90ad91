//! Waiting for providers: how many, and how long.

use std::sync::Arc;
use std::time::Duration;

use penstock_domain::Priority;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::names;

/// How many requests of a class wait for a provider.
#[derive(Debug, Clone)]
pub struct QueueState {
    /// The provider's name.
    pub provider: Arc<str>,
    /// How urgent they are.
    pub class: Priority,
    /// How many.
    pub waiting: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Line {
    provider: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waited {
    class: &'static str,
    outcome: &'static str,
}

pub(crate) struct Waits {
    waiting: Family<Line, Gauge>,
    waited: Family<Waited, Histogram, fn() -> Histogram>,
}

impl Default for Waits {
    fn default() -> Self {
        // 1 ms, doubling, to 65 s.
        let seconds: fn() -> Histogram =
            || Histogram::new((0..17).map(|power| 0.001 * f64::from(1 << power)));
        Self { waiting: Family::default(), waited: Family::new_with_constructor(seconds) }
    }
}

impl Waits {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            names::QUEUE_WAITING,
            "Requests that wait for a provider that has its hands full",
            self.waiting.clone(),
        );
        registry.register_with_unit(
            names::QUEUE_WAIT.trim_end_matches("_seconds"),
            "Seconds that requests waited for a provider",
            Unit::Seconds,
            self.waited.clone(),
        );
    }

    pub(super) fn queues(&self, queues: impl Iterator<Item = QueueState>) {
        // A provider that is gone is gone here too.
        self.waiting.clear();
        for QueueState { provider, class, waiting } in queues {
            let line = Line { provider: provider.to_string(), class: class.name() };
            self.waiting.get_or_create(&line).set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn waited(&self, class: Priority, wait: Duration, served: bool) {
        let outcome = if served { "served" } else { "refused" };
        self.waited.get_or_create(&Waited { class: class.name(), outcome }).observe(wait.as_secs_f64());
    }
}
