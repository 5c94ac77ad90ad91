//! One place that a call can go to, and everything that is known of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::TargetReport;
use crate::account::Account;
use crate::away::{Cooling, Retired};
use crate::latency::Latency;
use crate::limit::Limit;
use crate::provision::Provision;
use crate::random::Random;
use crate::standing::{Standing, Use};

/// One place that a call can go to, with one credential, for one model.
#[derive(Debug)]
pub struct Target {
    /// The provider's name.
    pub provider: Arc<str>,
    /// Which of the provider's credentials, from 0.
    pub credential: u32,
    /// The model as that provider names it.
    pub model: Arc<str>,
    /// A digest of the three.
    pub(crate) digest: u64,
    pub(crate) account: Arc<Account>,
    state: Mutex<State>,
}

/// What is known of a target.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) standing: Standing,
    pub(crate) cooling: Cooling,
    pub(crate) retired: Option<Retired>,
    pub(crate) latency: Latency,
    pub(crate) limit: Limit,
    pub(crate) provision: Option<Provision>,
    pub(crate) in_flight: u32,
    /// Those of them that have no content yet.
    pub(crate) waiting: u32,
    /// Tokens of the attempts under way, prompts and expected answers.
    pub(crate) tokens: u64,
    pub(crate) used: Option<Instant>,
    pub(crate) random: Random,
}

/// Whether a target may be asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Gate {
    /// It may, for this part of its usual share.
    Open(f64),
    /// It has as much work as it takes.
    Saturated,
    /// It is sick.
    Ejected { due: bool, until: Instant },
    /// It was asked too often; `stated` when the vendor said until when.
    Cooling { until: Instant, stated: bool },
    /// Its credential is of no use.
    Retired { due: bool, until: Instant },
}

impl Gate {
    /// The word for explanations.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Gate::Open(_) => "worse",
            Gate::Saturated => "saturated",
            Gate::Ejected { .. } => "ejected",
            Gate::Cooling { .. } => "cooling",
            Gate::Retired { .. } => "retired",
        }
    }
}

/// What a choice needs to know of a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) gate: Gate,
    /// Seconds until its first token, where anything is known.
    pub(crate) expected: Option<f64>,
    /// How much slower it is for what is under way.
    pub(crate) load: f64,
    /// Whether its provisioned tokens suffice.
    pub(crate) prepaid: bool,
    pub(crate) error_rate: f64,
}

/// The size of a request, as far as it is known before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) input: u64,
    /// Prompt and answer.
    pub(crate) whole: u64,
}

impl Target {
    pub(crate) fn new(
        name: (Arc<str>, u32, Arc<str>),
        digest: u64,
        account: Arc<Account>,
        random: Random,
    ) -> Self {
        let state = State {
            standing: Standing::new(),
            cooling: Cooling::default(),
            retired: None,
            latency: Latency::default(),
            limit: Limit::default(),
            provision: None,
            in_flight: 0,
            waiting: 0,
            tokens: 0,
            used: None,
            random,
        };
        let (provider, credential, model) = name;
        Self { provider, credential, model, digest, account, state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that stands for it.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The most attempts that it takes at once, where that was learnt.
    pub fn most(&self) -> Option<u32> {
        self.state().limit.most()
    }

    pub(crate) fn gate(&self, now: Instant) -> Gate {
        self.gate_of(&self.state(), now)
    }

    fn gate_of(&self, state: &State, now: Instant) -> Gate {
        if let Some((until, due)) = self.account.retired(now) {
            return Gate::Retired { due, until };
        }
        if let Some(retired) = &state.retired {
            return Gate::Retired { due: retired.due(now), until: retired.until() };
        }
        if let Some((until, stated)) = state.cooling.now(now) {
            return Gate::Cooling { until, stated };
        }
        match state.standing.usable(now) {
            Use::Out { due, until } => Gate::Ejected { due, until },
            Use::Share(_) if state.limit.full(state.in_flight) => Gate::Saturated,
            Use::Share(share) => Gate::Open(share),
        }
    }

    /// Everything at once, for a request of this size; `provisioned` are its tokens per minute.
    pub(crate) fn view(&self, size: Size, provisioned: Option<u64>, now: Instant) -> View {
        let mut state = self.state();
        View {
            gate: self.gate_of(&state, now),
            expected: state.latency.expected(size.input, now),
            load: state.latency.load(state.tokens),
            prepaid: provisioned.is_some_and(|per_minute| {
                let provision = state.provision.get_or_insert_with(|| Provision::new(per_minute, now));
                provision.set(per_minute);
                provision.has(size.whole, now)
            }),
            error_rate: state.standing.error_rate(),
        }
    }

    /// Takes the one try that is due to an ejected or retired target; false when somebody was quicker.
    pub(crate) fn try_again(&self, now: Instant) -> bool {
        if self.account.retired(now).is_some() {
            return self.account.look(now);
        }
        let mut state = self.state();
        match &mut state.retired {
            Some(retired) => retired.look(now),
            None => state.standing.try_again(now),
        }
    }

    /// The provider's settings changed: whatever kept it away is gone.
    pub(crate) fn reinstate(&self) {
        self.account.reinstate();
        let mut state = self.state();
        state.retired = None;
        state.cooling = Cooling::default();
        state.standing = Standing::new();
        state.limit = Limit::default();
        state.latency.pardon();
    }

    pub(crate) fn report(&self, now: Instant) -> TargetReport {
        let state = self.state();
        let gate = self.gate_of(&state, now);
        let (word, share, until) = match gate {
            Gate::Open(share) if share < 1.0 => ("returning", share, None),
            Gate::Open(_) | Gate::Saturated => ("healthy", 1.0, None),
            Gate::Ejected { until, .. } => ("ejected", 0.0, Some(until)),
            Gate::Cooling { until, .. } => ("cooling", 0.0, Some(until)),
            Gate::Retired { until, .. } => ("retired", 0.0, Some(until)),
        };
        TargetReport {
            provider: Arc::clone(&self.provider),
            credential: self.credential,
            model: Arc::clone(&self.model),
            state: word,
            wait: until.map(|until| until.saturating_duration_since(now)),
            error_rate: state.standing.error_rate(),
            suspicion: state.standing.suspicion(),
            in_flight: state.in_flight,
            limit: state.limit.most(),
            ttft_p50: state.latency.quantile(0.50),
            ttft_p95: state.latency.quantile(0.95),
            ejections: state.standing.ejections(),
            share,
        }
    }

    /// When an answer to a prompt of this length is late.
    pub(crate) fn late_after(&self, input: u64) -> Option<Duration> {
        self.state().latency.late_after(input)
    }
}
