//! How a plan comes about: candidates in, doubles and what surely does not fit out.

use std::sync::Arc;

use crate::budget::Budgets;
use crate::lanes::Lane;
use crate::plan::Entry;
use crate::random::Random;
use crate::target::Size;
use crate::{Ask, Candidate, Considered, Deployment, Plan, Prices, Target, Unroutable};

/// What an answer is taken to be when its request names no bound, and the most that is expected of one that names a large one.
const ANSWER: (u64, u64) = (500, 4_000);
/// A prompt is surely too long when two thirds of its estimate are: estimates are off by a third at times.
const SURELY: (u64, u64) = (2, 3);
/// A target that is much dearer than the cheapest counts as so much slower at most: price is a weight, not a rule.
const DEAREST: f64 = 4.0;

/// A plan in the making.
pub(crate) struct Draft<'a> {
    ask: &'a Ask<'a>,
    plan: Plan,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(ask: &'a Ask<'a>, budgets: Arc<Budgets>, random: Random, lanes: usize) -> Self {
        let output = ask.output.map_or(ANSWER.0, |most| u64::from(most).min(ANSWER.1));
        let size = Size { input: ask.input, whole: ask.input.saturating_add(output) };
        let plan = Plan {
            entries: Vec::with_capacity(lanes),
            outside: Vec::new(),
            budgets: Some(budgets),
            size,
            prefix: ask.prefix.filter(|_| ask.model.policy.affinity),
            policy: ask.model.policy,
            random,
            now: Some(ask.now),
            current: None,
            begun: None,
            attempts: 0,
            larger_than: None,
            denied: None,
            hedged: false,
            deadline: None,
            repeats: 0,
            given_up: false,
            before: (None, None),
            credit: false,
        };
        Self { ask, plan }
    }

    /// A deployment that may not be used.
    pub(crate) fn outside(&mut self, deployment: &Deployment, asked: &Arc<str>) {
        let model = deployment.upstream.as_ref().unwrap_or(asked);
        self.plan.outside.push(Considered {
            provider: Arc::clone(&deployment.provider),
            credential: 0,
            model: Arc::clone(model),
            verdict: "outside_region",
        });
    }

    /// A deployment's target.
    pub(crate) fn add(&mut self, lane: &Lane, target: Arc<Target>, prices: Option<Arc<Prices>>) {
        let entries = &mut self.plan.entries;
        if entries.iter().any(|entry| Arc::ptr_eq(&entry.candidate.target, &target)) {
            return;
        }
        let deployment = lane.deployment();
        entries.push(Entry {
            rank: lane.rank,
            weight: f64::from(deployment.weight.max(1)),
            price: 1.0,
            window: deployment.context_window,
            internal: deployment.internal,
            // Each credential has its part.
            provisioned: deployment
                .provisioned
                .map(|tokens| tokens / u64::from(deployment.credentials.max(1))),
            tries: 0,
            barred: false,
            small: false,
            busy: None,
            candidate: Candidate { serves: Some(Arc::clone(&lane.model)), target, prices },
        });
    }

    /// The plan.
    ///
    /// # Errors
    /// Why there is nobody to ask.
    pub(crate) fn finish(mut self) -> Result<Plan, Unroutable> {
        match self.plan.entries.len() {
            0 if self.plan.outside.is_empty() => return Err(Unroutable::Nothing),
            0 => return Err(Unroutable::Bounds),
            1 => {}
            _ => {
                self.measure();
                self.price();
            }
        }
        if let Some(budgets) = &self.plan.budgets {
            budgets.begin();
        }
        Ok(self.plan)
    }

    /// Leaves out whose window is surely too small, unless all are.
    fn measure(&mut self) {
        let least = self.ask.input.saturating_mul(SURELY.0) / SURELY.1;
        let fits = |entry: &Entry| entry.window.is_none_or(|window| u64::from(window) >= least);
        if self.plan.entries.iter().any(fits) {
            self.plan.entries.iter_mut().for_each(|entry| entry.small = !fits(entry));
        }
    }

    /// How dear each is beside the cheapest; a price that nobody knows counts as none at all.
    fn price(&mut self) {
        let Size { input, whole } = self.plan.size;
        let estimate = |entry: &Entry| {
            let rates = &entry.candidate.prices.as_ref()?.latest()?.rates;
            let output = rates.output.map_or(0, |price| price.picos());
            Some(rates.input.picos() as f64 * input as f64 + output as f64 * (whole - input) as f64)
        };
        let all: Vec<_> = self.plan.entries.iter().map(estimate).collect();
        let Some(least) = all.iter().flatten().copied().min_by(f64::total_cmp) else { return };
        for (entry, price) in self.plan.entries.iter_mut().zip(all) {
            let Some(price) = price.filter(|price| *price > least) else { continue };
            entry.price = (price / least).min(DEAREST);
        }
    }
}
