//! What a request costs: the gateway beside nginx as a plain reverse proxy and a direct run, on the same cores,
//! interleaved, in one run.
//!
//! What it promises: figures that can be repeated with one command (`bench/run`), medians with their spread, and ratios
//! to nginx of the same run, because absolute times of a shared machine mean little. CPU is the target's own utime+stime,
//! so a noisy neighbour moves it least.
//!
//! What it refuses to know: whether a figure is good. It never fails on a slow run.

mod http;
mod load;
mod process;
mod report;
mod stream;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use report::Report;
use target::{Kind, Rig};

/// Measures and prints a Markdown table.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// The `penstock` binary to measure.
    #[arg(long)]
    pub(crate) penstock: PathBuf,
    /// The `nginx` binary to compare with.
    #[arg(long, default_value = "nginx")]
    pub(crate) nginx: PathBuf,
    /// How often everything is repeated.
    #[arg(long, default_value_t = 3)]
    pub(crate) repeats: u32,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
    /// Streams held open for the memory figure.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) open_streams: usize,
    /// Leaves the embedded model out of Penstock's configuration, for builds without it.
    #[arg(long)]
    pub(crate) without_local: bool,
    /// Only what takes a minute: one repeat, two seconds, few streams.
    #[arg(long)]
    pub(crate) quick: bool,
}

/// Why a run ended without figures.
pub(crate) type Trouble = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.quick {
        (options.repeats, options.seconds, options.open_streams) = (1, 2, 500);
    }
    match measure(&options).await {
        Ok(report) => {
            show(&report.markdown());
            ExitCode::SUCCESS
        }
        Err(trouble) => {
            note(&format!("bench: {trouble}"));
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Result<Report, Trouble> {
    let mut report = Report::default();
    for repeat in 1..=options.repeats {
        for kind in Kind::ALL {
            note(&format!("repeat {repeat} of {}: {}", options.repeats, kind.name()));
            one(options, kind, &mut report).await?;
        }
    }
    Ok(report)
}

/// Everything about one target, in a fresh rig: idle memory first, then load, then streams, then open streams.
async fn one(options: &Options, kind: Kind, report: &mut Report) -> Result<(), Trouble> {
    let rig = Rig::start(options, kind).await?;
    if let Some(ready) = rig.first_reply {
        report.add(kind, "exec to first reply, ms", ready.as_secs_f64() * 1e3);
    }
    let idle = rig.memory();
    if kind != Kind::Direct {
        report.add(kind, "resident idle, MiB", mib(idle));
    }
    let flat = load::closed(&rig, options.seconds).await?;
    report.add(kind, "requests/s at 64 connections", flat.per_second);
    if kind != Kind::Direct {
        report.add(kind, "CPU per request at 64 connections, µs", flat.cpu_per_unit);
    }
    let paced = load::paced(&rig, options.seconds).await?;
    report.add(kind, "p50 at 1,000/s, µs", paced.p50);
    report.add(kind, "p99 at 1,000/s, µs", paced.p99);
    let streams = stream::flowing(&rig, options).await?;
    report.add(kind, "time to first token p50, µs", streams.first_token_p50);
    if kind == Kind::Direct {
        return Ok(());
    }
    report.add(kind, "CPU per streamed chunk at 1,000 streams, µs", streams.cpu_per_chunk);
    report.add(kind, "resident after load, MiB", mib(rig.memory()));
    drop(rig);
    // A fresh process: what earlier load left in the allocator must not hide what streams cost.
    let rig = Rig::start(options, kind).await?;
    let held = stream::open(&rig, options.open_streams).await?;
    report.add(kind, "memory per open stream, KiB", held / 1024.0);
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn show(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "progress of a run that takes minutes")]
fn note(text: &str) {
    eprintln!("{text}");
}
