//! What deciding costs: nanoseconds per request for a plan, its first pick and its end, by the number of deployments.
//!
//! `cargo run --release -p penstock-routing --example plan_cost`. A figure to be read by people, not a test: it depends on the
//! machine.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_routing::{Ask, Catalogue, Deployment, Fleet, Model};

const REQUESTS: u32 = 1_000_000;

fn main() {
    for (deployments, fixed) in [(1, true), (1, false), (2, true), (3, true), (8, true)] {
        let upstream = || fixed.then(|| Arc::from("m"));
        let places = (0..deployments).map(|n| Deployment::new(format!("p{n}"), upstream()));
        let model = Model { deployments: places.collect(), ..Model::single("model", "p", None) };
        let (catalogue, fleet) = (Catalogue::new([model]), Fleet::seeded(1));
        let (asked, start) = (Arc::from("model"), Instant::now());
        let model = catalogue.find(&asked).unwrap();
        for n in 0..REQUESTS {
            let now = start + Duration::from_micros(u64::from(n) * 100);
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
            let mut pick = catalogue.plan(&fleet, ask).unwrap().next(None, now).unwrap();
            let now = now + Duration::from_millis(300);
            pick.flight.first_content(now);
            pick.flight.complete(600, now);
        }
        let nanos = start.elapsed().as_nanos() / u128::from(REQUESTS);
        println!(
            r#"{{"figure":"routing_nanoseconds","deployments":{deployments},"fixed_name":{fixed},"nanoseconds":{nanos},"trials":{REQUESTS}}}"#
        );
    }
}
