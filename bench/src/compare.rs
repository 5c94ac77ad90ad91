//! Ways to run the gateway, measured beside each other: all run at once, and a short piece of load goes to each by turns, so that
//! what else the machine does meets them alike.

use crate::report::{ADDED, Report};
use crate::target::Rig;
use crate::variant::Variant;
use crate::{Options, Trouble, load, note, stream};

/// Seconds of each piece of the closed loop.
const PIECE: u64 = 2;

/// Measures all variants in every repeat.
pub(crate) async fn compare(options: &Options, variants: &'static [Variant]) -> Result<Report, Trouble> {
    let mut report = Report::new(variants, 0);
    for repeat in 1..=options.repeats {
        note(&format!("repeat {repeat} of {}", options.repeats));
        let mut rigs = Vec::new();
        for variant in variants {
            rigs.push((variant, Rig::start(options, variant).await?));
        }
        for _ in 0..(options.seconds / PIECE).max(1) {
            for (variant, rig) in &rigs {
                whole(rig, variant, &mut report).await?;
            }
            // Whoever came first comes last: nobody always follows the same neighbour.
            rigs.reverse();
        }
        for (variant, rig) in &rigs {
            let paced = load::paced(rig, options.seconds).await?;
            report.add(variant, ADDED[0], paced.p50);
            report.add(variant, ADDED[1], paced.p99);
        }
        for (variant, rig) in &rigs {
            let streams = stream::flowing(rig, options).await?;
            report.add(variant, "CPU per streamed chunk at 1,000 streams, µs", streams.cpu_per_chunk);
        }
    }
    Ok(report)
}

async fn whole(rig: &Rig, variant: &'static Variant, report: &mut Report) -> Result<(), Trouble> {
    let (asked, sent) = (rig.stores.asked()?, rig.sent.get());
    let flat = load::closed(rig, PIECE).await?;
    report.add(variant, "CPU per request at 64 connections, µs", flat.cpu_per_unit);
    report.add(variant, "requests/s at 64 connections", flat.per_second);
    if let (Some(before), Some(after)) = (asked, rig.stores.asked()?) {
        let each = after.saturating_sub(before) as f64 / (rig.sent.get() - sent) as f64;
        report.add(variant, "questions to Redis per request", each);
    }
    Ok(())
}
