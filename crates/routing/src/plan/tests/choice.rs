//! Among equals.

use super::*;

/// How often each provider was asked in so many requests that take this long.
fn counts(
    rig: &mut Rig,
    requests: usize,
    took: impl Fn(&str) -> Duration,
) -> std::collections::HashMap<String, usize> {
    let mut counts = std::collections::HashMap::new();
    for _ in 0..requests {
        let mut pick = rig.plan("m").next(None, rig.now).unwrap();
        let provider = pick.candidate.target.provider.to_string();
        let then = rig.now + took(&provider);
        pick.flight.first_content(then);
        pick.flight.complete(200, then);
        *counts.entry(provider).or_default() += 1;
        rig.pass(SECOND / 50);
    }
    counts
}

#[test]
fn weights_are_kept_to_among_equals_and_the_quicker_gets_more() {
    let mut rig = Rig::new([model("m", [Deployment { weight: 3, ..at("a") }, at("b")])]);
    let even = counts(&mut rig, 4_000, |_| SECOND / 2);
    assert!((2_800..=3_200).contains(&even["a"]), "{even:?}");
    let mut rig = Rig::new([model("m", [at("a"), at("b")])]);
    let uneven = counts(&mut rig, 4_000, |provider| if provider == "a" { SECOND } else { SECOND / 3 });
    assert!(uneven["b"] > 3_000 && uneven["a"] > 50, "{uneven:?}");
}

#[test]
fn the_cheaper_of_equals_gets_more() {
    let prices = |input| {
        let rates = penstock_domain::Rates {
            input: penstock_domain::Price::per_million(input).unwrap(),
            output: penstock_domain::Price::per_million(input),
            ..Default::default()
        };
        let tariff = penstock_domain::Tariff { rates, long: None };
        crate::Pricing::Own(Arc::new(crate::Prices::new(vec![(std::time::SystemTime::UNIX_EPOCH, tariff)])))
    };
    let dear = Deployment { pricing: prices("2"), ..at("dear") };
    let mut rig = Rig::new([model("m", [dear, Deployment { pricing: prices("1"), ..at("cheap") }])]);
    let counts = counts(&mut rig, 2_000, |_| SECOND / 2);
    assert!(counts["cheap"] > 1_400 && counts["dear"] > 100, "{counts:?}");
}

#[test]
fn what_is_prepaid_is_used_first_and_the_rest_spills_over() {
    let prepaid = Deployment { provisioned: Some(60_000), ..at("prepaid") };
    let mut rig = Rig::new([model("m", [at("usual"), prepaid])]);
    // 50 requests of 200 tokens a second: ten times what is prepaid.
    let counts = counts(&mut rig, 3_000, |_| SECOND / 2);
    // A minute's worth and the quarter that was there from the beginning, in requests.
    assert!((360..=390).contains(&counts["prepaid"]), "{counts:?}");
    let mut rig =
        Rig::new([model("m", [at("usual"), Deployment { provisioned: Some(60_000_000), ..at("prepaid") }])]);
    assert_eq!(super::choice::counts(&mut rig, 500, |_| SECOND / 2).len(), 1);
}

#[test]
fn equal_beginnings_meet_again_where_the_model_says_so() {
    let policy = Policy { affinity: true, ..Policy::default() };
    let places = || [at("a"), at("b"), at("c")];
    let rig = Rig::new([Model { policy, ..model("m", places()) }, model("n", places())]);
    let homes = |model: &str, prefix| -> std::collections::HashSet<String> {
        (0..40).map(|_| name(&rig.plan_for(model, 100, Some(prefix)).next(None, rig.now).unwrap())).collect()
    };
    let all: std::collections::HashSet<_> = (0..30).flat_map(|prefix| homes("m", prefix)).collect();
    assert_eq!(all.len(), 3);
    assert!((0..30).all(|prefix| homes("m", prefix).len() == 1));
    assert!(homes("n", 1).len() > 1, "others do not care");
}

#[test]
fn a_saturated_engine_is_spared_while_others_are_free_and_asked_when_it_is_alone() {
    let own = Deployment { internal: true, ..at("own") };
    let rig = Rig::new([model("m", [own.clone(), at("cloud")]), model("own", [own])]);
    // Five at once, and the sixth is turned away.
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(rig.plan("own").next(None, rig.now).unwrap().flight);
    }
    held.pop().unwrap().failed(&error(Code::Overloaded), rig.now);
    let report = rig.report("own");
    assert_eq!((report.limit, report.in_flight, report.state), (Some(4), 5, "healthy"));
    for _ in 0..50 {
        let mut plan = rig.plan("m");
        let pick = plan.next(None, rig.now).unwrap();
        assert_eq!(name(&pick), "cloud/0");
        assert_eq!(plan.considered()[0].verdict, "saturated");
        pick.flight.complete(1, rig.now);
    }
    assert_eq!(rig.plan("own").next(None, rig.now).unwrap().why, Why::First);
    drop(held);
    let asked: std::collections::HashSet<_> =
        (0..200).flat_map(|_| rig.play(&mut rig.plan("m"), &[])).collect();
    assert_eq!(asked.len(), 2);
}

#[test]
fn a_hedge_needs_leave_a_known_pace_budget_and_everybody_s_health() {
    let policy = Policy { hedge: true, ..Policy::default() };
    let models = || [Model { policy, ..model("m", [at("a"), at("b")]) }];
    let mut rig = Rig::new(models());
    let begin = |rig: &Rig, input| {
        let mut plan = rig.plan_for("m", input, None);
        let pick = plan.next(None, rig.now).unwrap();
        (plan, pick)
    };
    assert_eq!(begin(&rig, 100).0.hedge_after(), None, "nothing is known of its pace");
    counts(&mut rig, 400, |_| SECOND / 2);
    let (mut plan, first) = begin(&rig, 100);
    let after = plan.hedge_after().unwrap();
    assert!(after >= SECOND / 3 && after < SECOND, "{after:?}");
    let second = plan.hedge(rig.now + after).unwrap();
    assert_eq!(second.why, Why::Hedge);
    assert_ne!(name(&first), name(&second));
    assert_eq!(plan.hedge_after(), None, "one is enough");
    assert!(plan.hedge(rig.now + after).is_none());
    assert_eq!(begin(&rig, 100_000).0.hedge_after(), None, "long prompts are dear");
    let hedges = (0..100).filter(|_| begin(&rig, 100).0.hedge(rig.now).is_some()).count();
    assert!(hedges < 30, "{hedges}");
    rig.eject("a", "m");
    (0..1_000).for_each(|_| drop(rig.plan("m")));
    assert_eq!(begin(&rig, 100).0.hedge_after(), None, "somebody is sick");
    assert!(Rig::new([model("m", [at("a"), at("b")])]).plan("m").hedge_after().is_none());
}

#[test]
fn explanations_name_everybody_and_why() {
    let outside = Deployment { region: Some("us".into()), ..at("abroad") };
    let inside = |provider| Deployment { region: Some("eu".into()), ..at(provider) };
    let rig = Rig::new([model("m", [outside, inside("a"), inside("b")])]);
    let asked: Arc<str> = "m".into();
    let ask = Ask {
        model: rig.catalogue.find("m").unwrap(),
        asked: &asked,
        input: 1,
        output: None,
        bounds: None,
        residency: Some(&["eu".into()]),
        prefix: None,
        now: rig.now,
    };
    let mut plan = rig.catalogue.plan(&rig.fleet, ask).unwrap();
    let pick = plan.next(None, rig.now).unwrap();
    let mut seen: Vec<_> =
        plan.considered().iter().map(|one| (one.verdict, one.provider.to_string())).collect();
    seen.sort();
    let chosen = pick.candidate.target.provider.to_string();
    let other = if chosen == "a" { "b" } else { "a" };
    assert_eq!(seen, [("outside_region", "abroad".into()), ("tried", chosen), ("worse", other.into())]);
}
