//! How many instructions one request and one streamed chunk take, counted by callgrind in the program that is shipped.
//!
//! A count of user-space instructions is the one figure that a busy machine does not move: two runs differ by about one
//! per cent (timers that fire by the clock). It says nothing about the kernel, caches or waiting.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::http::Connection;
use crate::report::Report;
use crate::target::{Rig, request};
use crate::variant::{PENSTOCK, Variant};
use crate::{Options, Trouble};

/// What was measured when the figures were last accepted.
const COMMITTED: &str = include_str!("../instructions.txt");

/// Requests or chunks of the shorter and the longer run; their difference is divided by the difference.
const FEW: u64 = 200;
const MANY: u64 = 2_200;

/// The figures of the committed file: name and instructions.
pub(crate) fn committed(text: &str) -> Result<Vec<(&str, u64)>, Trouble> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line.split_once(char::is_whitespace).ok_or("expected a name and a count")?;
            Ok((name, count.trim().parse().map_err(|error| format!("{line:?}: {error}"))?))
        })
        .collect()
}

/// Counts, and compares with the committed figures.
pub(crate) async fn table(options: &Options) -> Result<String, Trouble> {
    let mut out = String::from("| what | instructions | committed | ratio |\n|---|---|---|---|\n");
    for (name, before) in committed(COMMITTED)? {
        let each = each(options, &PENSTOCK, name).await?;
        let ratio = each / before as f64;
        out.push_str(&format!("| {name} | {each:.0} | {before} | {ratio:.3} |\n"));
    }
    Ok(out)
}

/// Counts for some variants, and compares each with the first.
pub(crate) async fn beside(options: &Options, variants: &'static [Variant]) -> Result<Report, Trouble> {
    let mut report = Report::new(variants, 0);
    for (what, figure) in
        [("request", "instructions per request"), ("chunk", "instructions per streamed chunk")]
    {
        for variant in variants {
            report.add(variant, figure, each(options, variant, what).await?);
        }
    }
    Ok(report)
}

/// Instructions of one more request or chunk; below nothing where what goes on beside weighed more than the work.
async fn each(options: &Options, variant: &Variant, what: &str) -> Result<f64, Trouble> {
    let few = run(options, variant, what, FEW).await?;
    let many = run(options, variant, what, MANY).await?;
    Ok((many as f64 - few as f64) / (MANY - FEW) as f64)
}

/// Instructions of one life of the program with this much work in it.
async fn run(options: &Options, variant: &Variant, what: &str, count: u64) -> Result<u64, Trouble> {
    let rig = Rig::under(options, variant, &["valgrind", "--tool=callgrind"]).await?;
    let mut connection = Connection::open(rig.address).await?;
    match what {
        "request" => {
            let mut letter = rig.whole.clone();
            for _ in 0..count {
                connection.exchange(letter.next()).await?;
            }
        }
        "chunk" => {
            // Slowly enough that chunks are read one by one even at the speed of a simulated processor.
            let members = format!(r#""stream":true,"mock":{{"inter_token_ms":2,"tokens":{count}}}"#);
            connection.send(&request(&members)).await?;
            while connection.events().is_some() {
                connection.more().await?;
            }
        }
        other => return Err(format!("instructions.txt: nothing called {other} can be counted").into()),
    }
    drop(connection);
    totals(&rig.end(Duration::from_secs(20))?)
}

/// Adds up what callgrind wrote into a folder.
fn totals(folder: &Path) -> Result<u64, Trouble> {
    let mut sum = 0;
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("callgrind.out.")) {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let line =
            text.lines().find_map(|line| line.strip_prefix("totals:")).ok_or("callgrind gave no totals")?;
        sum += line.trim().parse::<u64>()?;
    }
    if sum == 0 { Err("callgrind wrote nothing: was the program killed?".into()) } else { Ok(sum) }
}

/// Whether valgrind is here.
pub(crate) fn available() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_figures_are_a_request_and_a_chunk() {
        let names: Vec<_> =
            committed(COMMITTED).expect("figures").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["request", "chunk"]);
        assert!(committed("request many").is_err() && committed("request").is_err());
    }
}
