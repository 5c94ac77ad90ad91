//! What a request costs: the gateway beside nginx as a plain reverse proxy and a direct run, on the same cores,
//! interleaved, in one run.
//!
//! What it promises: figures that can be repeated with one command (`bench/run`), medians with their spread, and ratios
//! to nginx of the same run, because absolute times of a shared machine mean little. CPU is the target's own utime+stime,
//! so a noisy neighbour moves it least.
//!
//! What it refuses to know: whether a figure is good. It never fails on a slow run.

mod compare;
mod http;
mod instructions;
mod load;
mod process;
mod report;
mod stores;
mod stream;
mod target;
mod train;
mod variant;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use report::Report;
use target::Rig;
use variant::{BESIDE_NGINX, Beside, Kind, Variant};

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
    #[command(flatten)]
    pub(crate) beside: Beside,
    /// Only the instructions of one request and one chunk, counted by callgrind (needs valgrind).
    #[arg(long)]
    pub(crate) instructions: bool,
    /// Only the work that a profile-guided build learns from, without figures.
    #[arg(long)]
    pub(crate) train: bool,
    /// Only what takes a minute: one repeat, two seconds, few streams.
    #[arg(long)]
    pub(crate) quick: bool,
}

/// Descriptors that a proxy needs beside the two of each stream.
const SPARE_FILES: usize = 500;

/// Why a run ended without figures.
pub(crate) type Trouble = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.quick {
        (options.repeats, options.seconds, options.open_streams) = (1, 2, 500);
    }
    let outcome = if options.instructions {
        instructions(&options).await
    } else if options.train {
        train::train(&options).await
    } else {
        measure(&options).await
    };
    match outcome {
        Ok(table) => {
            show(&table);
            ExitCode::SUCCESS
        }
        Err(trouble) => {
            note(&format!("bench: {trouble}"));
            ExitCode::FAILURE
        }
    }
}

async fn instructions(options: &Options) -> Result<String, Trouble> {
    if !instructions::available() {
        return Err("counting instructions needs valgrind (Debian: apt-get install valgrind)".into());
    }
    match options.beside.variants() {
        Some(variants) => Ok(instructions::beside(options, variants).await?.markdown()),
        None => instructions::table(options).await,
    }
}

async fn measure(options: &Options) -> Result<String, Trouble> {
    if let Some(variants) = options.beside.variants() {
        return Ok(compare::compare(options, variants).await?.markdown());
    }
    let mut report = Report::new(&BESIDE_NGINX, 1);
    for repeat in 1..=options.repeats {
        for variant in &BESIDE_NGINX {
            note(&format!("repeat {repeat} of {}: {}", options.repeats, variant.name));
            one(options, variant, &mut report).await?;
        }
    }
    Ok(report.markdown())
}

/// Everything about one target, in a fresh rig: idle memory first, then load, then streams, then open streams.
async fn one(options: &Options, variant: &Variant, report: &mut Report) -> Result<(), Trouble> {
    let rig = Rig::start(options, variant).await?;
    if let Some(ready) = rig.first_reply {
        report.add(variant, "exec to first reply, ms", ready.as_secs_f64() * 1e3);
    }
    let idle = rig.memory();
    if variant.kind != Kind::Direct {
        report.add(variant, "resident idle, MiB", mib(idle));
    }
    let flat = load::closed(&rig, options.seconds).await?;
    report.add(variant, "requests/s at 64 connections", flat.per_second);
    if variant.kind != Kind::Direct {
        report.add(variant, "CPU per request at 64 connections, µs", flat.cpu_per_unit);
    }
    let paced = load::paced(&rig, options.seconds).await?;
    report.add(variant, "added p50 at 1,000/s, µs", paced.p50);
    report.add(variant, "added p99 at 1,000/s, µs", paced.p99);
    let streams = stream::flowing(&rig, options).await?;
    report.add(variant, "added time to first token p50, µs", streams.first_token_p50);
    if variant.kind == Kind::Direct {
        return Ok(());
    }
    report.add(variant, "CPU per streamed chunk at 1,000 streams, µs", streams.cpu_per_chunk);
    report.add(variant, "resident after load, MiB", mib(rig.memory()));
    drop(rig);
    // A fresh process: what earlier load left in the allocator must not hide what streams cost.
    let rig = Rig::start(options, variant).await?;
    let most = process::open_files().saturating_sub(SPARE_FILES) / 2;
    let streams = options.open_streams.min(most);
    if streams < options.open_streams {
        note(&format!("the limit of open files allows only {streams} open streams"));
    }
    let held = stream::open(&rig, streams).await?;
    report.add(variant, "memory per open stream, KiB", held / 1024.0);
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
