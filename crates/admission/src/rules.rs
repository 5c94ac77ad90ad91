//! The words of admission: whose account, how much it allows, what a request needs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use penstock_config::{Budget, Config, Limits};
use penstock_domain::{Cost, Tariff, Usage};

/// Whose account it is; accounts are locked in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// One key, or one holder of tokens.
    Key,
    /// All keys of a team.
    Team,
    /// All keys.
    Organisation,
    /// All requests for a model.
    Model,
    /// All calls of a provider; they are taken when a call begins, not when its request is admitted.
    Provider,
}

impl Level {
    /// Every level of which a request takes when it is admitted, in order.
    pub const ALL: [Level; 4] = [Level::Key, Level::Team, Level::Organisation, Level::Model];

    /// Every level that the ledger adds up, in the order of the numbers by which it has them.
    pub const KEPT: [Level; 5] =
        [Level::Key, Level::Team, Level::Organisation, Level::Model, Level::Provider];

    /// `key`, `team`, `organisation`, `model` or `provider`.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Key => "key",
            Level::Team => "team",
            Level::Organisation => "organisation",
            Level::Model => "model",
            Level::Provider => "provider",
        }
    }
}

/// What an account allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    /// Rates and slots.
    pub limits: Limits,
    /// Money.
    pub budget: Option<Budget>,
}

/// What the accounts above the keys allow: one snapshot of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub(crate) organisation: Allowance,
    pub(crate) teams: HashMap<Box<str>, Allowance>,
    /// By every name of a model: the name of its account, and what that allows.
    pub(crate) models: HashMap<Box<str>, (Arc<str>, Allowance)>,
    /// All names of a model, by its account, where it has several.
    pub(crate) names: HashMap<Arc<str>, Arc<[Arc<str>]>>,
}

impl Rules {
    /// The rules of a configuration.
    pub fn of(config: &Config) -> Self {
        let organisation =
            Allowance { limits: config.organisation.limits, budget: config.organisation.budget };
        let teams = config.teams.iter().map(|(name, team)| {
            (name.as_str().into(), Allowance { limits: team.limits, budget: team.budget })
        });
        let models = config.models.iter().flat_map(|(name, model)| {
            let account: Arc<str> = name.as_str().into();
            let allowance = Allowance { limits: model.limits, budget: model.budget };
            let names = std::iter::once(name).chain(&model.aliases);
            names.map(move |name| (name.as_str().into(), (Arc::clone(&account), allowance)))
        });
        let several = config.models.iter().filter(|(_, model)| !model.aliases.is_empty());
        let names = several.map(|(name, model)| {
            let all = std::iter::once(name).chain(&model.aliases).map(|name| Arc::from(name.as_str()));
            (Arc::from(name.as_str()), all.collect())
        });
        Self { organisation, teams: teams.collect(), models: models.collect(), names: names.collect() }
    }

    pub(crate) fn organisation(&self) -> Allowance {
        self.organisation
    }

    pub(crate) fn team(&self, name: &str) -> Allowance {
        self.teams.get(name).copied().unwrap_or_default()
    }

    /// The name of a model's account, and what that allows.
    pub(crate) fn model(&self, name: &Arc<str>) -> (Arc<str>, Allowance) {
        self.models.get(&**name).cloned().unwrap_or_else(|| (Arc::clone(name), Allowance::default()))
    }

    /// Every account that the configuration gives limits or a budget.
    pub(crate) fn limited(&self) -> impl Iterator<Item = (Level, &str, Allowance)> {
        let teams = self.teams.iter().map(|(name, allowance)| (Level::Team, &**name, *allowance));
        let models = self.models.values().map(|(name, allowance)| (Level::Model, &**name, *allowance));
        std::iter::once((Level::Organisation, "", self.organisation))
            .chain(teams)
            .chain(models)
            .filter(|(_, _, allowance)| *allowance != Allowance::default())
    }
}

/// Both clocks: rates go by the one that never jumps, calendar days by the one that people read.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic.
    pub at: Instant,
    /// The time of day.
    pub wall: SystemTime,
}

impl Now {
    /// This moment.
    pub fn read() -> Self {
        Self { at: Instant::now(), wall: SystemTime::now() }
    }
}

/// What a request holds, or needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    /// Tokens of the prompt.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
    /// Millionths of a US dollar.
    pub micros: u64,
}

impl Need {
    /// So many tokens at these prices; nothing where no price is known.
    pub(crate) fn of(input: u64, output: u64, tariff: Option<&Tariff>) -> Self {
        let usage = Usage { input, output, ..Usage::default() };
        let cost = tariff.map_or(Cost::Unknown, |tariff| tariff.cost(&usage));
        Self { input, output, micros: cost.known().map_or(0, penstock_domain::Money::micros) }
    }

    pub(crate) const fn plus(self, more: Need) -> Self {
        Self {
            input: self.input.saturating_add(more.input),
            output: self.output.saturating_add(more.output),
            micros: self.micros.saturating_add(more.micros),
        }
    }

    pub(crate) const fn minus(self, less: Need) -> Self {
        Self {
            input: self.input.saturating_sub(less.input),
            output: self.output.saturating_sub(less.output),
            micros: self.micros.saturating_sub(less.micros),
        }
    }
}

/// The state of one rate, for the headers of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge {
    /// How many there are when nothing is used.
    pub limit: u64,
    /// How many could follow at once.
    pub remaining: u64,
    /// The time until `remaining` equals `limit` again, if nothing more comes.
    pub reset: Duration,
}

impl Gauge {
    /// The time of day at which it is full again, as RFC 3339 writes it, in whole seconds rounded up.
    pub fn full_at(&self, now: SystemTime) -> String {
        penstock_domain::calendar::stamp(now + self.reset)
    }
}

/// What a caller may be told about its rates: of each kind the one that binds most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Requests.
    pub requests: Option<Gauge>,
    /// Tokens, prompt and answer together.
    pub tokens: Option<Gauge>,
    /// Tokens of prompts.
    pub input: Option<Gauge>,
    /// Tokens of answers.
    pub output: Option<Gauge>,
}
