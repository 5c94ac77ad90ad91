//! What happens when providers fail: the figures that Penstock promises about availability, each with its trials.
//!
//! What it promises: real processes, real sockets, failures drawn by a seed; every figure beside its target and the number
//! of trials behind it, as a table and as JSON. What only many repetitions can show (ejection, false ejection, return) is
//! taken from routing's own simulation as well, and said so.
//!
//! What it refuses to know: how the gateway does it. It looks from outside alone: at replies, at what the upstreams counted,
//! at the process.

mod drain;
mod failover;
mod figures;
mod load;
#[path = "../process.rs"]
#[expect(dead_code, reason = "the other benchmark looks at CPU and memory too")]
mod process;
mod recovery;
mod reload;
mod rig;
mod share;
mod simulation;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use figures::Figures;

/// Measures and prints a table; every figure stands beside its target.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// The `penstock` binary to measure; it is the upstreams too.
    #[arg(long)]
    pub(crate) penstock: PathBuf,
    /// Routing's simulation of detection (`penstock-routing`, example `detection`); without it those figures are missing.
    #[arg(long)]
    pub(crate) detection: Option<PathBuf>,
    /// Where the figures are written as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Requests per second of the steady load.
    #[arg(long, default_value_t = 1_000.0)]
    pub(crate) rate: f64,
    /// A tenth of every trial.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these rows.
    #[arg(long, value_delimiter = ',')]
    pub(crate) rows: Vec<u32>,
}

impl Options {
    /// So many trials, or a tenth of them.
    pub(crate) fn trials(&self, full: u64) -> u64 {
        if self.quick { (full / 10).max(1) } else { full }
    }

    fn wants(&self, rows: &[u32]) -> bool {
        self.rows.is_empty() || rows.iter().any(|row| self.rows.contains(row))
    }
}

/// Why a run ended without figures.
pub(crate) type Trouble = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let mut figures = Figures::default();
    let outcome = tokio::task::LocalSet::new().run_until(measure(&options, &mut figures)).await;
    show(&figures.markdown());
    if let Some(path) = &options.json
        && let Err(error) = std::fs::write(path, figures.json())
    {
        note(&format!("availability: {} cannot be written: {error}", path.display()));
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            note(&format!("availability: {trouble}"));
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options, figures: &mut Figures) -> Result<(), Trouble> {
    if options.wants(&[1, 7]) {
        share::three(options, figures).await?;
    }
    if options.wants(&[2]) {
        share::two(options, figures).await?;
    }
    if options.wants(&[3, 4, 5, 7]) {
        simulation::figures(options, figures)?;
    }
    if options.wants(&[3]) {
        failover::ejection(options, figures).await?;
    }
    if options.wants(&[5]) {
        recovery::returns(options, figures).await?;
    }
    if options.wants(&[6]) {
        failover::added(options, figures).await?;
    }
    if options.wants(&[8]) {
        share::outage(options, figures).await?;
    }
    if options.wants(&[12]) {
        drain::streams(options, figures).await?;
    }
    if options.wants(&[13]) {
        reload::mutations(options, figures).await?;
    }
    if options.wants(&[16]) {
        failover::hung(options, figures).await?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn show(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "progress of a run that takes minutes")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}
