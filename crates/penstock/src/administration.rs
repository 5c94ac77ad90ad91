//! What the admin API and `/readyz` are told of the running program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use penstock_admin::{Parts, ProviderRow, TargetRow, View};
use penstock_admission::Standing;
use penstock_admission::shared::Link;
use penstock_alert::Alerts;
use penstock_config::show;
use penstock_edge::StoreHealth;
use penstock_flow::Gateway;
use penstock_observe::store::Spending;
use penstock_provider::Health;
use penstock_routing::TargetReport;
use serde_json::{Value, json};

use crate::audit::Noted;
use crate::idempotency::Answers;
use crate::people::People;
use crate::records::Kept;
use crate::reload::Current;
use crate::stores::Stores;
use crate::wiring;

/// What the admin API works with.
pub(crate) fn parts(
    gateway: &Gateway,
    people: &People,
    (records, noted, answers, alerts): (&Kept, &Noted, &Answers, &Arc<Alerts>),
    stores: &Stores,
    current: Current,
) -> Parts {
    let authorize = {
        let gateway = gateway.clone();
        Arc::new(move |credential: &_, scope, object: Option<&str>| {
            gateway.snapshot().authorize(credential, scope, object)
        })
    };
    Parts {
        keys: Arc::clone(&people.keys),
        teams: Arc::clone(&people.teams),
        sessions: Arc::clone(&people.sessions),
        records: Arc::clone(&stores.records),
        tail: records.tail.clone(),
        audit: Arc::clone(&noted.log),
        alerts: Arc::clone(alerts),
        denials: Arc::clone(&noted.denials),
        idempotency: Arc::clone(&answers.service),
        authorize,
        view: Arc::new(Running { gateway: gateway.clone(), current, ledger: Arc::clone(&stores.spending) }),
        now: SystemTime::now,
    }
}

struct Running {
    gateway: Gateway,
    current: Current,
    ledger: Arc<dyn Spending>,
}

impl View for Running {
    fn kinds(&self) -> Value {
        json!({"providers": wiring::kinds().providers.iter().map(|(name, kind)| {
            json!({"kind": name, "schema": kind.schema, "absent": kind.absent, "alias_of": kind.alias_of})
        }).collect::<Vec<_>>()})
    }

    fn providers(&self, reinstate: Option<&str>) -> Vec<ProviderRow> {
        let flow = self.gateway.snapshot();
        if let Some(name) = reinstate {
            flow.reinstate(name);
        }
        let all = flow.targets();
        let kind = |name: &str| flow.providers().get(name).map_or("", |provider| provider.kind());
        let row = |(name, health): (Arc<str>, Health)| {
            let (status, reason) = match health {
                Health::Ready => ("ready", None),
                Health::Starting => ("starting", None),
                Health::Unavailable(why) => ("unavailable", Some(why)),
            };
            let targets = all.iter().filter(|target| target.provider == name).map(target_row).collect();
            ProviderRow { kind: kind(&name).to_owned(), name: name.to_string(), status, reason, targets }
        };
        flow.health().into_iter().map(row).collect()
    }

    fn standings(&self) -> Vec<Standing> {
        let flow = self.gateway.snapshot();
        // Whoever asks is on a thread that may wait: this one call is bounded, and only administrators make it.
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(flow.look_around()));
        flow.standings()
    }

    fn spending(&self) -> Arc<dyn Spending> {
        Arc::clone(&self.ledger)
    }

    fn config(&self) -> Value {
        show(&crate::reload::now(&self.current)).clone()
    }
}

fn target_row(report: &TargetReport) -> TargetRow {
    let millis = |time: Option<Duration>| time.map(|time| time.as_micros() as f64 / 1_000.0);
    // Three digits say all that is known.
    let share = |share: f64| (share * 1_000.0).round() / 1_000.0;
    TargetRow {
        credential: report.credential,
        model: report.model.to_string(),
        state: report.state,
        wait_ms: millis(report.wait),
        share: share(report.share),
        error_rate: share(report.error_rate),
        suspicion: share(report.suspicion),
        in_flight: report.in_flight,
        limit: report.limit,
        ttft_p50_ms: millis(report.ttft_p50),
        ttft_p95_ms: millis(report.ttft_p95),
        ejections: report.ejections,
    }
}

/// Whether the database answered when it was last asked.
#[derive(Clone, Default)]
pub(crate) struct StoreState(Arc<AtomicBool>);

impl StoreState {
    /// Notes how the last question went.
    pub(crate) fn note(&self, failed: bool) {
        self.0.store(failed, Ordering::Relaxed);
    }

    /// What `/readyz` asks.
    pub(crate) fn health(&self, link: Option<Arc<Link>>) -> StoreHealth {
        let failed = Arc::clone(&self.0);
        Arc::new(move || {
            if failed.load(Ordering::Relaxed) {
                return Err("the database does not answer; see the log".to_owned());
            }
            link.as_ref().map_or(Ok(()), |link| link.ready())
        })
    }
}
