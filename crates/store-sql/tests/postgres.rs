//! What only a database of several gateways can do wrong.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

mod homes;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use penstock_admission::Need;
use penstock_admission::ledger::{Batch, End, Entry, GatewayId, LedgerStore, Open};
use penstock_domain::{Code, Cost, Money, RequestId, Secret, Usage};
use penstock_identity::{AuditEvent, AuditLog, KeyStore, Pepper};
use penstock_observe::store::{By, Filter, Hours, Page, Spending};
use penstock_observe::{Outcome, Record, RecordStore, Timings};
use penstock_store_sql::{PgAudit, Postgres};
use penstock_testkit::Postgres as Server;

use homes::Home;

const NOON: u64 = 1_800_000_000;

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOON) + Duration::from_millis(millis)
}

fn record(id: &str, millis: u64) -> Record {
    Record {
        id: RequestId::new(id),
        at: at(millis),
        task: None,
        stream: false,
        dialect: None,
        asked: None,
        tags: [("app", "a\0b")].into_iter().collect(),
        key: Some("key_a".into()),
        team: None,
        model: Some("lar\0ge".into()),
        provider: None,
        upstream_model: None,
        version: None,
        attempts: 0,
        tries: Box::default(),
        considered: Box::default(),
        usage: Some(Usage { input: 3, output: 4, ..Usage::default() }),
        estimated: false,
        cost: Cost::Known(Money::from_micros(7)),
        finish: None,
        duration: Duration::ZERO,
        first_token: None,
        gaps: None,
        timings: Timings::default(),
        outcome: Outcome::Complete,
        content: None,
    }
}

fn open(id: &str) -> Arc<Open> {
    let mut open = Open::left(RequestId::new(id), at(0), Need { input: 9, output: 9, micros: 18 });
    open.key = "key_a".into();
    Arc::new(open)
}

fn entry(id: &str, cost: u64) -> Entry {
    Entry {
        open: open(id),
        held: Need::default(),
        end: End::Settled,
        at: at(0),
        usage: Some(Usage { input: cost, output: 0, ..Usage::default() }),
        estimated: false,
        cost: Cost::Known(Money::from_micros(cost)),
        calls: Box::default(),
        kept: true,
    }
}

fn hours() -> Hours {
    Hours::around(at(0), at(3_600_000))
}

#[tokio::test]
async fn a_gateway_that_was_taken_for_dead_cannot_settle_what_another_settled() {
    let home = Home::postgres();
    let (one, other) = (home.open(), home.open());
    let opened = Batch { opened: vec![open("req_1"), open("req_2")], ..Batch::default() };
    one.write(&opened).await.expect("written");
    assert_eq!(other.tend(at(1)).await.expect("readable").orphans, 0, "it lives");
    // As it looks when the process stood still (SIGSTOP) for long enough.
    home.ask("UPDATE gateways SET seen = seen - INTERVAL '1 minute'");
    let tended = other.tend(at(2)).await.expect("readable");
    assert_eq!((tended.orphans, tended.living.len()), (2, 1));
    // It goes on, and says its own word too late.
    let late = Batch { closed: vec![entry("req_1", 1_000), entry("req_3", 5)], ..Batch::default() };
    let written = one.write(&late).await.expect("written");
    assert!(written.totals.iter().all(|(_, _, total)| *total == 5), "{written:?}");
    let report = other.spend(&By::Key, hours()).await.expect("a report");
    assert_eq!((report.total.requests, report.total.cost), (3, 5), "each request has one end");
    assert_eq!(other.tend(at(3)).await.expect("readable").living.len(), 2, "it lives again");
    assert_eq!(home.ask("SELECT count(*) FROM ledger_open"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_write_at_once_lose_nothing_and_share_no_place() {
    let home = Home::postgres();
    let gateways: Vec<_> = (0..4).map(|_| home.open()).collect();
    let tasks: Vec<_> = (0..40)
        .map(|turn| {
            let gateway = Arc::clone(&gateways[turn % 4]);
            tokio::spawn(async move {
                let records: Vec<_> = (0..50).map(|n| record(&format!("req_{turn}_{n}"), n)).collect();
                gateway.append(&records).await.expect("kept");
                let closed = (0..50).map(|n| entry(&format!("req_{turn}_{n}"), 7)).collect();
                gateway.write(&Batch { closed, ..Batch::default() }).await.expect("written");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let report = gateways[0].usage(&By::Key, hours()).await.expect("a report");
    assert_eq!((report.total.requests, report.total.cost), (2_000, 14_000));
    let spent = gateways[1].spend(&By::Key, hours()).await.expect("a report");
    assert_eq!((spent.total.requests, spent.total.cost), (2_000, 14_000));
    let (mut seen, mut after) = (0, None);
    loop {
        let page = Page { after, limit: 300 };
        let found = gateways[2].search(&Filter::default(), page).await.expect("a page");
        seen += found.entries.len();
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, 2_000, "no page loses a record");
}

#[tokio::test]
async fn text_with_a_byte_that_postgres_does_not_know_is_kept_without_it() {
    let home = Home::postgres();
    let store = home.open();
    store.append(&[record("req_\0", 1)]).await.expect("kept");
    let filter = Filter { tag: Some(("app".into(), "a\u{fffd}b".into())), ..Filter::default() };
    let found = store.search(&filter, Page { after: None, limit: 10 }).await.expect("a page");
    assert_eq!(found.entries.len(), 1);
    assert_eq!(store.usage(&By::Tag("app".into()), hours()).await.expect("a report").rows.len(), 1);
    assert!(store.one("req_\0").await.expect("readable").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_add_at_once_make_one_audit_chain() {
    let home = Home::postgres();
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let logs: Vec<_> =
        folders.iter().map(|folder| Arc::new(PgAudit::new(home.open(), folder.path()))).collect();
    let tasks: Vec<_> = (0..100)
        .map(|n: usize| {
            let log = Arc::clone(&logs[n % 2]);
            let event = AuditEvent::new(at(n as u64), "key_a", "key.create", &format!("key_{n}"));
            tokio::spawn(async move { log.append(event).await })
        })
        .collect();
    let mut numbers = Vec::new();
    for task in tasks {
        numbers.push(task.await.expect("no panic").expect("added"));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
    for log in &logs {
        let verdict = log.verify().await.expect("readable");
        assert_eq!((verdict.rows, verdict.broken), (100, None));
    }
    for log in &logs {
        log.append(AuditEvent::new(at(0), "key_a", "key.revoke", "key_b")).await.expect("added");
    }
    home.ask("ALTER TABLE audit DISABLE TRIGGER USER; DELETE FROM audit WHERE number > 100");
    for log in &logs {
        let verdict = log.verify().await.expect("readable");
        assert_eq!(verdict.broken.map(|(row, _)| row), Some(101), "each gateway knows where its end was");
    }
}

#[tokio::test]
async fn gateways_that_start_at_once_make_the_tables_once_and_a_newer_version_is_left_alone() {
    let home = Home::postgres();
    let gateways: Vec<_> = (0..4).map(|_| home.open()).collect();
    let opened = futures(&gateways).await;
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    assert_eq!(home.ask("SELECT count(*) FROM penstock_tables WHERE steps > 0"), "1");
    home.ask("UPDATE penstock_tables SET steps = 99");
    let refused = home.open().open().await.expect_err("newer");
    assert!(refused.say().contains("made by a newer Penstock"), "{refused}");
}

async fn futures(gateways: &[Arc<Postgres>]) -> Vec<Result<(), penstock_domain::Error>> {
    let tasks: Vec<_> = gateways
        .iter()
        .map(|gateway| {
            let gateway = Arc::clone(gateway);
            tokio::spawn(async move { gateway.open().await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.expect("no panic"));
    }
    outcomes
}

#[tokio::test]
async fn a_gateway_with_another_pepper_is_told_how_to_mend_it() {
    let home = Home::postgres();
    let (first, other) = (Pepper::new([1; 32]), Pepper::new([2; 32]));
    home.open().check_pepper(&first).await.expect("the first one counts");
    home.open().check_pepper(&first).await.expect("the same again");
    let refused = home.open().check_pepper(&other).await.expect_err("another one");
    assert!(refused.say().contains("copy the file `pepper`"), "{refused}");
    let kept = home.ask("SELECT encode(pepper, 'hex') FROM store");
    assert!(!kept.contains(&"01".repeat(8)), "the pepper itself is not in the database");
}

#[tokio::test]
async fn what_is_wrong_with_an_address_is_told_without_its_password() {
    let home = Home::postgres();
    let good = home.address().to_owned();
    let gateway = |address: &str| Postgres::new(&Secret::new(address), GatewayId::random());
    let wrong = [
        (good.replace("a%20pass", "hunter2"), "refuses the user or the password"),
        (good.clone() + "_not_there", "there is no database"),
        (good.replace(":a%20pass%2Fword%3Awith%40signs@127.0.0.1:", ":hunter2@127.0.0.1:1"), "not"),
    ];
    for (address, says) in wrong {
        let error = match gateway(&address) {
            Ok(database) => database.open().await.expect_err("wrong"),
            Err(error) => error,
        };
        let whole = format!("{error:?} {error}");
        assert_eq!(error.code(), Code::StoreUnavailable);
        assert!(error.say().contains(says), "{error}");
        assert!(
            !whole.contains("hunter2") && !whole.contains("a%20pass") && !whole.contains("a pass"),
            "{whole}"
        );
    }
    let unknown = gateway(&(good + "?passwort=hunter2")).expect_err("not known");
    assert!(unknown.say().contains("parameter number 1") && !unknown.say().contains("hunter2"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_or_crashes_costs_a_bounded_wait_and_nothing_that_was_kept() {
    let server = Server::start();
    let address = server.database();
    let store = Postgres::new(&Secret::new(address.as_str()), GatewayId::random()).expect("an address");
    store.append(&[record("req_1", 1)]).await.expect("kept");
    server.pause();
    let begun = Instant::now();
    let asked = tokio::join!(KeyStore::revision(&store), store.one("req_1"), store.tend(at(0)));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for error in [asked.0.err(), asked.1.err(), asked.2.err()] {
        assert_eq!(error.map(|error| error.code()), Some(Code::StoreUnavailable));
    }
    let batch = [record("req_2", 2), record("req_3", 3)];
    assert!(store.append(&batch).await.is_err());
    server.go_on();
    written_at_last(&store, &batch).await;
    server.crash();
    assert!(store.one("req_1").await.is_err());
    server.restart();
    written_at_last(&store, &[record("req_4", 4)]).await;
    let report = store.usage(&By::Key, hours()).await.expect("a report");
    assert_eq!(report.total.requests, 4, "what was tried again is there once");
}

async fn written_at_last(store: &Postgres, batch: &[Record]) {
    let end = Instant::now() + Duration::from_secs(30);
    while let Err(error) = store.append(batch).await {
        assert!(Instant::now() < end, "it is not written again: {error:?}");
    }
}
