//! Row 5: a provider that was out and is well again gets its share back, in steps.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::figures::{Figures, Target};
use crate::load::{Load, quantile};
use crate::rig::{Rig, deployments};
use crate::wire::chat;
use crate::{Options, Trouble, note};

/// Requests per second of this run.
const RATE: f64 = 400.0;
/// How long the upstreams take to answer, in milliseconds.
const LATENCY_MS: u64 = 100;
/// How long the provider is out.
const OUT: Duration = Duration::from_secs(5);
/// The longest that its return may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The window in which shares are counted.
const WINDOW: Duration = Duration::from_millis(1_000);

/// Outages of one of two equal providers, and how long its share takes to return.
pub(crate) async fn returns(options: &Options, figures: &mut Figures) -> Result<(), Trouble> {
    let trials = options.trials(10);
    let (mut half, mut full, mut steepest) = (Vec::new(), Vec::new(), 0.0_f64);
    for trial in 0..trials {
        let rig = Rig::start(options, json!({"m": deployments("m", &["a", "b"])}), |_| {}).await?;
        let stop = Rc::new(Cell::new(false));
        let load = Load { address: rig.address, requests: u64::MAX, rate: RATE, connections: 128 };
        let running = tokio::task::spawn_local(until(load, Rc::clone(&stop)));
        let watched = watch(&rig).await;
        stop.set(true);
        let failed = running.await??;
        let seen = watched?;
        note(&format!(
            "return {trial}: half after {:.1} s, full after {:.1} s, {failed} requests failed",
            seen.half, seen.full
        ));
        half.push(seen.half);
        full.push(seen.full);
        steepest = steepest.max(seen.first);
    }
    let longest = |times: &mut Vec<f64>| quantile(times, 1.0);
    figures.add(
        (5, trials),
        ("half of its share back after, the longest, end to end", "s"),
        longest(&mut half),
        Some(Target::Most(10.0)),
    );
    figures.add(
        (5, trials),
        ("all of its share back after, the longest, end to end", "s"),
        longest(&mut full),
        Some(Target::Most(30.0)),
    );
    figures.add(
        (5, trials),
        ("share in the first second of the return, the largest, of a fair one", ""),
        steepest,
        Some(Target::Most(0.5)),
    );
    Ok(())
}

/// What one return looked like, in seconds and parts of a fair share.
struct Seen {
    half: f64,
    full: f64,
    first: f64,
}

async fn watch(rig: &Rig) -> Result<Seen, Trouble> {
    let [a, b, ..] = rig.mocks.as_slice() else { return Err("the rig has too few upstreams".into()) };
    let well = json!({"default": {"text": "pong", "latency_ms": LATENCY_MS}});
    for mock in [a, b] {
        mock.script(&well).await?;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    a.script(&json!({"default": {"status": 503}})).await?;
    tokio::time::sleep(OUT).await;
    a.script(&well).await?;
    let well = Instant::now();
    let (mut half, mut first) = (None, None);
    let (mut at_a, mut at_b) = (a.requests().await?, b.requests().await?);
    while well.elapsed() < PATIENCE {
        tokio::time::sleep(WINDOW).await;
        let (now_a, now_b) = (a.requests().await?, b.requests().await?);
        let (at, others) = ((now_a - at_a) as f64, (now_b - at_b) as f64);
        (at_a, at_b) = (now_a, now_b);
        // A fair share of two is a half.
        let share = 2.0 * at / (at + others).max(1.0);
        let seconds = well.elapsed().as_secs_f64();
        if at >= 3.0 {
            first.get_or_insert(share);
        }
        if share >= 0.5 {
            half.get_or_insert(seconds);
        }
        // Chance alone moves the share of 400 requests by a few per cent.
        if let (true, Some(half), Some(first)) = (share >= 0.9, half, first) {
            return Ok(Seen { half, full: seconds, first });
        }
    }
    Ok(Seen { half: half.unwrap_or(f64::INFINITY), full: f64::INFINITY, first: first.unwrap_or(0.0) })
}

/// Steady load until told to stop; gives how many requests failed.
async fn until(load: Load, stop: Rc<Cell<bool>>) -> Result<u64, Trouble> {
    let ask: Rc<[u8]> = chat("m", "").into();
    let mut failed = 0;
    while !stop.get() {
        let ask = Rc::clone(&ask);
        let part = Load { requests: (RATE / 4.0) as u64, ..load };
        failed += part.run(move |_| Rc::clone(&ask), |_, _, _| {}).await?.failed();
    }
    Ok(failed)
}
