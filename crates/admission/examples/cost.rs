//! What limits and the ledger's side of the path cost a request: reserve, three looks at the answer, settle, with limits and
//! budgets on four accounts.
//!
//! `cargo run --release -p penstock-admission --example cost`

use std::future::ready;
use std::io::Write;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use penstock_admission::ledger::{Batch, LedgerStore, Pending, Recovered, Sums, Tended, Written};
use penstock_admission::{Admission, Allowance, Claim, Level, Limits, Now, Output, Rules, Truth};
use penstock_config::{Budget, Per, Usd};
use penstock_domain::{Money, Price, Rates, RequestId, Tags, Tariff, Usage};

const ROUNDS: u32 = 200_000;

/// Takes everything and keeps nothing: what is measured is the path.
struct Nowhere;

impl LedgerStore for Nowhere {
    fn write<'a>(&'a self, _: &'a Batch) -> Pending<'a, Written> {
        Box::pin(ready(Ok(Written::default())))
    }

    fn recover(&self, _: SystemTime) -> Pending<'_, Recovered> {
        Box::pin(ready(Ok(Recovered::default())))
    }

    fn tend(&self, _: SystemTime) -> Pending<'_, Tended> {
        Box::pin(ready(Ok(Tended::default())))
    }

    fn spent<'a>(&'a self, _: &'a [(Level, Arc<str>)], _: SystemTime) -> Pending<'a, Vec<Sums>> {
        Box::pin(ready(Ok(Vec::new())))
    }
}

fn run(admission: &Arc<Admission>, own: Allowance, tariff: &Tariff) -> u128 {
    let (key, team, model): (Arc<str>, Arc<str>, Arc<str>) =
        ("key_a".into(), "support".into(), "large".into());
    let provider: Arc<str> = "vendor".into();
    let (id, tags, rules) =
        (RequestId::new("req_0123456789abcdef01234567"), Tags::default(), Rules::default());
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        let claim = Claim {
            id: &id,
            tags: &tags,
            key: &key,
            own,
            team: Some(&team),
            model: Some(&model),
            input: 2_000,
            output: Output::Free { cold: 4_096, choices: 1 },
            tariff: Some(tariff),
        };
        let (_, permit) = admission.reserve(&rules, claim, Now::read(), || 500);
        let Ok(permit) = permit else { continue };
        permit.calling(&provider);
        for tokens in [50, 100, 150] {
            permit.used(None, tokens);
        }
        let usage = Usage { input: 500, output: 150, ..Usage::default() };
        let truth = Truth { usage: Some(usage), estimated: false, cost: tariff.cost(&usage), whole: true };
        let now = Now::read();
        permit.settle(truth, now.wall, now);
    }
    begin.elapsed().as_nanos() / u128::from(ROUNDS)
}

fn main() -> std::io::Result<()> {
    let price = Price::per_million("1");
    let tariff = Tariff {
        rates: Rates { input: price.unwrap_or_default(), output: price, ..Rates::default() },
        long: None,
    };
    let limits = Limits {
        requests_per_minute: Some(u32::MAX),
        tokens_per_minute: Some(1 << 50),
        output_tokens_per_day: Some(1 << 50),
        concurrent_requests: Some(1_000),
        ..Limits::default()
    };
    let budget = Some(Budget::new(Usd(Money::from_micros(1 << 50)), Per::Month));
    let mut out = std::io::stdout().lock();
    let plain = Arc::new(Admission::new(Instant::now()));
    let (kept, writer) = Admission::with_ledger(Instant::now(), Arc::new(Nowhere));
    let kept = Arc::new(kept);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::spawn(move || runtime.block_on(writer.run()));
    for (what, admission, own) in [
        ("no limits, no ledger", &plain, Allowance::default()),
        ("limits and a budget, no ledger", &plain, Allowance { limits, budget }),
        ("limits and a budget, with the ledger's queue", &kept, Allowance { limits, budget }),
    ] {
        run(admission, own, &tariff);
        writeln!(out, "{what}: {} ns per request", run(admission, own, &tariff))?;
    }
    Ok(())
}
