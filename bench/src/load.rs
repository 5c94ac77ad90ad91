//! Whole answers: as many as 64 connections can take, and a steady 1,000 a second.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::Trouble;
use crate::http::Connection;
use crate::target::Rig;

const CONNECTIONS: usize = 64;
const RATE: f64 = 1_000.0;
const WARM_UP: Duration = Duration::from_millis(500);

/// What closed-loop load gave.
pub(crate) struct Flat {
    pub(crate) per_second: f64,
    pub(crate) cpu_per_unit: f64,
}

/// What paced load gave, in microseconds.
pub(crate) struct Paced {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// 64 connections, each sending its next request when the last was answered.
pub(crate) async fn closed(rig: &Rig, seconds: u64) -> Result<Flat, Trouble> {
    run(rig, WARM_UP).await?;
    let cpu = rig.cpu();
    let begin = Instant::now();
    let done = run(rig, Duration::from_secs(seconds)).await?;
    let time = begin.elapsed().as_secs_f64();
    Ok(Flat { per_second: done as f64 / time, cpu_per_unit: (rig.cpu() - cpu) * 1e6 / done as f64 })
}

async fn run(rig: &Rig, time: Duration) -> Result<u64, Trouble> {
    let local = LocalSet::new();
    let end = Instant::now() + time;
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (address, mut letter) = (rig.address, rig.whole.clone());
            local.spawn_local(async move {
                let mut connection = Connection::open(address).await?;
                let mut done = 0u64;
                while Instant::now() < end {
                    connection.exchange(letter.next()).await?;
                    done += 1;
                }
                Ok::<_, Trouble>(done)
            })
        })
        .collect();
    local.await;
    let mut sum = 0;
    for worker in workers {
        sum += worker.await??;
    }
    Ok(sum)
}

/// 1,000 requests a second on 64 connections; latency counts from when a request was due, so a stall is not hidden
/// (coordinated omission).
pub(crate) async fn paced(rig: &Rig, seconds: u64) -> Result<Paced, Trouble> {
    let times = Rc::new(RefCell::new(Vec::with_capacity((seconds as usize + 1) * RATE as usize)));
    let local = LocalSet::new();
    let begin = Instant::now() + Duration::from_millis(50);
    let count = (RATE * seconds as f64) as usize;
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|worker| {
            let (address, mut letter, times) = (rig.address, rig.whole.clone(), Rc::clone(&times));
            local.spawn_local(async move {
                let mut connection = Connection::open(address).await?;
                for turn in (worker..count).step_by(CONNECTIONS) {
                    let due = begin + Duration::from_secs_f64(turn as f64 / RATE);
                    sleep_until(due).await;
                    let sent = Instant::now().max(due);
                    connection.exchange(letter.next()).await?;
                    // The timer's own slack (up to 1 ms) is the generator's, the same for every target.
                    times.borrow_mut().push(sent.elapsed().as_secs_f64() * 1e6);
                }
                Ok::<_, Trouble>(())
            })
        })
        .collect();
    local.await;
    for worker in workers {
        worker.await??;
    }
    let mut times = times.take();
    Ok(Paced { p50: quantile(&mut times, 0.5), p99: quantile(&mut times, 0.99) })
}

async fn sleep_until(due: Instant) {
    if due > Instant::now() {
        tokio::time::sleep_until(due.into()).await;
    }
}

/// The value below which this share of all values lies.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}
