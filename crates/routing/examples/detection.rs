//! What routing promises about sick providers, as figures: one JSON object a line, with the number of trials behind it.
//!
//! `cargo run --release -p penstock-routing --example detection`. Simulated worlds with a clock and chance of their own, the ones
//! that the tests use: the figures are the same on every machine.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a simulation that cannot go on has failed")]

#[path = "../tests/sim/alone.rs"]
mod alone;
#[path = "../tests/sim/world.rs"]
mod world;

use penstock_domain::Code;
use penstock_routing::Policy;

use crate::alone::{attempts, until_ejected};
use crate::world::{Temper, World, all_fail, calls_before_ejection, outage, steady};

fn main() {
    availability();
    for (percent, runs) in [(5, 100), (10, 1_000), (20, 1_000), (30, 1_000), (50, 1_000), (100, 1_000)] {
        let (mean, p99) = until_ejected(f64::from(percent) / 100.0, runs);
        println!(
            r#"{{"figure":"attempts_until_ejection","row":3,"failing_percent":{percent},"mean":{mean:.2},"p99":{p99},"trials":{runs}}}"#
        );
    }
    false_ejections();
    recovery();
    outages();
}

fn availability() {
    for (row, requests, sick, well) in [(1, 92_000, 1, 2), (2, 100_000, 1, 1)] {
        let (mut failed, mut calls, mut trials) = (0, 0, 0);
        for seed in 1..=10 {
            let moods = std::iter::repeat_n(0.30, sick).chain(std::iter::repeat_n(0.005, well));
            let mut world = World::with(seed, 50.0, moods.map(steady).collect(), Policy::default());
            world.requests(requests);
            failed += world.tally.failed;
            calls += world.tally.calls;
            trials += world.tally.requests;
        }
        let (success, calls) = (100.0 * (1.0 - failed as f64 / trials as f64), calls as f64 / trials as f64);
        let providers = sick + well;
        println!(
            r#"{{"figure":"availability","row":{row},"providers":{providers},"success_percent":{success:.4},"failed":{failed},"calls_per_request":{calls:.4},"trials":{trials}}}"#
        );
    }
    let calls = calls_before_ejection(1_000);
    println!(
        r#"{{"figure":"calls_per_request_before_ejection","row":7,"calls_per_request":{calls:.4},"trials":1000}}"#
    );
}

fn false_ejections() {
    // Each run ends with its first ejection, or without one.
    let (runs, most) = (20, 1_000_000);
    let all: Vec<u64> = (1..=runs).map(|seed| attempts(seed, 0.01, 1, most)).collect();
    let ejections = all.iter().filter(|attempts| **attempts < most).count();
    let trials: u64 = all.iter().sum();
    let per_million = ejections as f64 * 1e6 / trials as f64;
    println!(
        r#"{{"figure":"false_ejections","row":4,"failing_percent":1,"ejections":{ejections},"per_million":{per_million:.3},"trials":{trials}}}"#
    );
}

fn recovery() {
    let runs = 100;
    let (mut half, mut full) = (Vec::new(), Vec::new());
    for seed in 0..runs {
        let lasts = 2.0 + seed as f64 / 2.0;
        let mut world = outage(seed, lasts, Temper::default());
        for share in [0.5, 1.0] {
            while world.time < 1_000.0 && world.report(0).is_none_or(|report| report.share < share) {
                world.seconds(0.1);
            }
            if share < 1.0 { &mut half } else { &mut full }.push(world.time - 10.0 - lasts);
        }
    }
    for (share, mut seconds) in [(50, half), (100, full)] {
        seconds.sort_by(f64::total_cmp);
        let (median, most) = (seconds[seconds.len() / 2], seconds[seconds.len() - 1]);
        println!(
            r#"{{"figure":"seconds_until_share_returns","row":5,"share_percent":{share},"median":{median:.1},"max":{most:.1},"trials":{runs}}}"#
        );
    }
}

fn outages() {
    for (providers, with, shows) in [
        (3, Code::UpstreamError, 0.1),
        (3, Code::UpstreamTimeout, 5.0),
        (3, Code::UpstreamRateLimited, 0.01),
        (1, Code::UpstreamError, 0.1),
        (1, Code::Overloaded, 0.01),
    ] {
        let tally = all_fail(providers, Temper { with, shows, ..Temper::default() }, 500.0, 60.0);
        let calls = tally.calls as f64 / tally.requests as f64;
        println!(
            r#"{{"figure":"calls_per_request_when_all_fail","row":8,"providers":{providers},"with":"{with}","calls_per_request":{calls:.4},"trials":{}}}"#,
            tally.requests
        );
    }
}
