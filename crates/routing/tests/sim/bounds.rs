//! No plan ever leaves the regions that its request may use, whatever fails and however.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_domain::{Code, Error};
use penstock_routing::{Ask, Bounds, Catalogue, Deployment, Fleet, Model, Policy, Unroutable};

use crate::world::Dice;

const REGIONS: [Option<&str>; 5] =
    [Some("eu"), Some("eu-central-1"), Some("us-east-1"), Some("europe"), None];
const ERRORS: [Code; 9] = [
    Code::UpstreamError,
    Code::UpstreamUnreachable,
    Code::UpstreamTimeout,
    Code::UpstreamRateLimited,
    Code::UpstreamAuth,
    Code::UpstreamQuotaExceeded,
    Code::ContextLengthExceeded,
    Code::ContentFiltered,
    Code::Overloaded,
];

fn up_to(dice: &mut Dice, n: usize) -> usize {
    (dice.unit() * n as f64) as usize
}

/// Some models that stand in for each other in any way, with deployments anywhere.
fn catalogue(dice: &mut Dice) -> Catalogue {
    let names = ["a", "b", "c", "d"];
    Catalogue::new(names.map(|name| {
        let deployments = (0..=up_to(dice, 3)).map(|_| Deployment {
            credentials: 1 + up_to(dice, 2) as u32,
            region: REGIONS[up_to(dice, 5)].map(Into::into),
            internal: dice.unit() < 0.3,
            context_window: [None, Some(1_000), Some(8_000)][up_to(dice, 3)],
            provisioned: [None, Some(6_000)][up_to(dice, 2)],
            ..Deployment::new(
                ["p", "q", "r"][up_to(dice, 3)],
                Some(format!("{name}{}", up_to(dice, 2)).into()),
            )
        });
        Model {
            deployments: deployments.collect(),
            fallbacks: (0..up_to(dice, 4)).map(|_| names[up_to(dice, 4)].into()).collect(),
            policy: Policy {
                resume: true,
                hedge: true,
                past_content_filter: true,
                affinity: dice.unit() < 0.5,
            },
            ..Model::single(name, "p", None)
        }
    }))
}

/// The same target may stand in two deployments that differ in where they are said to be.
fn allowed(
    catalogue: &Catalogue,
    pick: &penstock_routing::Candidate,
    bounds: &Bounds,
    only: Option<&[Arc<str>]>,
) -> bool {
    let model = pick.serves.as_ref().unwrap();
    let inside = |deployment: &&Deployment| {
        let residency = Bounds { regions: only.unwrap_or_default().into(), internal_only: false };
        bounds.allow(deployment) && residency.allow(deployment)
    };
    assert!(catalogue.find(&model.name).is_some());
    let mut deployments = model.deployments.iter().filter(inside);
    deployments.any(|deployment| {
        deployment.provider == pick.target.provider
            && deployment.upstream.as_ref() == Some(&pick.target.model)
    })
}

#[test]
fn no_first_try_failover_hedge_or_probe_leaves_the_bounds_of_its_request() {
    let mut dice = Dice::new(42);
    let (mut picks, mut refused) = (0, 0);
    for seed in 0..300 {
        let (catalogue, fleet) = (catalogue(&mut dice), Fleet::seeded(seed));
        let mut now = Instant::now();
        for _ in 0..60 {
            let regions: [&[&str]; 4] = [&[], &["eu"], &["us", "eu-central-1"], &["ap"]];
            let regions = |dice: &mut Dice| {
                regions[up_to(dice, 4)].iter().map(|name| Arc::from(*name)).collect::<Vec<_>>()
            };
            let bounds = Bounds { regions: regions(&mut dice).into(), internal_only: dice.unit() < 0.2 };
            let residency = Some(regions(&mut dice)).filter(|regions| !regions.is_empty());
            let asked: Arc<str> = ["a", "b", "c", "d"][up_to(&mut dice, 4)].into();
            let ask = Ask {
                model: catalogue.find(&asked).unwrap(),
                asked: &asked,
                input: [10, 900, 4_000, 100_000][up_to(&mut dice, 4)],
                output: Some(100),
                bounds: Some(&bounds),
                residency: residency.as_deref(),
                prefix: Some(up_to(&mut dice, 9) as u64),
                now,
            };
            let mut plan = match catalogue.plan(&fleet, ask) {
                Ok(plan) => plan,
                Err(why) => {
                    assert_eq!(why, Unroutable::Bounds);
                    refused += 1;
                    continue;
                }
            };
            let mut error = None;
            let mut attempts = 0;
            while let Some(pick) = plan.next(error.as_ref(), now) {
                attempts += 1;
                picks += 1;
                assert!(allowed(&catalogue, &pick.candidate, &bounds, residency.as_deref()), "{pick:?}");
                if let Some(hedge) = plan.hedge_after().and_then(|_| plan.hedge(now)) {
                    assert!(
                        allowed(&catalogue, &hedge.candidate, &bounds, residency.as_deref()),
                        "{hedge:?}"
                    );
                }
                now += Duration::from_millis((dice.unit() * 800.0) as u64);
                if dice.unit() < 0.5 {
                    pick.flight.complete(100, now);
                    break;
                }
                let failure = Error::new(ERRORS[up_to(&mut dice, ERRORS.len())], "simulated");
                pick.flight.failed(&failure, now);
                error = Some(failure);
            }
            assert!(attempts <= 8);
        }
    }
    assert!(picks > 5_000 && refused > 500, "{picks} {refused}");
}
