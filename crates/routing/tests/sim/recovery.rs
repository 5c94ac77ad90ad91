//! How a provider that has recovered gets its traffic back.

use crate::world::{Temper, World, outage, steady};

#[test]
fn a_recovered_provider_has_half_of_its_share_after_10_seconds_and_all_after_30() {
    for seed in 0..100 {
        let mut world = outage(seed, 2.0 + seed as f64 / 2.0, Temper::default());
        world.seconds(10.0);
        let share = world.report(0).unwrap().share;
        assert!(share >= 0.5, "seed {seed}: {share} after 10 s");
        world.seconds(20.0);
        let report = world.report(0).unwrap();
        assert!(report.share >= 1.0 && report.state == "healthy", "seed {seed}: {report:?} after 30 s");
        let before = world.tally.to[0];
        world.seconds(40.0);
        let traffic = (world.tally.to[0] - before) as f64 / (40.0 * 50.0);
        assert!((0.25..=0.42).contains(&traffic), "seed {seed}: {traffic} of the traffic");
    }
}

#[test]
fn what_returns_is_not_trampled() {
    for seed in 0..50 {
        let mut world = outage(seed, 20.0, Temper::default());
        let mut second = [0; 12];
        for calls in &mut second {
            let before = world.tally.to[0];
            world.seconds(1.0);
            *calls = world.tally.to[0] - before;
        }
        // A third of 50 a second is its share; chance adds to it.
        let growth = second.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap();
        assert!(growth <= 14, "seed {seed}: {second:?}");
        assert!(second[..3].iter().sum::<u64>() <= 25, "seed {seed}: more than half of it: {second:?}");
    }
}

#[test]
fn a_hung_provider_costs_few_requests_their_time_and_comes_back() {
    let hung = Temper { shows: 10.0, ..Temper::default() };
    for seed in 0..20 {
        let mut world = outage(seed, 120.0, hung);
        let lost = world.tally.to[0];
        // 10 s of traffic before the outage, 10 s until the first time-out, then tries alone.
        assert!(lost <= 500, "seed {seed}: {lost} calls");
        // Chance alone makes both of the others fail one request in 40,000.
        assert!(world.tally.failed <= 2, "seed {seed}: {}", world.tally.failed);
        world.seconds(15.0);
        assert!(world.report(0).unwrap().share >= 0.5, "seed {seed}");
    }
}

#[test]
fn a_provider_that_keeps_failing_a_third_never_gets_its_share() {
    let mut world = World::new(5, 50.0, vec![steady(0.33), steady(0.005), steady(0.005)]);
    world.requests(20_000);
    assert!(world.tally.to[0] < 1_600, "{:?}", world.tally.to);
}
