mod interleavings;

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use penstock_config::{Budget, Limits, Per, Usd};
use penstock_domain::{Code, Cost, Money, Price, Rates, Retry, Usage};

use super::*;
use crate::permit::Truth;

/// One micro-dollar for each token.
fn tariff() -> Tariff {
    let one = Price::per_million("1").expect("a price");
    Tariff { rates: Rates { input: one, output: Some(one), ..Rates::default() }, long: None }
}

fn budget(micros: u64, per: Per) -> Option<Budget> {
    Some(Budget::new(Usd(Money::from_micros(micros)), per))
}

/// A gateway with one key of one team.
struct Bench {
    admission: Arc<Admission>,
    start: Instant,
    wall: SystemTime,
    rules: Rules,
    tariff: Tariff,
    key: Arc<str>,
    team: Arc<str>,
    model: Arc<str>,
    id: RequestId,
    tags: Tags,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            admission: Arc::new(Admission::new(start)),
            start,
            // 2026-11-23T17:00:00Z.
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_453_200),
            rules: Rules::default(),
            tariff: tariff(),
            key: "a".into(),
            team: "support".into(),
            model: "large".into(),
            id: RequestId::new("req_test"),
            tags: Tags::default(),
        }
    }

    fn now(&self, after: Duration) -> Now {
        Now { at: self.start + after, wall: self.wall + after }
    }

    fn claim(&self, own: Allowance, input: u64, output: Output) -> Claim<'_> {
        Claim {
            id: &self.id,
            tags: &self.tags,
            key: &self.key,
            own,
            team: Some(&self.team),
            model: Some(&self.model),
            input,
            output,
            tariff: Some(&self.tariff),
        }
    }

    /// Asks for a bound that nobody could count more exactly.
    fn ask(
        &self,
        own: Allowance,
        (input, output): (u64, u64),
        after: Duration,
    ) -> (Rate, Result<Permit, Error>) {
        let claim = self.claim(own, input, Output::Bound(output));
        self.admission.reserve(&self.rules, claim, self.now(after), || input)
    }

    fn standing(&self, level: Level) -> Standing {
        let all = self.admission.standings(&self.rules, self.now(Duration::ZERO));
        all.into_iter().find(|one| one.level == level).expect("an account")
    }

    fn settle(&self, permit: Permit, (input, output): (u64, u64), after: Duration) {
        let usage = Usage { input, output, ..Usage::default() };
        let truth =
            Truth { usage: Some(usage), cost: self.tariff.cost(&usage), estimated: false, whole: true };
        let now = self.now(after);
        permit.settle(truth, now.wall, now);
    }
}

fn limits(limits: Limits) -> Allowance {
    Allowance { limits, budget: None }
}

fn requests(requests_per_minute: Option<u32>, concurrent_requests: Option<u32>) -> Allowance {
    limits(Limits { requests_per_minute, concurrent_requests, ..Limits::default() })
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Code {
    outcome.expect_err("refused").code()
}

#[test]
fn a_permit_gives_its_slot_back_when_it_drops() {
    let bench = Bench::new();
    let two = requests(None, Some(2));
    let ask = || bench.ask(two, (0, 0), Duration::ZERO).1;
    let (first, second) = (ask().expect("one"), ask().expect("two"));
    assert_eq!(code(ask()), Code::ConcurrencyLimitExceeded);
    drop(first);
    let third = ask().expect("the slot is free again");
    drop((second, third));
    assert_eq!(bench.admission.in_flight("a"), 0);
}

#[test]
fn a_refusal_uses_up_nothing_of_any_account() {
    let mut bench = Bench::new();
    let team = limits(Limits { tokens_per_minute: Some(100), ..Limits::default() });
    bench.rules = Rules { teams: [("support".into(), team)].into(), ..Rules::default() };
    let own = Allowance { budget: budget(50, Per::Day), ..requests(Some(9), Some(1)) };
    for _ in 0..10 {
        let (rate, refused) = bench.ask(own, (30, 30), Duration::ZERO);
        assert_eq!(code(refused), Code::BudgetExceeded, "60 micro-dollars of 50");
        assert_eq!(rate.requests.expect("limited").remaining, 9);
        assert_eq!(rate.tokens.expect("limited").remaining, 100);
        let (_, refused) = bench.ask(limits(Limits::default()), (50, 51), Duration::ZERO);
        assert_eq!(code(refused), Code::RateLimitExceeded, "101 tokens of the team's 100");
    }
    for level in [Level::Key, Level::Team, Level::Organisation] {
        let all = bench.admission.standings(&bench.rules, bench.now(Duration::ZERO));
        for one in all.iter().filter(|one| one.level == level) {
            assert_eq!(
                (one.in_flight, one.held, one.spent),
                (0, Need::default(), Sums::default()),
                "{level:?}"
            );
        }
    }
}

#[test]
fn the_wait_that_is_told_is_the_wait_that_helps() {
    let bench = Bench::new();
    let own =
        limits(Limits { requests_per_minute: Some(7), tokens_per_minute: Some(700), ..Limits::default() });
    for _ in 0..7 {
        let permit = bench.ask(own, (50, 50), Duration::ZERO).1.expect("within the limit");
        bench.settle(permit, (50, 50), Duration::ZERO);
    }
    let error = bench.ask(own, (100, 50), Duration::ZERO).1.expect_err("the eighth");
    let Retry::After(wait) = error.retry() else { panic!("no wait told: {error:?}") };
    assert!(wait > Duration::from_secs(12), "150 tokens take longer than one request: {wait:?}");
    assert!(bench.ask(own, (100, 50), wait - Duration::from_nanos(1)).1.is_err());
    assert!(bench.ask(own, (100, 50), wait).1.is_ok());
}

#[test]
fn what_never_fits_is_refused_without_a_wait() {
    let bench = Bench::new();
    let own = limits(Limits { tokens_per_minute: Some(100), ..Limits::default() });
    let error = bench.ask(own, (60, 60), Duration::ZERO).1.expect_err("120 of 100");
    assert_eq!((error.code(), error.retry()), (Code::RateLimitExceeded, Retry::Never));
    assert!(error.say().contains("120 tokens") && error.say().contains("100 per minute"), "{error}");
}

#[test]
fn a_refusal_says_whose_limit_it_is_and_what_is_left() {
    let mut bench = Bench::new();
    let team = Allowance { budget: budget(1_000_000, Per::Month), ..Allowance::default() };
    bench.rules = Rules { teams: [("support".into(), team)].into(), ..Rules::default() };
    let permit = bench.ask(Allowance::default(), (0, 400_000), Duration::ZERO).1.expect("affordable");
    bench.settle(permit, (0, 400_000), Duration::ZERO);
    let error = bench.ask(Allowance::default(), (0, 700_000), Duration::ZERO).1.expect_err("too dear");
    let expected = "the budget of the team support (1 USD per month) has 0.600000 USD left and this request may cost \
                    0.700000; it begins anew on 2026-12-01 (UTC)";
    assert_eq!((error.say(), error.retry()), (expected, Retry::Never));
}

#[test]
fn a_key_without_limits_is_not_held_back_and_told_nothing() {
    let bench = Bench::new();
    let ask = || {
        let (rate, permit) = bench.ask(Allowance::default(), (1_000, 1_000), Duration::ZERO);
        assert_eq!(rate, Rate::default());
        permit.expect("unlimited")
    };
    let permits: Vec<_> = (0..1_000).map(|_| ask()).collect();
    assert_eq!(bench.admission.in_flight("a"), 1_000);
    drop(permits);
    assert_eq!(bench.admission.in_flight("a"), 0);
}

#[test]
fn the_prompt_is_counted_only_where_that_can_change_anything() {
    let bench = Bench::new();
    let own = limits(Limits { input_tokens_per_minute: Some(16_000), ..Limits::default() });
    let reserve = |input| {
        let mut counted = false;
        let claim = bench.claim(own, input, Output::Bound(0));
        let outcome = bench.admission.reserve(&bench.rules, claim, bench.now(Duration::ZERO), || {
            counted = true;
            input / 4
        });
        (outcome.1.map(std::mem::forget).is_ok(), counted)
    };
    assert_eq!(reserve(1_000), (true, false), "a sixteenth of what is left");
    assert_eq!(reserve(1_000), (true, true), "more than a sixteenth");
    assert_eq!(bench.standing(Level::Key).held.input, 1_250);
    assert_eq!(reserve(40_000), (true, true), "it fits because it was counted");
    assert_eq!(reserve(40_000), (false, true));
}

#[test]
fn money_of_a_period_comes_back_with_the_next_and_a_clock_put_back_gives_nothing() {
    let bench = Bench::new();
    let own = Allowance { budget: budget(100, Per::Day), ..Allowance::default() };
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    let spend = |after| {
        let permit = bench.ask(own, (0, 100), after).1?;
        bench.settle(permit, (0, 100), after);
        Ok::<_, Error>(())
    };
    spend(hours(0)).expect("the first of the day");
    assert_eq!(code(spend(hours(6))), Code::BudgetExceeded, "the day has seven more hours");
    spend(hours(7)).expect("midnight has passed");
    assert_eq!(code(spend(hours(6))), Code::BudgetExceeded, "the clock was put back an hour");
    assert_eq!(code(spend(hours(8))), Code::BudgetExceeded, "midnight came a second time");
    spend(hours(31)).expect("the day after");
}

#[test]
fn without_a_price_a_budget_lets_nothing_through() {
    let bench = Bench::new();
    let own = Allowance { budget: budget(100, Per::Lifetime), ..Allowance::default() };
    let ask = |own| {
        let claim = Claim { tariff: None, ..bench.claim(own, 1, Output::Bound(1)) };
        bench.admission.reserve(&bench.rules, claim, bench.now(Duration::ZERO), || 1).1
    };
    assert_eq!(code(ask(own)), Code::PriceUnknown);
    assert!(ask(Allowance::default()).is_ok(), "where there is no budget nobody needs a price");
}

#[test]
fn an_answer_that_grows_is_lent_one_bucket_and_a_tenth_of_the_budget_and_then_ends() {
    let bench = Bench::new();
    let free = Output::Free { cold: 400, choices: 1 };
    for (own, most) in [
        (limits(Limits { output_tokens_per_minute: Some(1_000), ..Limits::default() }), 2_000),
        (Allowance { budget: budget(1_000, Per::Day), ..Allowance::default() }, 1_100),
    ] {
        let bench =
            Bench { admission: Arc::new(Admission::new(bench.start)), key: "b".into(), ..Bench::new() };
        let claim = bench.claim(own, 0, free);
        let now = bench.now(Duration::ZERO);
        let mut permit = bench.admission.reserve(&bench.rules, claim, now, || 0).1.expect("room");
        assert_eq!(
            permit.watch(),
            if own.budget.is_some() { 320 } else { 200 },
            "four fifths of what is held"
        );
        let (mut used, mut error) = (0, None);
        while error.is_none() {
            used += 10;
            assert!(used <= most + 400, "never without end");
            if used >= permit.watch() {
                error = permit.top_up(used, now).err();
            }
            let held = bench.standing(Level::Key).held.output;
            assert!(held <= most && (error.is_some() || held >= used), "{used} used, {held} held");
        }
        let code = error.expect("ended").code();
        let expected = if own.budget.is_some() { Code::BudgetExceeded } else { Code::RateLimitExceeded };
        assert_eq!(code, expected);
    }
}

#[test]
fn an_answer_of_unknown_length_begins_with_a_part_of_the_rate_and_not_with_the_models_bound() {
    let bench = Bench::new();
    let own = limits(Limits { tokens_per_minute: Some(500), ..Limits::default() });
    let claim = bench.claim(own, 100, Output::Free { cold: 4_096, choices: 1 });
    let permit =
        bench.admission.reserve(&bench.rules, claim, bench.now(Duration::ZERO), || 100).1.expect("room");
    assert_eq!(permit.held(), Need { input: 100, output: 100, micros: 200 });
}

#[test]
fn an_answer_with_a_bound_is_never_cut_off() {
    let bench = Bench::new();
    let own = limits(Limits { output_tokens_per_minute: Some(100), ..Limits::default() });
    let permit = bench.ask(own, (0, 100), Duration::ZERO).1.expect("room");
    assert_eq!(permit.watch(), u64::MAX);
}

#[test]
fn the_length_of_answers_is_learnt_and_held_whether_shorter_or_longer_than_the_first_guess() {
    let bench = Bench::new();
    let own = limits(Limits { output_tokens_per_minute: Some(1 << 40), ..Limits::default() });
    let free = Output::Free { cold: 4_096, choices: 1 };
    let reserve = || {
        let claim = bench.claim(own, 0, free);
        bench.admission.reserve(&bench.rules, claim, bench.now(Duration::ZERO), || 0).1.expect("room")
    };
    for _ in 0..64 {
        let permit = reserve();
        bench.settle(permit, (0, 200), Duration::ZERO);
    }
    let held = reserve();
    assert_eq!(bench.standing(Level::Key).held.output, 223, "the end of the step in which 200 is");
    drop(held);
    for _ in 0..2_000 {
        let permit = reserve();
        bench.settle(permit, (0, 9_000), Duration::ZERO);
    }
    let held = reserve();
    assert_eq!(bench.standing(Level::Key).held.output, 10_239);
    drop(held);
}

#[test]
fn a_thousand_requests_at_once_get_exactly_what_is_allowed() {
    const THREADS: usize = 20;
    const EACH: usize = 50;
    let bench = Bench::new();
    let barrier = Barrier::new(THREADS);
    let (passed, peak) = (AtomicUsize::new(0), AtomicU32::new(0));
    let own = Allowance { budget: budget(1_000, Per::Lifetime), ..requests(None, Some(3)) };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..EACH {
                    // A slot may be taken at this moment; the money may not be lost to that.
                    loop {
                        match bench.ask(own, (50, 50), Duration::ZERO).1 {
                            Ok(permit) => {
                                peak.fetch_max(bench.admission.in_flight("a"), Ordering::Relaxed);
                                passed.fetch_add(1, Ordering::Relaxed);
                                bench.settle(permit, (50, 50), Duration::ZERO);
                                break;
                            }
                            Err(error) if error.code() == Code::ConcurrencyLimitExceeded => {
                                std::thread::yield_now()
                            }
                            Err(_) => break,
                        }
                    }
                }
            });
        }
    });
    assert_eq!(passed.load(Ordering::Relaxed), 10, "ten at a hundred each");
    assert!(peak.load(Ordering::Relaxed) <= 3, "slots are exact under a race");
    let key = bench.standing(Level::Key);
    assert_eq!((key.in_flight, key.held, key.spent.lifetime, key.left), (0, Need::default(), 1_000, Some(0)));
}

#[test]
fn memory_is_bounded_by_the_keys_that_were_lately_active() {
    let mut bench = Bench::new();
    let own = requests(Some(60), None);
    bench.key = "long-lived".into();
    let held = bench.ask(own, (0, 0), Duration::ZERO).1.expect("first");
    for i in 0..100_000_u32 {
        // Each key's bucket is full again after a second; a hundred keys come per second.
        bench.key = format!("key-{i}").into();
        drop(bench.ask(own, (0, 0), Duration::from_millis(u64::from(i) * 10)).1.expect("first of its key"));
    }
    let remembered = bench.admission.remembered();
    assert!(remembered <= SHARDS * (FIRST_SWEEP + 1), "{remembered} accounts remembered");
    assert_eq!(
        bench.admission.in_flight("long-lived"),
        1,
        "a key with a request in flight is never forgotten"
    );
    drop(held);
}

#[test]
fn what_was_spent_before_the_start_counts() {
    let bench = Bench::new();
    let sums = |lifetime| Sums { day: lifetime, month: lifetime, lifetime };
    let recovered = Recovered { orphans: 0, spent: vec![(Level::Key, "a".into(), sums(70))] };
    bench.admission.restore(&bench.rules, &recovered, bench.wall);
    let own = Allowance { budget: budget(100, Per::Day), ..Allowance::default() };
    assert_eq!(code(bench.ask(own, (0, 31), Duration::ZERO).1), Code::BudgetExceeded);
    assert!(bench.ask(own, (0, 30), Duration::ZERO).1.is_ok());
    assert_eq!(
        Cost::Known(Money::from_micros(30)),
        bench.tariff.cost(&Usage { output: 30, ..Usage::default() })
    );
}
