//! What operators are told of the running program: who notices it, who is told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_admission::{Allowance, Crossing, Level, Standing};
use penstock_alert::{Alerts, Data, Event, Mood, Tally, Watch};
use penstock_config::{Config, EventKind, Problem};
use penstock_edge::MetricsText;
use penstock_flow::{Flow, Gateway};
use penstock_identity::Keys;
use penstock_observe::{BudgetState, Metrics, MoneyState};
use penstock_provider::Health;
use penstock_webhook::WebhookSender;
use tokio::sync::mpsc;

use crate::stores::Stores;

/// How often providers are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Of so many looks one is at budgets and keys, too: what a crash or another gateway kept from being heard is told then.
const ROUNDS: u32 = 12;
/// A key is said to expire when it has so long left.
const SOON: Duration = Duration::from_secs(7 * 86_400);
/// Events that are known to be told already. Beyond so many all are forgotten: the outbox knows them, too.
const KNOWN: usize = 50_000;

/// Tells whom the configuration names.
///
/// # Errors
/// Every problem of the section `webhooks`.
pub(crate) fn open(config: &Config, stores: &Stores) -> Result<Arc<Alerts>, Vec<Problem>> {
    let endpoints = penstock_webhook::endpoints(config)?;
    let (outbox, sender) = (Arc::clone(&stores.outbox), Arc::new(WebhookSender::default()));
    let alerts = Alerts::new(outbox, sender, penstock_webhook::render, SystemTime::now);
    alerts.follow(endpoints);
    Ok(Arc::new(alerts))
}

/// Hears, looks and delivers, for ever.
pub(crate) async fn work(
    alerts: Arc<Alerts>,
    crossings: Option<mpsc::Receiver<Crossing>>,
    gateway: Gateway,
    keys: Arc<Keys>,
) {
    tokio::join!(alerts.run(), hear(&alerts, crossings), look(&alerts, gateway, keys));
}

async fn hear(alerts: &Alerts, crossings: Option<mpsc::Receiver<Crossing>>) {
    let Some(mut crossings) = crossings else { return };
    while let Some(crossing) = crossings.recv().await {
        alerts.tell(&spent(crossing)).await;
    }
}

async fn look(alerts: &Alerts, gateway: Gateway, keys: Arc<Keys>) {
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut watch, mut known, mut round) = (Watch::default(), HashSet::new(), 0);
    loop {
        every.tick().await;
        if alerts.endpoints().is_empty() {
            continue;
        }
        let now = SystemTime::now();
        let flow = gateway.snapshot();
        let mut events = watch.look(now, &moods(&flow));
        if round % ROUNDS == 0 {
            // What the other gateways spent counts, too.
            flow.look_around().await;
            events.extend(budgets(&flow, &keys, now));
            events.extend(expiring(&keys, now));
        }
        round = round.wrapping_add(1);
        drop(flow);
        for event in events {
            if known.len() >= KNOWN {
                known.clear();
            }
            if known.insert(event.id()) {
                alerts.tell(&event).await;
            }
        }
    }
}

fn spent(crossing: Crossing) -> Event {
    let Crossing { level, name, budget, percent, spent, begun, renewed } = crossing;
    let kind = if percent == 100 { EventKind::BudgetExhausted } else { EventKind::BudgetThreshold };
    let data = Data::Budget {
        level: level.name(),
        name,
        per: budget.per,
        percent,
        spent,
        limit: budget.usd.0,
        begun,
        renewed,
    };
    Event { kind, at: SystemTime::now(), data }
}

/// Every part of a budget that is spent, told or not.
fn budgets(flow: &Flow, keys: &Keys, now: SystemTime) -> Vec<Event> {
    let mut standings = flow.standings();
    // After a start an account does not know what its key allows before the key's first request.
    for key in keys.list() {
        let own = |one: &&mut Standing| one.level == Level::Key && *one.name == *key.id.as_str();
        if let Some(one) = standings.iter_mut().find(own).filter(|one| one.allowance == Allowance::default()) {
            one.allow(Allowance { limits: key.limits, budget: key.budget });
        }
    }
    standings.iter().flat_map(|one| Crossing::of(one, now)).map(spent).collect()
}

fn expiring(keys: &Keys, now: SystemTime) -> Vec<Event> {
    let list = keys.list();
    let live = list.iter().filter(|key| key.revoked.is_none());
    let soon = live.filter_map(|key| {
        let expires = key.expires.filter(|expires| *expires > now && *expires <= now + SOON)?;
        let data = Data::Key { id: key.id.as_str().into(), name: (&*key.name).into(), expires };
        Some(Event { kind: EventKind::KeyExpiring, at: now, data })
    });
    soon.collect()
}

/// Whether requests go to each provider: by what it says of itself, and by what was learnt of all its targets.
fn moods(flow: &Flow) -> Vec<(Arc<str>, Mood)> {
    let targets = flow.targets();
    let mood = |(name, health): (Arc<str>, Health)| {
        let mut states = targets.iter().filter(|target| target.provider == name).map(|target| target.state);
        let first = states.next();
        let away = |state: &str| matches!(state, "ejected" | "retired");
        let mood = match health {
            Health::Unavailable(why) => Mood::Down(why.into()),
            _ if first.is_some_and(away) && states.all(away) => {
                Mood::Down("every model of it is kept away from because of its errors".into())
            }
            _ => Mood::Up,
        };
        (name, mood)
    };
    flow.health().into_iter().map(mood).collect()
}

/// The metrics of something else, with budgets, the ledger and deliveries beside them.
pub(crate) fn measured(
    inner: MetricsText,
    (gateway, metrics): (Gateway, Arc<Metrics>),
    (alerts, orphans): (Arc<Alerts>, u64),
) -> MetricsText {
    Arc::new(move || {
        let flow = gateway.snapshot();
        let Tally { delivered, failed, dead, dropped } = alerts.tally();
        let (waiting, refunds) = flow.unsettled();
        metrics.money(&MoneyState {
            budgets: flow.standings().iter().filter_map(budget).collect(),
            waiting,
            refunds,
            orphans,
            deliveries: [("delivered", delivered), ("failed", failed), ("dead", dead), ("dropped", dropped)],
        });
        inner()
    })
}

/// What a scrape shows of an account: not of keys, of which there may be any number.
fn budget(standing: &Standing) -> Option<BudgetState> {
    let budget = standing.allowance.budget.filter(|_| standing.level != Level::Key)?;
    let usd = |micros: u64| micros as f64 / 1e6;
    Some(BudgetState {
        level: standing.level.name(),
        name: Arc::clone(&standing.name),
        spent: usd(standing.spent.within(budget.per)),
        limit: usd(budget.usd.0.micros()),
    })
}
