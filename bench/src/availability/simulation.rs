//! Rows 3, 4, 5 and 7 from routing's own simulation, which repeats what no wall clock has the time for.

use std::process::Command;

use serde_json::Value;

use crate::figures::{Figures, Target};
use crate::{Options, Trouble, note};

/// Runs the simulation and takes over its figures.
pub(crate) fn figures(options: &Options, figures: &mut Figures) -> Result<(), Trouble> {
    let Some(program) = &options.detection else {
        note("no simulation was given: rows 3, 4, 5 and 7 are measured end to end alone");
        return Ok(());
    };
    let output = Command::new(program).output()?;
    if !output.status.success() {
        return Err(
            format!("{} failed: {}", program.display(), String::from_utf8_lossy(&output.stderr)).into()
        );
    }
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        take(&line, figures);
    }
    Ok(())
}

/// One line; what this program does not know is left out.
fn take(line: &Value, figures: &mut Figures) {
    let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
    let trials = line["trials"].as_u64().unwrap_or_default();
    match line["figure"].as_str().unwrap_or_default() {
        "attempts_until_ejection" => {
            let percent = number("failing_percent");
            let (mean, p99) = match percent as u64 {
                10 => (Some(Target::Most(100.0)), None),
                30 => (Some(Target::Most(18.0)), Some(Target::Most(45.0))),
                100 => (Some(Target::Most(5.0)), None),
                _ => (None, None),
            };
            let name = format!("attempts until ejection at {percent} % errors, mean, simulated");
            figures.add((3, trials), (&name, "attempts"), number("mean"), mean);
            let name = format!("attempts until ejection at {percent} % errors, p99, simulated");
            figures.add((3, trials), (&name, "attempts"), number("p99"), p99);
        }
        "false_ejections" => {
            let name = "false ejections at 1 % errors, simulated";
            figures.add((4, trials), (name, "per million"), number("per_million"), Some(Target::Most(2.0)));
        }
        "seconds_until_share_returns" => {
            let share = number("share_percent");
            let target = if share < 100.0 { 10.0 } else { 30.0 };
            let name = format!("until {share} % of its share is back, the longest, simulated");
            figures.add((5, trials), (&name, "s"), number("max"), Some(Target::Most(target)));
        }
        "calls_per_request_before_ejection" => {
            let name = "upstream calls per request before ejection, simulated";
            figures.add((7, trials), (name, ""), number("calls_per_request"), Some(Target::Most(1.35)));
        }
        _ => {}
    }
}
