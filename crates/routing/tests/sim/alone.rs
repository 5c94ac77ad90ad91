//! One target alone, and how many attempts it takes to see what it is like.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_domain::{Code, Error};
use penstock_routing::{Ask, Catalogue, Fleet, Model};

use crate::world::Dice;

/// One target that fails a part of its attempts, until it is ejected so many times or has had so many attempts: the attempts.
pub(crate) fn attempts(seed: u64, fails: f64, ejections: u64, most: u64) -> u64 {
    let (fleet, mut dice) = (Fleet::seeded(seed), Dice::new(seed));
    let catalogue = Catalogue::new([Model::single("m", "p", Some("m".into()))]);
    let (asked, mut now) = (Arc::from("m"), Instant::now());
    let model = catalogue.find("m").unwrap();
    let error = Error::new(Code::UpstreamError, "simulated");
    for n in 1..=most {
        now += Duration::from_millis(10);
        let ask = Ask {
            model,
            asked: &asked,
            input: 400,
            output: None,
            bounds: None,
            residency: None,
            prefix: None,
            now,
        };
        let pick = catalogue.plan(&fleet, ask).unwrap().next(None, now).unwrap();
        if dice.unit() >= fails {
            pick.flight.complete(600, now);
            continue;
        }
        pick.flight.failed(&error, now);
        if fleet.report(now)[0].ejections >= ejections {
            return n;
        }
    }
    most
}

/// Attempts until the ejection at a part that fails: mean and 99th percentile of so many runs.
pub(crate) fn until_ejected(fails: f64, runs: u64) -> (f64, u64) {
    let mut all: Vec<u64> = (1..=runs).map(|seed| attempts(seed, fails, 1, 1_000_000)).collect();
    all.sort_unstable();
    (all.iter().sum::<u64>() as f64 / runs as f64, all[all.len() * 99 / 100])
}
