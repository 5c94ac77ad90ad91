//! Rows 1, 2, 7 and 8: how many requests succeed, and what that costs in calls.

use std::rc::Rc;

use serde_json::json;

use crate::figures::{Figures, Target};
use crate::load::{Load, Tally, quantile};
use crate::rig::{Rig, deployments};
use crate::wire::chat;
use crate::{Options, Trouble, note};

/// Connections of the steady load: enough for 2,000 requests a second that take [`LATENCY_MS`].
const CONNECTIONS: usize = 256;
/// How long the upstreams take to answer, in milliseconds. Routing prefers the quick, and a failure counts as a slow answer:
/// beside upstreams that answer in no time one failure would weigh more than it does in life.
const LATENCY_MS: u64 = 100;
/// Seeds of the three upstreams' failures.
const SEEDS: [u64; 3] = [11, 12, 13];
/// Deadline of requests while everything fails, in milliseconds.
const DEADLINE_MS: u64 = 3_000;

async fn steady(options: &Options, providers: &[&str], requests: u64) -> Result<(Tally, f64), Trouble> {
    let rig = Rig::start(options, json!({"m": deployments("m", providers)}), |_| {}).await?;
    for (mock, (share, seed)) in rig.mocks.iter().zip([0.30, 0.005, 0.005].into_iter().zip(SEEDS)) {
        mock.fails(share, seed, LATENCY_MS).await?;
    }
    let before = rig.calls().await?;
    let ask: Rc<[u8]> = chat("m", "").into();
    let load = Load { address: rig.address, requests, rate: options.rate, connections: CONNECTIONS };
    let tally = load.run(move |_| Rc::clone(&ask), |_, _, _| {}).await?;
    let calls = (rig.calls().await? - before) as f64 / tally.requests as f64;
    if !tally.bad.is_empty() {
        note(&format!("replies that were no answer, by status: {:?}", tally.bad));
    }
    Ok((tally, calls))
}

/// Three targets, one of which fails 30 %.
pub(crate) async fn three(options: &Options, figures: &mut Figures) -> Result<(), Trouble> {
    let requests = options.trials(92_000);
    let (tally, calls) = steady(options, &["a", "b", "c"], requests).await?;
    let name = "requests that succeed, A fails 30 %, B and C 0.5 %";
    figures.add((1, requests), (name, "%"), tally.percent(), Some(Target::Least(99.99)));
    figures.add((1, requests), ("of these failed", "requests"), tally.failed() as f64, None);
    figures.add(
        (7, requests),
        ("upstream calls per request in the run of row 1", ""),
        calls,
        Some(Target::Most(1.35)),
    );
    Ok(())
}

/// Two targets, one of which fails 30 %.
pub(crate) async fn two(options: &Options, figures: &mut Figures) -> Result<(), Trouble> {
    let requests = options.trials(100_000);
    let (tally, calls) = steady(options, &["a", "b"], requests).await?;
    let name = "requests that succeed, A fails 30 %, B 0.5 %";
    figures.add((2, requests), (name, "%"), tally.percent(), Some(Target::Least(99.8)));
    figures.add((2, requests), ("upstream calls per request", ""), calls, None);
    Ok(())
}

/// Everything fails for a minute.
pub(crate) async fn outage(options: &Options, figures: &mut Figures) -> Result<(), Trouble> {
    let rig = Rig::start(options, json!({"m": deployments("m", &["a", "b", "c"])}), |_| {}).await?;
    for mock in &rig.mocks {
        mock.script(&json!({"default": {"status": 503}})).await?;
    }
    let requests = options.trials(30_000);
    let before = rig.calls().await?;
    let ask: Rc<[u8]> = chat("m", &format!(r#""penstock":{{"timeout_ms":{DEADLINE_MS}}}"#)).into();
    let load = Load { address: rig.address, requests, rate: 500.0, connections: CONNECTIONS };
    let mut tally = load.run(move |_| Rc::clone(&ask), |_, _, _| {}).await?;
    let calls = (rig.calls().await? - before) as f64 / requests as f64;
    figures.add(
        (8, requests),
        ("upstream calls per request when all targets fail, 500/s", ""),
        calls,
        Some(Target::Most(1.25)),
    );
    let longest = quantile(&mut tally.seconds, 1.0) * 1e3;
    let deadline = Some(Target::Most(DEADLINE_MS as f64));
    figures.add((8, requests), ("longest time to a reply, under a deadline of 3 s", "ms"), longest, deadline);
    figures.add(
        (8, requests),
        ("refusals without x-should-retry", ""),
        tally.mute as f64,
        Some(Target::Most(0.0)),
    );
    figures.add(
        (8, requests),
        ("requests without a reply", ""),
        tally.bad.get(&0).copied().unwrap_or(0) as f64,
        Some(Target::Most(0.0)),
    );
    Ok(())
}
