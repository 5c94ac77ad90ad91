//! How soon a sick provider is left alone, and what its failures cost the requests.

use crate::alone::{attempts, until_ejected};
use crate::world::{Mood, Temper, World, calls_before_ejection, steady};

#[test]
fn a_provider_with_30_percent_failures_is_ejected_within_18_attempts_on_average() {
    let (mean, p99) = until_ejected(0.30, 1_000);
    assert!(mean <= 18.0, "{mean}");
    assert!(p99 <= 45, "{p99}");
}

#[test]
fn a_dead_provider_is_ejected_within_five_attempts() {
    assert!(attempts(1, 1.0, 1, 100) <= 5);
}

#[test]
fn a_provider_with_10_percent_failures_is_ejected_within_100_attempts_on_average() {
    let (mean, _) = until_ejected(0.10, 1_000);
    assert!(mean <= 100.0, "{mean}");
}

#[test]
fn a_provider_with_1_percent_failures_is_ejected_at_most_twice_in_a_million_attempts() {
    assert_eq!(attempts(1, 0.01, 3, 1_000_000), 1_000_000);
}

#[test]
fn with_one_of_three_providers_failing_nearly_all_requests_succeed_and_few_calls_are_wasted() {
    let mut world = World::new(1, 50.0, vec![steady(0.30), steady(0.005), steady(0.005)]);
    world.requests(92_000);
    let tally = &world.tally;
    assert!(tally.failed <= 4, "{tally:?}", tally = (tally.failed, tally.calls, &tally.to));
    assert!(tally.answered > 91_000);
    assert!(tally.calls as f64 / tally.requests as f64 <= 1.05, "{} calls", tally.calls);
}

#[test]
fn before_the_ejection_a_request_costs_at_most_1_35_calls() {
    let per_request = calls_before_ejection(300);
    assert!(per_request <= 1.35, "{per_request}");
}

#[test]
fn with_one_of_two_providers_failing_998_of_1000_requests_succeed() {
    let mut world = World::new(2, 50.0, vec![steady(0.30), steady(0.005)]);
    world.requests(100_000);
    assert!(world.tally.failed <= 200, "{}", world.tally.failed);
}

#[test]
fn a_dead_provider_is_noticed_by_slow_traffic_too_and_rarely_tried() {
    let mut world = World::new(3, 0.5, vec![steady(1.0), steady(0.005)]);
    world.requests(2_000);
    assert!(world.tally.failed <= 20, "{}", world.tally.failed);
    let per_request = world.tally.calls as f64 / world.tally.requests as f64;
    assert!(per_request <= 1.15, "{per_request}");
}

#[test]
fn a_burst_whose_failures_show_before_its_answers_ejects_nobody() {
    let quick = Temper { fails: 0.01, shows: 0.001, begins: 3.0, ..Temper::default() };
    let mut ejections = 0;
    for seed in 0..100 {
        let moods = (0..3).map(|_| -> Mood { Box::new(move |_| quick) });
        let mut world = World::new(seed, 200.0, moods.collect());
        world.seconds(5.0);
        ejections += (0..3).filter_map(|n| world.report(n)).map(|report| report.ejections).sum::<u64>();
    }
    assert!(ejections <= 1, "{ejections} of 300");
}
