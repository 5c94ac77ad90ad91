//! Budgets, the ledger, and who was told of them.
//!
//! Labels stay bounded: of budgets those of keys are left out, and of the others at most [`MOST_BUDGETS`] are shown.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::OneOutcome;
use crate::names;

/// Most budgets that are shown.
const MOST_BUDGETS: usize = 1_000;

/// One budget as it stands.
#[derive(Debug, Clone)]
pub struct BudgetState {
    /// Whose: `team`, `organisation`, ….
    pub level: &'static str,
    /// The account's name.
    pub name: Arc<str>,
    /// What is spent of it, in USD.
    pub spent: f64,
    /// All of it, in USD.
    pub limit: f64,
}

/// What a scrape tells of money.
#[derive(Debug, Clone, Default)]
pub struct MoneyState {
    /// Budgets of teams, models and the organisation.
    pub budgets: Vec<BudgetState>,
    /// Ends of requests that wait to be written to the ledger.
    pub waiting: u64,
    /// Reservations that were given back whole, since the start.
    pub refunds: u64,
    /// Reservations that a process had left open and that were settled as estimated at the start.
    pub orphans: u64,
    /// Attempts to deliver events, by outcome, since the start.
    pub deliveries: [(&'static str, u64); 4],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OneAccount {
    level: &'static str,
    name: String,
}

type Dollars = Gauge<f64, std::sync::atomic::AtomicU64>;

#[derive(Default)]
pub(crate) struct Money {
    spent: Family<OneAccount, Dollars>,
    limit: Family<OneAccount, Dollars>,
    waiting: Gauge,
    refunds: Counter,
    orphans: Counter,
    deliveries: Family<OneOutcome, Counter>,
}

impl Money {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(names::BUDGET_SPENT, "What is spent of a budget in USD", self.spent.clone());
        registry.register(names::BUDGET_LIMIT, "A budget in USD", self.limit.clone());
        registry.register(
            names::LEDGER_WAITING,
            "Ends of requests that the ledger does not have yet",
            self.waiting.clone(),
        );
        registry.register(names::LEDGER_REFUNDS, "Reservations given back whole", self.refunds.clone());
        registry.register(
            names::LEDGER_ORPHANS,
            "Reservations settled as estimated at the start",
            self.orphans.clone(),
        );
        registry.register(names::WEBHOOKS, "Deliveries of events", self.deliveries.clone());
    }

    pub(super) fn set(&self, state: &MoneyState) {
        // A budget that is gone must not be shown for ever.
        self.spent.clear();
        self.limit.clear();
        for budget in state.budgets.iter().take(MOST_BUDGETS) {
            let account = OneAccount { level: budget.level, name: budget.name.to_string() };
            self.spent.get_or_create(&account).set(budget.spent);
            self.limit.get_or_create(&account).set(budget.limit);
        }
        self.waiting.set(i64::try_from(state.waiting).unwrap_or(i64::MAX));
        grow(&self.refunds, state.refunds);
        grow(&self.orphans, state.orphans);
        for (outcome, count) in state.deliveries {
            grow(&self.deliveries.get_or_create(&OneOutcome { outcome }), count);
        }
    }
}

/// A counter that somebody else keeps.
fn grow(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use crate::Metrics;

    use super::*;

    #[test]
    fn a_scrape_shows_the_budgets_of_now_and_counts_once() {
        let metrics = Metrics::new("1.2.3");
        let mut state = MoneyState { refunds: 3, deliveries: [("delivered", 2), ("failed", 1), ("dead", 0), ("dropped", 0)], ..MoneyState::default() };
        state.budgets.push(BudgetState { level: "team", name: "support".into(), spent: 1.5, limit: 5.0 });
        metrics.money(&state);
        metrics.money(&state);
        let text = metrics.text();
        for line in [
            "penstock_budget_spent_usd{level=\"team\",name=\"support\"} 1.5",
            "penstock_budget_limit_usd{level=\"team\",name=\"support\"} 5.0",
            "penstock_ledger_refunds_total 3",
            "penstock_webhook_deliveries_total{outcome=\"delivered\"} 2",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        metrics.money(&MoneyState::default());
        assert!(!metrics.text().contains("support"));
    }
}
