//! What it costs to keep a record: CPU time of this process (user and system) per record, by the size of batches.
//!
//! `cargo run --release -p penstock-store-sql --example record_cost -- FOLDER [RECORDS]`; Linux only. A figure to be read
//! by people, not a test: it depends on the machine.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use penstock_domain::{Cost, Dialect, FinishReason, Money, RequestId, Stage, Tags, Task, Usage};
use penstock_observe::{Attempt, Gaps, Outcome, Record, RecordStore, Timings};
use penstock_store_sql::SqlRecords;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A record as a streamed chat leaves it.
fn record(number: u64) -> Record {
    let text = |text: &str| Some(Arc::<str>::from(text));
    let mut timings = Timings::default();
    for stage in Stage::ALL {
        timings.add(stage, Duration::from_micros(40 + number % 17));
    }
    let mut gaps = Gaps::default();
    (0..20).for_each(|n| gaps.add(Duration::from_micros(20_000 + n)));
    // Ids sort by time, as those of the edge do.
    let id = format!("req_{:07x}{:017x}", number / 1_000, number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 4);
    let usage = Some(Usage { input: 900 + number % 100, output: 120, ..Usage::default() });
    let cost = Cost::Known(Money::from_micros(2_345));
    let attempt = Attempt::new("openai", "gpt-5", "ok", Duration::from_millis(310));
    Record {
        id: RequestId::new(id),
        at: SystemTime::now(),
        task: Some(Task::Chat),
        stream: true,
        dialect: Some(Dialect::OpenAi),
        asked: text("large"),
        tags: Tags::default(),
        key: Some(format!("key_{:020}", number % 20).into()),
        team: Some(format!("team-{}", number % 5).into()),
        model: text("large"),
        provider: text("openai"),
        upstream_model: text("gpt-5"),
        version: text("gpt-5-2026-11-01"),
        attempts: 1,
        tries: Box::new([Attempt { usage, cost, ..attempt }]),
        considered: Box::default(),
        usage,
        estimated: false,
        cost,
        finish: Some(FinishReason::Stop),
        duration: Duration::from_millis(800),
        first_token: Some(Duration::from_millis(320)),
        gaps: Some(Box::new(gaps)),
        timings,
        outcome: Outcome::Complete,
        content: None,
    }
}

/// Time on a processor of all threads so far.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let mut spent = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        spent += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(spent))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name a folder for the file of records")?;
    let count: u64 = arguments.next().map_or(Ok(200_000), |count| count.parse())?;
    let store = SqlRecords::new(Path::new(&folder));
    store.open().await?;
    let mut number = 0;
    for size in [512, 512, 64, 8] {
        let (mut spent, mut wall, mut slowest) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let rounds = count / 4 / size;
        for _ in 0..rounds {
            let batch: Vec<_> = (number..number + size).map(record).collect();
            number += size;
            // Making the records is not part of it.
            let (before, clock) = (cpu()?, Instant::now());
            store.append(&batch).await?;
            slowest = slowest.max(clock.elapsed());
            spent += cpu()?.saturating_sub(before);
            wall += clock.elapsed();
        }
        let per = |time: Duration| time.as_secs_f64() * 1e6 / (rounds * size) as f64;
        println!(
            "batches of {size:>3}: {:6.2} µs of CPU and {:6.2} µs of time per record, slowest batch {slowest:?}",
            per(spent),
            per(wall)
        );
    }
    store.close().await;
    let bytes = std::fs::metadata(store.path())?.len();
    println!("{number} records, {} bytes each in the file", bytes / number.max(1));
    Ok(())
}
