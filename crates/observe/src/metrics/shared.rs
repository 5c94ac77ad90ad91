//! What gateways share: whether it can be reached, and what came of asking.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::OneOutcome;
use crate::names;

/// How a gateway stands with the others.
#[derive(Debug, Clone, Copy)]
pub struct SharedState {
    /// Whether what they share can be reached.
    pub up: bool,
    /// How many gateways live.
    pub gateways: u32,
    /// Requests since the start, by outcome.
    pub requests: [(&'static str, u64); 4],
}

#[derive(Default)]
pub(crate) struct SharedMetrics {
    up: Gauge,
    gateways: Gauge,
    requests: Family<OneOutcome, Counter>,
}

impl SharedMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(names::SHARED_UP, "1 while what gateways share can be reached", self.up.clone());
        registry.register(names::SHARED_GATEWAYS, "Gateways that live", self.gateways.clone());
        registry.register(
            names::SHARED_REQUESTS,
            "Requests for which the other gateways were to be asked",
            self.requests.clone(),
        );
    }

    pub(super) fn set(&self, state: &SharedState) {
        self.up.set(i64::from(state.up));
        self.gateways.set(i64::from(state.gateways));
        for (outcome, count) in state.requests {
            let counter = self.requests.get_or_create(&OneOutcome { outcome });
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }
}
