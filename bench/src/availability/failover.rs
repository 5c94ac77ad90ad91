//! Rows 3, 6 and 16: how soon a failing target is left alone, and what one failover costs.
//!
//! A target that failed is soon not asked any more, so each trial has a target that nobody has asked before: models in
//! plenty, each first `a`, then the common spare at `b`.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::figures::{Figures, Target};
use crate::load::{Load, quantile};
use crate::rig::Rig;
use crate::wire::{Connection, chat};
use crate::{Options, Trouble};

/// Milliseconds that a provider has for its first token in row 16.
const FIRST_TOKEN_MS: u64 = 300;
/// The most targets of one gateway: a configuration has at most 20,000 values.
const MOST_TARGETS: u64 = 2_000;
/// The most requests until a target counts as never ejected.
const NEVER: u64 = 2_000;

/// Models `t0`, `t1`, … that begin at `a` and fall back to `spare` at `b`.
fn fresh(count: u64) -> Value {
    let mut models = Map::new();
    models.insert("spare".to_owned(), json!({"provider": "b", "model": "spare"}));
    for n in 0..count {
        models.insert(
            format!("t{n}"),
            json!({"provider": "a", "model": format!("t{n}"), "fallbacks": ["spare"]}),
        );
    }
    Value::Object(models)
}

/// How many requests a target fails before it is left alone, end to end.
pub(crate) async fn ejection(options: &Options, figures: &mut Figures) -> Result<(), Trouble> {
    for (percent, trials, target) in [(30, options.trials(300), 18.0), (100, options.trials(300), 5.0)] {
        let rig = Rig::start(options, fresh(trials), |_| {}).await?;
        if let Some(a) = rig.mocks.first() {
            a.fails(f64::from(percent) / 100.0, 21, 0).await?;
        }
        let mut connection = Connection::open(rig.address).await?;
        let mut counts = Vec::new();
        for trial in 0..trials {
            let ask = chat(&format!("t{trial}"), "");
            let mut asked = 0;
            while asked < NEVER {
                let reply = connection.exchange(&ask).await?;
                // The spare answered and nobody else was asked: the target is left alone.
                if reply.attempts() == 1 && reply.header("penstock-provider") == Some("b") {
                    break;
                }
                asked += 1;
            }
            counts.push(asked as f64);
        }
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let name = format!("requests until a target that fails {percent} % is left alone, mean, end to end");
        figures.add((3, trials), (&name, "requests"), mean, Some(Target::Most(target)));
        if percent == 30 {
            let p99 = quantile(&mut counts, 0.99);
            figures.add((3, trials), ("the same, p99", "requests"), p99, Some(Target::Most(45.0)));
        }
    }
    Ok(())
}

/// What one failover adds: whole requests with a failed first attempt against requests without one.
pub(crate) async fn added(options: &Options, figures: &mut Figures) -> Result<(), Trouble> {
    let trials = options.trials(10_000);
    let (with, without) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::new())));
    let (mut left, mut failed) = (trials, 0);
    while left > 0 {
        // Two trials of each target: it is not left alone before the third failure.
        let targets = left.div_ceil(2).min(MOST_TARGETS);
        failed += pairs(options, targets, (&with, &without)).await?;
        left = left.saturating_sub(2 * targets);
    }
    let (mut with, mut without) = (with.take(), without.take());
    let count = with.len() as u64;
    let added =
        |share: f64, with: &mut [f64], without: &mut [f64]| quantile(with, share) - quantile(without, share);
    let median = added(0.5, &mut with, &mut without);
    figures.add(
        (6, count),
        ("one failover, the failed attempt itself included: added at p50", "ms"),
        median,
        None,
    );
    let p99 = added(0.99, &mut with, &mut without);
    figures.add((6, count), ("the same at p99 against p99", "ms"), p99, Some(Target::Most(5.0)));
    let name = "requests of this run that failed";
    figures.add((6, 2 * trials), (name, ""), failed as f64, Some(Target::Most(0.0)));
    Ok(())
}

/// Milliseconds of requests, shared between workers.
type Times = Rc<RefCell<Vec<f64>>>;

/// Two requests to each of some fresh targets that fail, in turn with requests to the spare; gives how many failed.
async fn pairs(options: &Options, targets: u64, (with, without): (&Times, &Times)) -> Result<u64, Trouble> {
    let rig = Rig::start(options, fresh(targets), |_| {}).await?;
    if let Some(a) = rig.mocks.first() {
        a.script(&json!({"default": {"status": 503}})).await?;
    }
    let load = Load { address: rig.address, requests: targets * 4, rate: 400.0, connections: 16 };
    let spare: Rc<[u8]> = chat("spare", "").into();
    let (with, without) = (Rc::clone(with), Rc::clone(without));
    let tally = load
        .run(
            move |turn| match turn % 2 {
                0 => Rc::clone(&spare),
                _ => chat(&format!("t{}", (turn / 2) % targets), "").into(),
            },
            move |turn, reply, seconds| {
                let attempts = reply.map_or(0, crate::wire::Reply::attempts);
                match (turn % 2, attempts) {
                    (0, 1) => without.borrow_mut().push(seconds * 1e3),
                    (1, 2) => with.borrow_mut().push(seconds * 1e3),
                    _ => {}
                }
            },
        )
        .await?;
    Ok(tally.failed())
}

/// A target that accepts and says nothing.
pub(crate) async fn hung(options: &Options, figures: &mut Figures) -> Result<(), Trouble> {
    let trials = options.trials(1_000);
    let targets = trials.div_ceil(2);
    let rig = Rig::start(options, fresh(targets), |config| {
        config["providers"]["a"]["timeouts"]["first_token"] = format!("{FIRST_TOKEN_MS}ms").into();
    })
    .await?;
    if let Some(a) = rig.mocks.first() {
        a.script(&json!({"default": {"hang": "before_headers"}})).await?;
    }
    let times = Rc::new(RefCell::new(Vec::new()));
    let load = Load { address: rig.address, requests: trials, rate: 40.0, connections: 32 };
    let seen = Rc::clone(&times);
    let tally = load
        .run(
            move |turn| chat(&format!("t{}", turn % targets), r#""stream":true"#).into(),
            move |_, reply, seconds| {
                if reply.is_some_and(|reply| reply.attempts() == 2) {
                    seen.borrow_mut().push(seconds * 1e3 - FIRST_TOKEN_MS as f64);
                }
            },
        )
        .await?;
    let mut times = times.take();
    let count = times.len() as u64;
    let name = "beyond the first-token time until the spare has answered, p99";
    figures.add((16, count), (name, "ms"), quantile(&mut times, 0.99), Some(Target::Most(50.0)));
    figures.add((16, count), ("the same, the longest", "ms"), quantile(&mut times, 1.0), None);
    figures.add(
        (16, tally.requests),
        ("requests of this run that failed", ""),
        tally.failed() as f64,
        Some(Target::Most(0.0)),
    );
    Ok(())
}
