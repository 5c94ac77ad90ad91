//! The ledger's promises, executed against the file and a real PostgreSQL.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

mod homes;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use penstock_admission::ledger::{
    Batch, Called, End, Entry, LedgerStore, Open, Pending, Recovered, Sums, Tended, Written,
};
use penstock_admission::{Admission, Allowance, Claim, Level, Need, Now, Output, Permit, Rules, Truth};
use penstock_domain::{Cost, Money, Price, Rates, RequestId, Tags, Tariff, Usage};
use penstock_observe::store::{By, Group, Hours};

use homes::{Home, Ledger};

/// 2026-11-23T17:00:00Z.
fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_453_200)
}

/// One micro-dollar for each token.
fn tariff() -> Tariff {
    let one = Price::per_million("1").expect("a price");
    Tariff { rates: Rates { input: one, output: Some(one), ..Rates::default() }, long: None }
}

fn entry(id: &str, after: Duration, cost: u64) -> Entry {
    let mut open = Open::left(RequestId::new(id), wall(), Need { input: 9, output: 9, micros: 18 });
    open.key = "key_a".into();
    open.team = Some("support".into());
    open.model = Some("large".into());
    open.tags = [("app", "shop")].into_iter().collect();
    Entry {
        open: Arc::new(open),
        held: Need::default(),
        end: End::Settled,
        at: wall() + after,
        usage: Some(Usage { input: cost, output: 0, ..Usage::default() }),
        estimated: false,
        cost: Cost::Known(Money::from_micros(cost)),
        calls: Box::default(),
        kept: false,
    }
}

async fn write(ledger: &dyn Ledger, closed: Vec<Entry>) -> Written {
    ledger.write(&Batch { closed, ..Batch::default() }).await.expect("written")
}

async fn spent(ledger: &dyn Ledger, now: SystemTime) -> Vec<(Level, Box<str>, Sums)> {
    let mut spent = ledger.recover(now).await.expect("readable").spent;
    spent.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    spent
}

#[tokio::test]
async fn what_was_spent_is_known_by_day_month_and_ever_on_every_level() {
    for home in Home::each() {
        let ledger = home.ledger();
        let day = Duration::from_secs(86_400);
        write(
            &*ledger,
            vec![entry("req_1", Duration::ZERO, 5), entry("req_2", day, 7), entry("req_3", 9 * day, 11)],
        )
        .await;
        let sums = |day, month| Sums { day, month, lifetime: 23 };
        let all = |sums| {
            let names = [
                (Level::Key, "key_a"),
                (Level::Team, "support"),
                (Level::Organisation, ""),
                (Level::Model, "large"),
            ];
            names.map(|(level, name)| (level, Box::<str>::from(name), sums)).to_vec()
        };
        assert_eq!(spent(&*ledger, wall() + 9 * day).await, all(sums(11, 11)), "the second of December");
        let report = ledger.spend(&By::Team, Hours::around(wall(), wall() + day)).await.expect("a report");
        assert_eq!(
            (report.total.requests, report.total.cost),
            (1, 5),
            "the next day begins an hour that is not part of it"
        );
        let report = ledger
            .spend(&By::Tag("app".into()), Hours::around(wall(), wall() + 10 * day))
            .await
            .expect("a report");
        assert_eq!((&report.rows[0].0, report.rows[0].1.cost), (&Group::Named("shop".into()), 23));
    }
}

fn called(provider: &str, micros: u64) -> Called {
    Called { provider: provider.into(), micros, stake: None }
}

#[tokio::test]
async fn what_each_provider_was_paid_is_known_by_day_month_and_ever() {
    for home in Home::each() {
        let ledger = home.ledger();
        let day = Duration::from_secs(86_400);
        let paid = |id: &str, after, cost, calls: Vec<Called>| {
            let entry = entry(id, after, cost);
            calls.iter().for_each(|call| entry.open.asks(&call.provider));
            Entry { calls: calls.into(), ..entry }
        };
        let entries = vec![
            paid("req_1", Duration::ZERO, 5, vec![called("cheap", 5)]),
            // Somebody answered after somebody else had failed, and both send a bill.
            paid("req_2", day, 7, vec![called("cheap", 3), called("dear", 4)]),
            paid("req_3", 9 * day, 11, vec![called("cheap", 11)]),
        ];
        let written = write(&*ledger, entries).await;
        assert!(written.totals.contains(&(Level::Provider, "cheap".into(), 19)), "{written:?}");
        write(&*ledger, vec![paid("req_3", 9 * day, 11, vec![called("cheap", 1_000)])]).await;
        let now = wall() + 9 * day;
        let cheap = Sums { day: 11, month: 11, lifetime: 19 };
        let dear = Sums { lifetime: 4, ..Sums::default() };
        let mut of_providers = spent(&*ledger, now).await;
        of_providers.retain(|(level, ..)| *level == Level::Provider);
        let expected =
            [(Level::Provider, "cheap".into(), cheap), (Level::Provider, "dear".into(), dear)].to_vec();
        assert_eq!(of_providers, expected, "{}", home.name());
        let accounts = ["dear", "cheap", "none"].map(|name| (Level::Provider, Arc::from(name)));
        let spent = ledger.spent(&accounts, now).await.expect("readable");
        assert_eq!(spent, [dear, cheap, Sums::default()]);
    }
}

#[tokio::test]
async fn a_request_has_one_end_and_no_second_one() {
    for home in Home::each() {
        let ledger = home.ledger();
        write(&*ledger, vec![entry("req_1", Duration::ZERO, 5)]).await;
        let written =
            write(&*ledger, vec![entry("req_2", Duration::ZERO, 7), entry("req_1", Duration::ZERO, 1_000)])
                .await;
        assert_eq!(written.totals.len(), 4);
        assert!(written.totals.iter().all(|(_, _, total)| *total == 12), "{written:?}");
        let all = spent(&*ledger, wall()).await;
        assert!(all.iter().all(|(_, _, sums)| *sums == Sums { day: 12, month: 12, lifetime: 12 }), "{all:?}");
    }
}

fn reserve(admission: &Arc<Admission>, now: Now) -> Permit {
    reserve_as(RequestId::new("req_open"), admission, now)
}

fn reserve_as(id: RequestId, admission: &Arc<Admission>, now: Now) -> Permit {
    let key = Arc::from("key_a");
    let claim = Claim {
        id: &id,
        tags: &Tags::default(),
        key: &key,
        own: Allowance::default(),
        team: None,
        model: None,
        input: 100,
        output: Output::Bound(100),
        tariff: Some(&tariff()),
    };
    admission.reserve(&Rules::default(), claim, now, || 100).1.expect("no limits")
}

#[tokio::test]
async fn what_a_crash_left_open_is_settled_once_with_what_was_known() {
    for home in Home::each() {
        let now = Now { at: Instant::now(), wall: wall() };
        let store = home.ledger();
        let (admission, writer) = Admission::with_ledger(now.at, Arc::clone(&store) as Arc<dyn LedgerStore>);
        let admission = Arc::new(admission);
        let called = reserve(&admission, now);
        called.calling(&"vendor".into());
        called.used(Some(40), 7);
        admission.close();
        writer.run().await;
        // Nobody settles.
        std::mem::forget(called);
        let next = home.ledger();
        assert_eq!(next.recover(wall()).await.expect("readable").orphans, 0, "its gateway lives");
        let tended = next.tend(wall()).await.expect("readable");
        assert_eq!((tended.orphans, tended.living.len()), (0, 2));
        home.bury(store);
        let recovered = next.recover(wall()).await.expect("readable");
        let sums = Sums { day: 47, month: 47, lifetime: 47 };
        assert_eq!(recovered.orphans, 1);
        for (level, name) in [(Level::Key, "key_a"), (Level::Provider, "vendor")] {
            assert!(recovered.spent.contains(&(level, name.into(), sums)), "{recovered:?}");
        }
        assert_eq!(next.tend(wall()).await.expect("readable").living.len(), 1);
        let accounts =
            [(Level::Key, "key_a".into()), (Level::Organisation, "".into()), (Level::Team, "no".into())];
        let spent = next.spent(&accounts, wall()).await.expect("readable");
        assert_eq!(spent, [sums, sums, Sums::default()]);
        let again = next.recover(wall()).await.expect("readable");
        assert_eq!((again.orphans, again.spent.len()), (0, recovered.spent.len()));
        let report = next
            .spend(&By::Key, Hours::around(wall(), wall() + Duration::from_secs(1)))
            .await
            .expect("a report");
        assert_eq!((report.total.requests, report.total.estimated, report.total.cost), (1, 1, 47));
    }
}

#[tokio::test]
async fn short_requests_cost_one_row_and_what_used_nothing_is_refunded() {
    for home in Home::each() {
        let now = Now { at: Instant::now(), wall: wall() };
        let store = home.ledger();
        let (admission, writer) = Admission::with_ledger(now.at, Arc::clone(&store) as Arc<dyn LedgerStore>);
        let admission = Arc::new(admission);
        let usage = Usage { input: 3, output: 4, ..Usage::default() };
        let truth = Truth { usage: Some(usage), estimated: false, cost: tariff().cost(&usage), whole: true };
        reserve(&admission, now).settle(truth, wall(), now);
        admission.close();
        writer.run().await;
        let report = store
            .spend(&By::Key, Hours::around(wall(), wall() + Duration::from_secs(1)))
            .await
            .expect("a report");
        assert_eq!((report.total.requests, report.total.cost), (1, 7));
        assert_eq!(store.recover(wall()).await.expect("readable").orphans, 0, "nothing was left open");
    }
}

/// A ledger that shows what it is told is open.
struct Shown(Arc<dyn Ledger>, Mutex<Vec<Arc<Open>>>);

impl LedgerStore for Shown {
    fn write<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Written> {
        self.1.lock().expect("unpoisoned").extend_from_slice(&batch.opened);
        self.0.write(batch)
    }

    fn recover(&self, now: SystemTime) -> Pending<'_, Recovered> {
        self.0.recover(now)
    }

    fn tend(&self, now: SystemTime) -> Pending<'_, Tended> {
        self.0.tend(now)
    }

    fn spent<'a>(&'a self, accounts: &'a [(Level, Arc<str>)], now: SystemTime) -> Pending<'a, Vec<Sums>> {
        self.0.spent(accounts, now)
    }
}

#[tokio::test]
async fn of_more_open_requests_than_one_statement_takes_each_keeps_its_own_use_and_end() {
    for home in Home::each() {
        let many = 64 + 16 + 2 * 4 + 3;
        let now = Now { at: Instant::now(), wall: wall() };
        let store = Arc::new(Shown(home.ledger(), Mutex::default()));
        let (admission, writer) = Admission::with_ledger(now.at, Arc::clone(&store) as Arc<dyn LedgerStore>);
        let admission = Arc::new(admission);
        let permits: Vec<_> = (0..many)
            .map(|place| reserve_as(RequestId::new(format!("req_{place:03}")), &admission, now))
            .collect();
        permits.iter().for_each(|permit| permit.calling(&"vendor".into()));
        admission.close();
        writer.run().await;
        for (place, permit) in (0..).zip(&permits) {
            permit.used(Some(100 + place), 7);
        }
        let open = store.1.lock().expect("unpoisoned").clone();
        store.write(&Batch { grown: open.clone(), ..Batch::default() }).await.expect("written");
        // Those with an even number end, and cost one.
        let ends = |open: &&Arc<Open>| open.id.as_str().ends_with(['0', '2', '4', '6', '8']);
        let end = |open| Entry { open: Arc::clone(open), kept: true, ..entry("", Duration::ZERO, 1) };
        let closed: Vec<_> = open.iter().filter(ends).map(end).collect();
        let ended = closed.len() as u64;
        store.write(&Batch { closed, ..Batch::default() }).await.expect("written");
        permits.into_iter().for_each(std::mem::forget);
        let dead = Arc::clone(&store.0);
        drop((store, admission));
        home.bury(dead);
        let recovered = home.ledger().recover(wall()).await.expect("readable");
        assert_eq!((open.len() as u64, recovered.orphans), (many, many - ended), "{}", home.name());
        let used: u64 = (0..many).filter(|place| place % 2 == 1).map(|place| 107 + place).sum();
        let all = recovered.spent.iter().find(|(level, _, _)| *level == Level::Organisation);
        assert_eq!(all.map(|(_, _, sums)| sums.lifetime), Some(used + ended), "{}", home.name());
    }
}
