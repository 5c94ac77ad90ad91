//! The contract of [`Outbox`], executed against the file, a real PostgreSQL and the version in memory alike; and the end of old
//! entries of the ledger.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

mod homes;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_admission::Need;
use penstock_admission::ledger::{Batch, End, Entry, LedgerStore, Open};
use penstock_alert::{Added, Claim, MemoryOutbox, Notice, Outbox, Outcome, Query, Reply, State};
use penstock_config::EventKind;
use penstock_domain::{Cost, Money, RequestId, Usage};
use penstock_store_sql::{SqlLedger, SqlOutbox};

use homes::Home;

const LEASE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn notice(name: &str, seconds: u64, remember_until: Option<u64>) -> Notice {
    Notice {
        id: format!("evt_{name}").into(),
        kind: EventKind::BudgetThreshold,
        at: at(seconds),
        body: format!("{{\"name\":\"{name}'; DROP TABLE events; --\"}}").into(),
        remember_until: remember_until.map(at),
    }
}

fn reply(outcome: Outcome, seconds: u64) -> Reply {
    Reply { outcome, at: at(seconds), status: Some(503), trouble: Some("busy".into()) }
}

/// The name of the event that is handed out.
async fn claimed(outbox: &dyn Outbox, endpoint: &str, seconds: u64) -> Result<(Box<str>, Box<str>), Claim> {
    match outbox.claim(endpoint, at(seconds), LEASE).await.expect("readable") {
        Claim::Due(parcel) => Ok((parcel.event, parcel.id)),
        other => Err(other),
    }
}

async fn contract(outbox: &dyn Outbox) {
    let (a, b): (Arc<str>, Arc<str>) = ("ep_a".into(), "ep_b".into());
    let both = [Arc::clone(&a), Arc::clone(&b)];
    let first = notice("one", 0, Some(100));
    assert_eq!(outbox.add(&first, &both).await.expect("kept"), Added { waiting: 2, dropped: 0 });
    assert_eq!(outbox.add(&first, &both).await.expect("known"), Added::default());
    outbox.add(&notice("two", 1, None), &both[..1]).await.expect("kept");

    // One at a time, in order, and to nobody else while the lease lasts.
    let (event, id) = claimed(outbox, "ep_a", 2).await.expect("due");
    assert_eq!((&*event, &*id), ("evt_one", &*first.delivery("ep_a")));
    assert_eq!(claimed(outbox, "ep_a", 3).await, Err(Claim::At(at(62))));
    assert_eq!(&*claimed(outbox, "ep_b", 3).await.expect("due").0, "evt_one");
    assert_eq!(&*claimed(outbox, "ep_a", 62).await.expect("the lease is over").0, "evt_one");

    // In trouble it holds the line; refused it does not.
    outbox.settle(&id, &reply(Outcome::Again { at: at(80), in_line: true }, 63)).await.expect("kept");
    assert_eq!(claimed(outbox, "ep_a", 64).await, Err(Claim::At(at(80))));
    claimed(outbox, "ep_a", 80).await.expect("due");
    outbox.settle(&id, &reply(Outcome::Again { at: at(90), in_line: false }, 81)).await.expect("kept");
    let (event, second) = claimed(outbox, "ep_a", 82).await.expect("due");
    assert_eq!(&*event, "evt_two");
    outbox.settle(&second, &reply(Outcome::Delivered, 83)).await.expect("kept");
    assert_eq!(&*claimed(outbox, "ep_a", 91).await.expect("due").0, "evt_one");
    outbox.settle(&id, &reply(Outcome::Dead, 92)).await.expect("kept");
    assert_eq!(claimed(outbox, "ep_a", 93).await, Err(Claim::Nothing));

    // What became of all, the newest first, page by page.
    let all = outbox.list(Query { limit: 10, ..Query::default() }).await.expect("readable");
    let states: Vec<_> = all.iter().map(|row| (&*row.event, row.state, row.attempts)).collect();
    assert_eq!(
        states,
        [("evt_two", State::Delivered, 1), ("evt_one", State::Waiting, 0), ("evt_one", State::Dead, 3)]
    );
    assert_eq!((all[2].status, all[2].trouble.as_deref(), all[2].next), (Some(503), Some("busy"), None));
    assert_eq!((&*all[2].kind, all[2].created, all[2].last), ("budget.threshold", at(0), Some(at(92))));
    let query = Query { state: Some(State::Dead), before: Some(all[1].place), limit: 10 };
    assert_eq!(outbox.list(query).await.expect("readable"), all[2..]);

    // Made anew it is outside of the line.
    let again = outbox.again(&id, at(94)).await.expect("kept").expect("known");
    assert_eq!((again.state, again.attempts, again.next), (State::Waiting, 0, Some(at(94))));
    assert_eq!(outbox.again("dlv_none", at(94)).await.expect("readable"), None);
    assert_eq!(&*claimed(outbox, "ep_a", 95).await.expect("due").1, &*id);
    outbox.settle(&id, &reply(Outcome::Delivered, 96)).await.expect("kept");
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(&MemoryOutbox::default()).await;
}

#[tokio::test]
async fn a_file_keeps_the_contract_and_remembers_over_a_restart() {
    let home = Home::folder();
    let outbox = SqlOutbox::new(home.path());
    contract(&outbox).await;
    outbox.close().await;
    let outbox = SqlOutbox::new(home.path());
    let known = notice("two", 500, None);
    assert_eq!(outbox.add(&known, &["ep_a".into()]).await.expect("known"), Added::default());
}

#[tokio::test]
async fn postgres_keeps_the_contract_and_two_gateways_take_one_event_once() {
    let home = Home::postgres();
    contract(&*home.open()).await;
    let (one, two) = (home.open(), home.open());
    let notice = notice("race", 1_000, None);
    let endpoints = ["ep_c".into()];
    let (a, b) = tokio::join!(one.add(&notice, &endpoints), two.add(&notice, &endpoints));
    assert_eq!(a.expect("kept").waiting + b.expect("kept").waiting, 1);
    let (a, b) = tokio::join!(claimed(&*one, "ep_c", 1_001), claimed(&*two, "ep_c", 1_001));
    assert_eq!([a, b].iter().filter(|claim| claim.is_ok()).count(), 1);
}

#[tokio::test]
async fn old_entries_go_and_what_was_spent_stays() {
    for home in Home::each() {
        let entry = |id: &str, seconds| Entry {
            open: Arc::new(Open::left(RequestId::new(id), at(seconds), Need::default())),
            held: Need::default(),
            end: End::Settled,
            at: at(seconds),
            usage: Some(Usage { input: 3, ..Usage::default() }),
            estimated: false,
            cost: Cost::Known(Money::from_micros(7)),
            calls: Box::default(),
            kept: false,
        };
        let batch = Batch { closed: vec![entry("req_a", 0), entry("req_b", 5_000)], ..Batch::default() };
        let (ledger, counted, again): (Arc<dyn LedgerStore>, String, bool) = if home.name() == "postgres" {
            let database = home.open();
            database.write(&batch).await.expect("written");
            let more = database.expire_entries(at(10)).await.expect("swept");
            (database, home.ask("SELECT count(*) FROM ledger_entries"), more)
        } else {
            let ledger = SqlLedger::new(home.path());
            ledger.write(&batch).await.expect("written");
            let more = ledger.expire(at(10)).await.expect("swept");
            let next = ledger.expire(at(10)).await.expect("swept");
            assert!(!next, "nothing is left to go");
            (Arc::new(ledger), "1".to_owned(), more)
        };
        assert_eq!((counted.trim(), again), ("1", false), "{}", home.name());
        let spent = ledger.recover(at(5_001)).await.expect("readable").spent;
        let total: u64 = spent.iter().map(|(_, _, sums)| sums.lifetime).max().unwrap_or(0);
        assert_eq!(total, 14, "{}: the totals stay", home.name());
    }
}
