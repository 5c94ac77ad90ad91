//! What an outage of everybody costs, and what hedging does.

use penstock_domain::Code;
use penstock_routing::Policy;

use crate::world::{Dice, Mood, Temper, World, all_fail, steady};

#[test]
fn when_all_fail_a_request_costs_at_most_1_25_calls() {
    for (with, shows) in [
        (Code::UpstreamError, 0.1),
        (Code::UpstreamUnreachable, 0.001),
        (Code::UpstreamTimeout, 5.0),
        (Code::Overloaded, 0.01),
        (Code::UpstreamRateLimited, 0.01),
        (Code::UpstreamAuth, 0.05),
        (Code::UpstreamQuotaExceeded, 0.05),
    ] {
        for providers in [3, 1] {
            let tally = all_fail(providers, Temper { with, shows, ..Temper::default() }, 500.0, 60.0);
            let per_request = tally.calls as f64 / tally.requests as f64;
            assert!(per_request <= 1.25, "{with} of {providers}: {per_request}");
            assert!(tally.requests > 29_000 && tally.failed > 25_000, "{with}: {} failed", tally.failed);
        }
    }
}

#[test]
fn a_provider_without_a_substitute_is_asked_again_and_hides_what_passes() {
    for (fails, answered, calls) in [(0.05, 0.998, 1.08), (0.01, 0.9995, 1.03)] {
        let mut world = World::new(3, 50.0, vec![steady(fails)]);
        world.requests(50_000);
        world.seconds(30.0);
        let (requests, failed) = (world.tally.requests as f64, world.tally.failed as f64);
        assert!(1.0 - failed / requests >= answered, "{failed} of {requests} failed");
        assert!(world.tally.calls as f64 / requests <= calls, "{} calls", world.tally.calls);
    }
}

#[test]
fn when_the_first_of_two_hangs_everything_that_it_held_goes_to_the_other() {
    let hung: Mood = Box::new(|time| {
        if time < 30.0 { Temper::default() } else { Temper { fails: 1.0, shows: 30.0, ..Temper::default() } }
    });
    let mut world = World::new(4, 50.0, vec![hung, steady(0.0)]);
    world.seconds(150.0);
    assert_eq!(world.tally.failed, 0);
}

#[test]
fn a_hedge_halves_the_slowest_waits_for_one_call_in_twenty() {
    let straggling = || -> Mood {
        let dice = std::cell::RefCell::new(Dice::new(9));
        Box::new(move |_| Temper {
            fails: 0.0,
            begins: if dice.borrow_mut().unit() < 0.05 { 10.0 } else { 0.5 },
            ..Temper::default()
        })
    };
    let p99 = |hedge| {
        let policy = Policy { hedge, ..Policy::default() };
        let mut world = World::with(6, 20.0, vec![straggling(), straggling()], policy);
        world.requests(30_000);
        let (calls, requests) = (world.tally.calls as f64, world.tally.requests as f64);
        assert!(calls / requests <= 1.05, "{}", calls / requests);
        assert_eq!(world.tally.hedges > 0, hedge);
        let mut waits = std::mem::take(&mut world.tally.waits);
        waits.sort_by(f64::total_cmp);
        waits[waits.len() * 99 / 100]
    };
    let (without, with) = (p99(false), p99(true));
    assert!(with <= without / 2.0, "{with} instead of {without}");
}
