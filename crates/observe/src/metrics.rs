//! The metrics registry: families by name, series kept at hand per model so that a record costs one look-up.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};
use penstock_domain::{Cost, Stage, Task};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::{Record, names};

mod calls;
mod money;
mod shared;
mod waits;

pub use calls::TargetState;
pub use money::{BudgetState, MoneyState};
pub use shared::SharedState;
pub use waits::QueueState;

/// `gen_ai.client.operation.duration` buckets of the conventions: 10 ms doubling to 81.92 s.
fn seconds() -> Histogram {
    Histogram::new((0..14).map(|power| 0.01 * f64::from(1 << power)))
}

/// Finer buckets for what should be microseconds to milliseconds: 10 µs, times four, to 2.6 s.
fn fine_seconds() -> Histogram {
    Histogram::new((0..10).map(|power| 0.000_01 * 4f64.powi(power)))
}

/// `gen_ai.client.token.usage` buckets of the conventions: 1, 4, … 67,108,864.
fn tokens() -> Histogram {
    Histogram::new((0..14).map(|power| 4f64.powi(power)))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Served {
    gen_ai_operation_name: &'static str,
    gen_ai_request_model: String,
    gen_ai_provider_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    operation: &'static str,
    model: String,
    provider: String,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Typed {
    gen_ai_operation_name: &'static str,
    gen_ai_request_model: String,
    gen_ai_provider_name: String,
    gen_ai_token_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OneProvider {
    provider: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Paid {
    model: String,
    provider: String,
}

/// Dollars.
type Dollars = Counter<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OneStage {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OneOutcome {
    outcome: &'static str,
}

/// How a reload of the configuration went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The new configuration is in force.
    Applied,
    /// The new configuration has errors; the old one stays.
    Refused,
}

#[derive(PartialEq, Eq)]
struct SeriesKey {
    task: Option<Task>,
    model: Option<Arc<str>>,
    provider: Option<Arc<str>>,
}

/// A model has few providers and tasks: hashing its name is enough.
impl Hash for SeriesKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.model.hash(state);
    }
}

/// The handles of one operation × model × provider.
struct Series {
    ok: Counter,
    cancelled: Counter,
    duration: Histogram,
    first_token: Histogram,
    per_token: Histogram,
    input: Histogram,
    output: Histogram,
    cost: Dollars,
    unpriced: Counter,
    estimated: Counter,
    called: Counter,
    /// Calls of the provider, however they ended.
    upstream: Counter,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Ended, Counter>,
    duration: Family<Served, Histogram, fn() -> Histogram>,
    first_token: Family<Served, Histogram, fn() -> Histogram>,
    per_token: Family<Served, Histogram, fn() -> Histogram>,
    token_usage: Family<Typed, Histogram, fn() -> Histogram>,
    upstream_calls: Family<OneProvider, Counter>,
    calls: calls::Calls,
    money: money::Money,
    pub(crate) waits: waits::Waits,
    shared: shared::SharedMetrics,
    cost: Family<Paid, Dollars>,
    unpriced: Family<Paid, Counter>,
    estimated: Family<Paid, Counter>,
    provider_up: Family<OneProvider, Gauge>,
    reloads: Family<OneOutcome, Counter>,
    responses: Family<OneOutcome, Counter>,
    stages: Vec<Histogram>,
    pub(crate) in_flight: Gauge,
    pub(crate) dropped: Counter,
    pub(crate) waiting: Gauge,
    pub(crate) lost: Counter,
    pub(crate) content_dropped: Counter,
    series: RwLock<HashMap<SeriesKey, Arc<Series>>>,
}

impl Metrics {
    /// Registers every metric; `version` labels the build information.
    pub fn new(version: &'static str) -> Self {
        let stage_family: Family<OneStage, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(fine_seconds);
        let stages = Stage::ALL
            .iter()
            .map(|stage| stage_family.get_or_create_owned(&OneStage { stage: stage.name() }))
            .collect();
        let metrics = Self {
            registry: Mutex::new(Registry::default()),
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            first_token: Family::new_with_constructor(seconds),
            per_token: Family::new_with_constructor(fine_seconds),
            token_usage: Family::new_with_constructor(tokens),
            upstream_calls: Family::default(),
            calls: calls::Calls::default(),
            money: money::Money::default(),
            waits: waits::Waits::default(),
            shared: shared::SharedMetrics::default(),
            cost: Family::default(),
            unpriced: Family::default(),
            estimated: Family::default(),
            provider_up: Family::default(),
            reloads: Family::default(),
            responses: Family::default(),
            stages,
            in_flight: Gauge::default(),
            dropped: Counter::default(),
            waiting: Gauge::default(),
            lost: Counter::default(),
            content_dropped: Counter::default(),
            series: RwLock::default(),
        };
        metrics.register(stage_family, version);
        metrics
    }

    fn register(&self, stages: Family<OneStage, Histogram, fn() -> Histogram>, version: &'static str) {
        let mut registry = self.registry.lock();
        // The registry appends `_seconds`, `_total` and `_info` itself.
        let bare = |name: &'static str| name.trim_end_matches("_seconds");
        let second = || Unit::Seconds;
        registry.register_with_unit(
            bare(names::REQUEST_DURATION),
            "Seconds from a request's arrival to the end of its answer",
            second(),
            self.duration.clone(),
        );
        registry.register_with_unit(
            bare(names::TIME_TO_FIRST_TOKEN),
            "Seconds from a request's arrival to the first content of its answer",
            second(),
            self.first_token.clone(),
        );
        registry.register_with_unit(
            bare(names::TIME_PER_OUTPUT_TOKEN),
            "Seconds per output token after the first",
            second(),
            self.per_token.clone(),
        );
        registry.register_with_unit(
            bare(names::STAGE_DURATION),
            "Seconds spent in each stage",
            second(),
            stages,
        );
        registry.register(names::TOKEN_USAGE, "Tokens per request", self.token_usage.clone());
        registry.register(names::REQUESTS, "Requests ended", self.requests.clone());
        registry.register(
            names::IN_FLIGHT,
            "Requests between arrival and settlement",
            self.in_flight.clone(),
        );
        registry.register(names::UPSTREAM_CALLS, "Calls made to providers", self.upstream_calls.clone());
        self.calls.register(&mut registry);
        self.money.register(&mut registry);
        self.waits.register(&mut registry);
        self.shared.register(&mut registry);
        registry.register(names::COST, "What answers cost in USD", self.cost.clone());
        registry.register(names::UNPRICED, "Requests without a known price", self.unpriced.clone());
        registry.register(names::ESTIMATED, "Requests whose tokens were estimated", self.estimated.clone());
        registry.register(names::PROVIDER_UP, "1 when a provider can be called", self.provider_up.clone());
        registry.register(names::RELOADS, "Configuration reloads", self.reloads.clone());
        registry.register(names::RESPONSES, "Responses that were to be stored", self.responses.clone());
        registry.register(names::RECORDS_DROPPED, "Records dropped on a full queue", self.dropped.clone());
        registry.register(names::RECORDS_WAITING, "Records the store does not take", self.waiting.clone());
        registry.register(names::RECORDS_LOST, "Records never stored", self.lost.clone());
        registry.register(
            names::CONTENT_DROPPED,
            "Records stored without their captured content",
            self.content_dropped.clone(),
        );
        registry.register(names::BUILD_INFO, "The running build", Info::new([("version", version)]));
    }

    /// Counts one ended request.
    pub fn record(&self, record: &Record) {
        let series = self.series(record);
        match record.outcome.code() {
            "ok" => series.ok.inc(),
            "cancelled" => series.cancelled.inc(),
            code => self.requests.get_or_create(&ended(record, code)).inc(),
        };
        series.duration.observe(record.duration.as_secs_f64());
        for (stage, time) in record.timings.iter() {
            self.stages[stage as usize].observe(time.as_secs_f64());
        }
        for attempt in &record.tries {
            if record.provider.as_ref() == Some(&attempt.provider) {
                series.upstream.inc();
                continue;
            }
            let label = OneProvider { provider: attempt.provider.to_string() };
            self.upstream_calls.get_or_create(&label).inc();
        }
        self.calls.count(record, &series.called);
        match record.cost {
            Cost::Known(money) => {
                series.cost.inc_by(money.micros() as f64 / 1e6);
            }
            Cost::Unknown => {
                series.unpriced.inc();
            }
            Cost::None => {}
        }
        if let Some(first) = record.first_token {
            series.first_token.observe(first.as_secs_f64());
        }
        let Some(usage) = record.usage else { return };
        series.input.observe(usage.input as f64);
        series.output.observe(usage.output as f64);
        if record.estimated {
            series.estimated.inc();
        }
        let Some(first) = record.first_token else { return };
        if record.stream && usage.output > 1 {
            let rest = record.duration.saturating_sub(first).as_secs_f64();
            series.per_token.observe(rest / (usage.output - 1) as f64);
        }
    }

    /// Counts a reload.
    pub fn reloaded(&self, how: Reload) {
        let outcome = match how {
            Reload::Applied => "applied",
            Reload::Refused => "refused",
        };
        self.reloads.get_or_create(&OneOutcome { outcome }).inc();
    }

    /// Counts a response that was to be stored: `stored`, or why it was not.
    pub fn response_kept(&self, outcome: &'static str) {
        self.responses.get_or_create(&OneOutcome { outcome }).inc();
    }

    /// Says whether a provider can be called.
    pub fn provider_up(&self, provider: &str, up: bool) {
        self.provider_up.get_or_create(&OneProvider { provider: provider.to_owned() }).set(i64::from(up));
    }

    /// Says how budgets and the ledger stand.
    pub fn money(&self, state: &MoneyState) {
        self.money.set(state);
    }

    /// Says what state every target is in.
    pub fn targets(&self, targets: impl Iterator<Item = TargetState>) {
        self.calls.targets(targets);
    }

    /// Says how often targets of a provider have been ejected since the start.
    pub fn ejected(&self, provider: &str, total: u64) {
        self.calls.ejected(provider, total);
    }

    /// Says how this gateway stands with the others.
    pub fn shared(&self, state: &SharedState) {
        self.shared.set(state);
    }

    /// Says how many requests wait for each provider.
    pub fn queues(&self, queues: impl Iterator<Item = QueueState>) {
        self.waits.queues(queues);
    }

    /// The whole registry in the OpenMetrics text format that Prometheus reads
    /// (`application/openmetrics-text; version=1.0.0`).
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        // Writing into a String cannot fail.
        let _ = text::encode(&mut out, &self.registry.lock());
        out
    }

    fn series(&self, record: &Record) -> Arc<Series> {
        let key =
            SeriesKey { task: record.task, model: record.model.clone(), provider: record.provider.clone() };
        if let Some(series) = self.series.read().get(&key) {
            return Arc::clone(series);
        }
        let served = Served {
            gen_ai_operation_name: operation(record),
            gen_ai_request_model: label(record.model.as_deref()),
            gen_ai_provider_name: label(record.provider.as_deref()),
        };
        let typed = |kind| Typed {
            gen_ai_operation_name: served.gen_ai_operation_name,
            gen_ai_request_model: served.gen_ai_request_model.clone(),
            gen_ai_provider_name: served.gen_ai_provider_name.clone(),
            gen_ai_token_type: kind,
        };
        let paid =
            Paid { model: label(record.model.as_deref()), provider: label(record.provider.as_deref()) };
        let series = Arc::new(Series {
            ok: self.requests.get_or_create_owned(&ended(record, "ok")),
            cancelled: self.requests.get_or_create_owned(&ended(record, "cancelled")),
            duration: self.duration.get_or_create_owned(&served),
            first_token: self.first_token.get_or_create_owned(&served),
            per_token: self.per_token.get_or_create_owned(&served),
            input: self.token_usage.get_or_create_owned(&typed("input")),
            output: self.token_usage.get_or_create_owned(&typed("output")),
            cost: self.cost.get_or_create_owned(&paid),
            unpriced: self.unpriced.get_or_create_owned(&paid),
            estimated: self.estimated.get_or_create_owned(&paid),
            called: self.calls.plain(record.provider.as_deref().unwrap_or("none")),
            upstream: record.provider.as_deref().map_or_else(Counter::default, |provider| {
                self.upstream_calls.get_or_create_owned(&OneProvider { provider: provider.to_owned() })
            }),
        });
        self.series.write().insert(key, Arc::clone(&series));
        series
    }
}

fn operation(record: &Record) -> &'static str {
    record.task.map_or("unknown", Task::name)
}

fn label(name: Option<&str>) -> String {
    name.unwrap_or("none").to_owned()
}

fn ended(record: &Record, code: &'static str) -> Ended {
    Ended {
        operation: operation(record),
        model: label(record.model.as_deref()),
        provider: label(record.provider.as_deref()),
        code,
    }
}

#[cfg(test)]
mod tests;
