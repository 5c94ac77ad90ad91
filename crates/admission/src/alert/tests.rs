//! Each part of a budget is told once, whatever happens beside.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use penstock_config::{AlertAt, Usd};
use penstock_domain::{Cost, Price, Rates, RequestId, Tags, Tariff, Usage};

use super::*;
use crate::{Admission, Allowance, Claim, Need, Now, Output, Permit, Rules, Truth};

/// A gateway with one key that has a budget of micro-dollars, one for each token.
struct Bench {
    admission: Arc<Admission>,
    crossings: mpsc::Receiver<Crossing>,
    start: Instant,
    budget: Budget,
    tariff: Tariff,
}

impl Bench {
    fn new(micros: u64, per: Per) -> Self {
        let start = Instant::now();
        let (admission, crossings) = Admission::new(start).with_bell();
        let one = Price::per_million("1").expect("a price");
        Self {
            admission: Arc::new(admission),
            crossings,
            start,
            budget: Budget::new(Usd(Money::from_micros(micros)), per),
            tariff: Tariff { rates: Rates { input: one, output: Some(one), ..Rates::default() }, long: None },
        }
    }

    fn now(&self, days: u64) -> Now {
        // 2026-11-23T17:00:00Z.
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_453_200 + days * 86_400);
        Now { at: self.start + Duration::from_secs(days * 86_400), wall }
    }

    fn ask(&self, tokens: u64, days: u64) -> Option<Permit> {
        let (id, tags, key) = (RequestId::new("req_a"), Tags::default(), "key_a".into());
        let claim = Claim {
            id: &id,
            tags: &tags,
            key: &key,
            own: Allowance { budget: Some(self.budget), ..Allowance::default() },
            team: None,
            model: None,
            input: tokens,
            output: Output::Bound(0),
            tariff: Some(&self.tariff),
        };
        self.admission.reserve(&Rules::default(), claim, self.now(days), || tokens).1.ok()
    }

    fn settle(&self, permit: Permit, tokens: u64, days: u64) {
        let usage = Usage { input: tokens, ..Usage::default() };
        let cost = Cost::Known(Money::from_micros(tokens));
        let truth = Truth { usage: Some(usage), cost, ..Truth::default() };
        permit.settle(truth, self.now(days).wall, self.now(days));
    }

    fn spend(&self, tokens: u64, days: u64) {
        let permit = self.ask(tokens, days).expect("there is money");
        self.settle(permit, tokens, days);
    }

    fn heard(&mut self) -> Vec<(u8, u64)> {
        std::iter::from_fn(|| self.crossings.try_recv().ok()).map(|c| (c.percent, c.spent.micros())).collect()
    }
}

#[test]
fn a_part_is_told_when_it_is_spent_and_not_again() {
    let mut bench = Bench::new(100, Per::Month);
    bench.spend(49, 0);
    assert_eq!(bench.heard(), []);
    bench.spend(1, 0);
    assert_eq!(bench.heard(), [(50, 50)]);
    bench.spend(20, 0);
    // What is held is not spent.
    let held = bench.ask(30, 0).expect("there is money");
    assert_eq!(bench.heard(), []);
    bench.settle(held, 0, 0);
    assert_eq!(bench.heard(), []);
    bench.spend(30, 0);
    assert_eq!(bench.heard(), [(80, 100), (100, 100)]);
    bench.spend(0, 0);
    assert_eq!(bench.heard(), []);
}

#[test]
fn a_crossing_says_whose_budget_and_when_it_begins_anew() {
    let mut bench = Bench::new(100, Per::Month);
    bench.spend(55, 0);
    let crossing = bench.crossings.try_recv().expect("a crossing");
    assert_eq!((crossing.level, &*crossing.name, crossing.percent), (Level::Key, "key_a", 50));
    assert_eq!(penstock_domain::calendar::date(crossing.begun), "2026-11-01");
    assert_eq!(penstock_domain::calendar::date(crossing.renewed.expect("a month ends")), "2026-12-01");

    let mut bench = Bench::new(100, Per::Day);
    bench.spend(55, 0);
    let crossing = bench.crossings.try_recv().expect("a crossing");
    assert_eq!(penstock_domain::calendar::date(crossing.begun), "2026-11-23");

    let mut bench = Bench::new(100, Per::Lifetime);
    bench.spend(55, 0);
    let crossing = bench.crossings.try_recv().expect("a crossing");
    assert_eq!((crossing.begun, crossing.renewed), (SystemTime::UNIX_EPOCH, None));
}

#[test]
fn the_next_day_has_parts_of_its_own() {
    let mut bench = Bench::new(100, Per::Day);
    bench.spend(60, 0);
    assert_eq!(bench.heard(), [(50, 60)]);
    bench.spend(40, 1);
    assert_eq!(bench.heard(), []);
    bench.spend(10, 1);
    assert_eq!(bench.heard(), [(50, 50)]);
}

#[test]
fn another_budget_is_looked_at_from_the_beginning() {
    let mut bench = Bench::new(100, Per::Month);
    bench.spend(60, 0);
    assert_eq!(bench.heard(), [(50, 60)]);
    bench.budget.alert_at = AlertAt::NONE.with(55).with(90);
    bench.spend(1, 0);
    assert_eq!(bench.heard(), [(55, 61)]);
    bench.budget.alert_at = AlertAt::NONE;
    bench.spend(39, 0);
    assert_eq!(bench.heard(), []);
}

#[test]
fn a_refusal_means_exhausted_only_when_little_is_left() {
    let mut bench = Bench::new(100, Per::Month);
    bench.spend(60, 0);
    assert_eq!(bench.heard(), [(50, 60)]);
    assert!(bench.ask(50, 0).is_none());
    assert_eq!(bench.heard(), [], "somebody asked for much");
    let held = bench.ask(31, 0).expect("there is money");
    assert!(bench.ask(20, 0).is_none());
    assert_eq!(bench.heard(), [], "what is held may come back");
    bench.settle(held, 31, 0);
    assert_eq!(bench.heard(), [(80, 91)]);
    assert!(bench.ask(20, 0).is_none());
    assert_eq!(bench.heard(), [(100, 91)]);
    assert!(bench.ask(20, 0).is_none());
    bench.spend(9, 0);
    assert_eq!(bench.heard(), []);
}

#[test]
fn a_thousand_requests_at_once_tell_each_part_once() {
    let mut bench = Bench::new(1_000, Per::Month);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..125).for_each(|_| bench.spend(1, 0)));
        }
    });
    let mut counts = BTreeMap::new();
    for (percent, spent) in bench.heard() {
        assert_eq!(spent, u64::from(percent) * 10, "told at the moment");
        *counts.entry(percent).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([(50, 1), (80, 1), (100, 1)]));
}

#[test]
fn what_finds_no_room_is_told_later() {
    let mut bench = Bench::new(1_000, Per::Day);
    let days = WAITING as u64 / 3 + 2;
    for day in 0..days {
        bench.spend(1_000, day);
    }
    let first = bench.heard();
    assert_eq!(first.len(), WAITING);
    // 1,024 is three times 341 and one: of day 341 one part was told.
    bench.spend(0, days - 1);
    let again = bench.heard();
    assert_eq!(again.iter().map(|(percent, _)| *percent).collect::<Vec<_>>(), [50, 80, 100]);
}

#[test]
fn a_standing_tells_every_part_that_is_spent() {
    let bench = Bench::new(100, Per::Month);
    bench.spend(85, 0);
    let standings = bench.admission.standings(&Rules::default(), bench.now(0));
    let key = standings.iter().find(|one| one.level == Level::Key).expect("an account");
    let parts: Vec<u8> =
        Crossing::of(key, bench.now(0).wall).iter().map(|crossing| crossing.percent).collect();
    assert_eq!(parts, [50, 80]);
    assert_eq!(penstock_domain::calendar::date(Crossing::of(key, bench.now(0).wall)[0].begun), "2026-11-01");
    assert_eq!(Need::default(), key.held);
}

#[test]
fn what_other_gateways_spent_is_told_once_and_so_is_their_refusal() {
    let mut bench = Bench::new(100, Per::Lifetime);
    let bell = bench.admission.bell.clone().expect("somebody listens");
    let budget = bench.budget;
    let fresh = || {
        let mut state = State::default();
        state.allowance.budget = Some(budget);
        state
    };
    let (name, mut own) = ("key_a".into(), fresh());
    let mut hear = |spent: u64, refused: Option<&Need>| {
        let mut all = fresh();
        all.spent.add(spent);
        bell.hear(Level::Key, &name, (&mut own, &mut all), refused);
    };
    let need = Need { micros: 20, ..Need::default() };
    hear(40, None);
    hear(79, Some(&need));
    hear(85, Some(&need));
    // Somebody asked for much; now little is left.
    hear(95, Some(&need));
    hear(95, Some(&need));
    hear(100, None);
    assert_eq!(bench.heard(), [(50, 79), (80, 85), (100, 95)]);
}
