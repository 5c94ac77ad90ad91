//! Streams: 1,000 that flow, and many that are merely open.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::http::Connection;
use crate::load::quantile;
use crate::target::Rig;
use crate::{Options, Trouble};

const STREAMS: usize = 1_000;

/// What flowing streams cost.
pub(crate) struct Flowing {
    pub(crate) cpu_per_chunk: f64,
    pub(crate) first_token_p50: f64,
}

/// 1,000 streams at 20 chunks a second; CPU is taken while all of them flow.
pub(crate) async fn flowing(rig: &Rig, options: &Options) -> Result<Flowing, Trouble> {
    let streams = if options.quick { STREAMS / 10 } else { STREAMS };
    let local = LocalSet::new();
    let chunks = Rc::new(Cell::new(0u64));
    let firsts = Rc::new(RefCell::new(Vec::new()));
    let stop = Rc::new(Cell::new(false));
    for turn in 0..streams {
        let (address, mut letter) = (rig.address, rig.stream.clone());
        let (chunks, firsts, stop) = (Rc::clone(&chunks), Rc::clone(&firsts), Rc::clone(&stop));
        local.spawn_local(async move {
            // Spread over the first second: neither a thundering herd nor all chunks in one instant.
            tokio::time::sleep(Duration::from_secs_f64(turn as f64 / STREAMS as f64)).await;
            let mut connection = Connection::open(address).await?;
            let sent = Instant::now();
            connection.send(letter.next()).await?;
            firsts.borrow_mut().push(sent.elapsed().as_secs_f64() * 1e6);
            while !stop.get() {
                let Some(events) = connection.events() else { break };
                chunks.set(chunks.get() + events);
                connection.more().await?;
            }
            Ok::<_, Trouble>(())
        });
    }
    let seconds = options.seconds;
    let measured = local
        .run_until(async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let (cpu, before) = (rig.cpu(), chunks.get());
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let flowed = chunks.get() - before;
            stop.set(true);
            ((rig.cpu() - cpu) * 1e6 / flowed as f64, flowed)
        })
        .await;
    drop(local);
    if measured.1 == 0 {
        return Err("no chunk arrived: the streams did not flow".into());
    }
    let mut firsts = firsts.take();
    Ok(Flowing { cpu_per_chunk: measured.0, first_token_p50: quantile(&mut firsts, 0.5) })
}

/// Bytes of resident memory per stream that is open and quiet.
pub(crate) async fn open(rig: &Rig, streams: usize) -> Result<f64, Trouble> {
    let before = rig.memory();
    let mut held = Vec::with_capacity(streams);
    let mut letter = rig.quiet.clone();
    for _ in 0..streams {
        let mut connection = Connection::open(rig.address).await?;
        connection.send(letter.next()).await?;
        held.push(connection);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = rig.memory();
    Ok(after.saturating_sub(before) as f64 / streams as f64)
}
