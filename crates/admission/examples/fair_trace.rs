//! What the fair queue does to the requests of a trace: waits and tokens by tenant, beside a line in which the first comes first.
//!
//! ```sh
//! cargo run --release -p penstock-admission --example fair_trace -- AzureLLMInferenceTrace_code.csv
//! ```
//!
//! The trace (Azure LLM inference trace 2023, CC BY 4.0, Patel et al., ISCA 2024) names no tenants: requests are dealt to twenty
//! in turn, so that all ask alike; then one more floods.
#![expect(clippy::print_stdout, reason = "it is what the program is for")]

#[path = "../tests/fairness/sim.rs"]
mod sim;

use penstock_domain::Priority;
use sim::{Arrival, Order, Run, simulate};

const SECOND: u64 = 1_000_000_000;
/// Three times what the trace needs on average: 8,819 requests of about one second in an hour, but they come in bursts.
const PLACES: usize = 8;
const TENANTS: usize = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("expected the path of the trace")?;
    let text = std::fs::read_to_string(path)?;
    let mut trace = Vec::new();
    for (n, line) in text.lines().skip(1).enumerate() {
        let [stamp, input, output] = line.split(',').collect::<Vec<_>>()[..] else { continue };
        trace.push(Arrival {
            at: nanos(stamp).ok_or("a time that cannot be read")?,
            tenant: format!("tenant{}", n % TENANTS).into(),
            class: Priority::Standard,
            weight: 1,
            input: input.parse()?,
            output: output.parse()?,
            patience: None,
        });
    }
    let first = trace.iter().map(|one| one.at).min().unwrap_or(0);
    trace.iter_mut().for_each(|one| one.at -= first);
    let flood = (0..36_000).map(|n| Arrival {
        at: n * SECOND / 10,
        tenant: "flood".into(),
        ..trace[n as usize % trace.len()].clone()
    });
    let flooded: Vec<_> = trace.iter().cloned().chain(flood).collect();
    println!("{:<28}{:>10}{:>10}{:>10}{:>10}", "tenants' waits in seconds", "p50", "p95", "p99", "refused");
    for (name, arrivals, order) in [
        ("alone, fair", &trace, Order::Fair),
        ("alone, first come", &trace, Order::FirstCome),
        ("with a flood, fair", &flooded, Order::Fair),
        ("with a flood, first come", &flooded, Order::FirstCome),
    ] {
        let run = simulate(arrivals, (PLACES, 256), order, None);
        tell(name, &run);
    }
    Ok(())
}

fn tell(name: &str, run: &Run) {
    let mut all = sim::Told::default();
    for (_, told) in run.told.iter().filter(|(name, _)| &***name != "flood") {
        all.waits.extend(&told.waits);
        all.refused += told.refused;
    }
    let [p50, p95, p99] = [500, 950, 990].map(|at| all.quantile(at));
    println!("{name:<28}{p50:>10.2}{p95:>10.2}{p99:>10.2}{:>10}", all.refused);
}

/// Nanoseconds of the day of `2023-11-16 18:17:03.9799600`.
fn nanos(stamp: &str) -> Option<u64> {
    let mut parts = stamp.split(' ').nth(1)?.split(':');
    let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let seconds: f64 = parts.next()?.parse().ok()?;
    Some((hours * 3_600 + minutes * 60) * SECOND + (seconds * SECOND as f64) as u64)
}
