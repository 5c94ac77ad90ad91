//! An engine of one's own that takes so many requests at once and turns the rest away, beside a vendor who takes all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_domain::{Code, Error};
use penstock_routing::{Ask, Catalogue, Deployment, Fleet, Flight, Model};

use crate::world::Dice;

const SLOTS: usize = 8;
/// How long an answer takes, and how long of it until the first token.
const TAKES: (Duration, Duration) = (Duration::from_millis(1_000), Duration::from_millis(300));

#[test]
fn an_engine_is_kept_busy_rarely_turns_away_and_is_never_ejected() {
    let own = Deployment { internal: true, ..Deployment::new("own", Some("m".into())) };
    let cloud = Deployment::new("cloud", Some("m".into()));
    let model = Model { deployments: vec![own, cloud], ..Model::single("model", "", None) };
    let (catalogue, fleet, mut dice) = (Catalogue::new([model]), Fleet::seeded(3), Dice::new(3));
    let (asked, mut now) = (Arc::from("model"), Instant::now());
    let overloaded = Error::new(Code::Overloaded, "simulated");
    // First those without their first token, then those with it; each takes equally long.
    let (mut waiting, mut answering) = (VecDeque::new(), VecDeque::<(Instant, Flight, bool)>::new());
    let (mut own_calls, mut turned_away, mut unanswered, mut busy) = (0, 0, 0, 0.0);
    let requests = 20_000;
    for _ in 0..requests {
        // Four times as much as the engine takes.
        now += Duration::from_secs_f64(-(1.0 - dice.unit()).ln() / 32.0);
        while waiting.front().is_some_and(|(at, _, _)| *at <= now) {
            let (at, mut flight, is_own): (Instant, Flight, bool) = waiting.pop_front().unwrap();
            flight.first_content(at);
            answering.push_back((at + TAKES.0 - TAKES.1, flight, is_own));
        }
        while answering.front().is_some_and(|(at, _, _)| *at <= now) {
            let (at, flight, _) = answering.pop_front().unwrap();
            flight.complete(600, at);
        }
        let model = catalogue.find(&asked).unwrap();
        let ask = Ask {
            model,
            asked: &asked,
            input: 400,
            output: Some(200),
            bounds: None,
            residency: None,
            prefix: None,
            now,
        };
        let mut plan = catalogue.plan(&fleet, ask).unwrap();
        let mut after = None;
        loop {
            let Some(pick) = plan.next(after, now) else {
                unanswered += 1;
                break;
            };
            let is_own = &*pick.candidate.target.provider == "own";
            let held = waiting.iter().chain(&answering).filter(|(_, _, own)| *own).count();
            own_calls += u32::from(is_own);
            if is_own && held >= SLOTS {
                turned_away += 1;
                pick.flight.failed(&overloaded, now);
                after = Some(&overloaded);
                continue;
            }
            waiting.push_back((now + TAKES.1, pick.flight, is_own));
            break;
        }
        busy += waiting.iter().chain(&answering).filter(|(_, _, own)| *own).count() as f64;
    }
    let report = fleet.report(now).into_iter().find(|report| &*report.provider == "own").unwrap();
    assert_eq!((unanswered, report.ejections), (0, 0));
    assert!(
        busy / f64::from(requests) > 0.6 * SLOTS as f64,
        "{} of {SLOTS} at work",
        busy / f64::from(requests)
    );
    assert!(
        turned_away * 20 < own_calls,
        "{turned_away} of {own_calls} turned away, limit {:?}",
        report.limit
    );
}
