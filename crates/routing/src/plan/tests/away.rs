//! Cooling, retired, ejected.

use super::*;

fn two_keys() -> Rig {
    Rig::new([
        model("m", [Deployment { credentials: 2, ..at("a") }]),
        model("n", [Deployment { credentials: 2, ..Deployment::new("a", Some("n".into())) }]),
    ])
}

#[test]
fn a_rate_limit_cools_one_credential_for_one_model_for_exactly_the_stated_time() {
    let mut rig = two_keys();
    let asked = rig.play(&mut rig.plan("m"), &[cool(20)]);
    assert_ne!(asked[0], asked[1], "the other credential answers at once");
    let other = [asked[1].clone()];
    rig.pass(SECOND * 19);
    (0..20).for_each(|_| assert_eq!(rig.play(&mut rig.plan("m"), &[]), other));
    let both: std::collections::HashSet<_> =
        (0..50).flat_map(|_| rig.play(&mut rig.plan("n"), &[])).collect();
    assert_eq!(both.len(), 2, "the other model has both");
    rig.pass(SECOND);
    let both: std::collections::HashSet<_> =
        (0..300).flat_map(|_| rig.play(&mut rig.plan("m"), &[])).collect();
    assert_eq!(both.len(), 2);
}

#[test]
fn when_all_cool_nobody_is_called_and_the_shortest_wait_is_told() {
    let mut rig = two_keys();
    let mut plan = rig.plan("m");
    assert_eq!(rig.play(&mut plan, &[cool(20), cool(50)]).len(), 2);
    assert_eq!(plan.wait(rig.now), Some(SECOND * 20));
    rig.pass(SECOND * 5);
    let mut plan = rig.plan("m");
    assert!(plan.next(None, rig.now).is_none());
    assert_eq!(plan.wait(rig.now), Some(SECOND * 15));
    let verdicts: Vec<_> = plan.considered().iter().map(|seen| seen.verdict).collect();
    assert_eq!(verdicts, ["cooling", "cooling"]);
    assert!(rig.fleet.report(rig.now).iter().all(|report| report.state == "cooling"));
    rig.pass(SECOND * 15);
    assert_eq!(rig.play(&mut rig.plan("m"), &[]).len(), 1);
}

#[test]
fn a_guessed_wait_does_not_shut_out_who_has_nobody_else() {
    let rig = Rig::new([model("m", [at("a")])]);
    let limited = error(Code::UpstreamRateLimited);
    let pick = rig.plan("m").next(None, rig.now).unwrap();
    pick.flight.failed(&limited, rig.now);
    let pick = rig.plan("m").next(None, rig.now).unwrap();
    assert_eq!(pick.why, Why::Panic);
    assert_eq!(rig.report("a").state, "cooling");
    assert!(rig.plan("m").wait(rig.now).is_some());
}

#[test]
fn a_refused_credential_is_left_for_all_its_models_and_the_others_are_not_touched() {
    for code in [Code::UpstreamAuth, Code::UpstreamQuotaExceeded] {
        let mut rig = two_keys();
        let asked = rig.play(&mut rig.plan("m"), &[error(code)]);
        assert_ne!(asked[0], asked[1]);
        for model in ["m", "n"] {
            (0..20).for_each(|_| assert_eq!(rig.play(&mut rig.plan(model), &[]), asked[1..], "{code}"));
        }
        assert!(rig.fleet.report(rig.now).iter().any(|report| report.state == "retired"));
        // A look from time to time, by one request that the other can still answer.
        rig.pass(SECOND * 10);
        let looks = (0..100).filter(|_| {
            let pick = rig.plan("m").next(None, rig.now).unwrap();
            let look = name(&pick) == asked[0];
            assert_eq!(look, pick.why == Why::Probe);
            if look {
                pick.flight.failed(&error(code), rig.now);
            }
            look
        });
        assert_eq!(looks.count(), 1, "{code}");
        rig.fleet.reinstate("a");
        assert!(rig.fleet.report(rig.now).iter().all(|report| report.state == "healthy"));
    }
}

#[test]
fn asking_for_a_model_that_a_credential_may_not_use_does_not_take_it_from_the_others() {
    let rig = Rig::new([model("m", [at("a"), at("b")]), Model::single("*", "a", None)]);
    (0..20).for_each(|_| drop(rig.play(&mut rig.plan("m"), &[])));
    rig.play(&mut rig.plan("forbidden"), &[error(Code::UpstreamAuth)]);
    let reports = rig.fleet.report(rig.now);
    let retired: Vec<_> = reports.iter().filter(|report| report.state == "retired").collect();
    assert_eq!(retired.len(), 1);
    assert_eq!(&*retired[0].model, "forbidden");
}

#[test]
fn who_is_alone_is_asked_whatever_is_thought_of_it() {
    let rig = Rig::new([model("m", [at("a")])]);
    rig.play(&mut rig.plan("m"), &[error(Code::UpstreamAuth)]);
    assert_eq!(rig.report("a").state, "retired");
    let mut plan = rig.plan("m");
    let pick = plan.next(None, rig.now).unwrap();
    assert_eq!(pick.why, Why::Panic);
    pick.flight.complete(10, rig.now);
    assert_eq!(rig.report("a").state, "healthy", "and an answer clears its name");
}

#[test]
fn an_ejected_target_is_tried_only_by_who_can_fail_over_and_one_at_a_time() {
    let mut rig = Rig::new([model("m", [at("a"), at("b")])]);
    rig.fleet.target(&"a".into(), 0, &"m".into());
    rig.eject("a", "m");
    rig.pass(SECOND);
    let mut probes = Vec::new();
    for _ in 0..300 {
        let pick = rig.plan("m").next(None, rig.now).unwrap();
        match pick.why {
            Why::Probe => probes.push(pick),
            why => {
                assert_eq!((why, &*name(&pick)), (Why::First, "b/0"));
                pick.flight.complete(100, rig.now);
            }
        }
    }
    assert_eq!(probes.len(), 1);
    probes.pop().unwrap().flight.complete(100, rig.now);
    let report = rig.report("a");
    assert_eq!(report.state, "returning");
    assert!(report.share < 0.2);
    // Where it is alone there is nothing to try: it is simply asked.
    let alone = Rig::new([model("m", [at("a")])]);
    alone.fleet.target(&"a".into(), 0, &"m".into());
    alone.eject("a", "m");
    assert_eq!(alone.plan("m").next(None, alone.now + SECOND).unwrap().why, Why::Panic);
}

#[test]
fn when_all_are_out_the_least_bad_is_asked() {
    let rig = Rig::new([model("m", [at("dead"), at("sick")])]);
    for (provider, failures) in [("dead", 200), ("sick", 60)] {
        let target = rig.fleet.target(&provider.into(), 0, &"m".into());
        for n in 0..200 {
            let size = crate::target::Size { input: 1, whole: 1 };
            let flight = crate::Flight::begin(Arc::clone(&target), size, Default::default(), rig.now);
            if n * failures / 200 == (n + 1) * failures / 200 {
                flight.complete(1, rig.now);
            } else {
                flight.failed(&error(Code::UpstreamError), rig.now);
            }
        }
    }
    // Both have been out; what counts then is who failed less.
    let sick = (0..100).filter(|_| {
        let pick = rig.plan("m").next(None, rig.now).unwrap();
        name(&pick) == "sick/0"
    });
    assert!(sick.count() > 90);
}

#[test]
fn who_hangs_up_says_nothing_about_the_target() {
    let rig = Rig::new([model("m", [at("a")])]);
    for _ in 0..200 {
        drop(rig.plan("m").next(None, rig.now).unwrap().flight);
    }
    let report = rig.report("a");
    assert_eq!((report.state, report.in_flight), ("healthy", 0));
    assert!(report.suspicion == 0.0 && report.error_rate == 0.0);
}

#[test]
fn a_stream_that_breaks_counts_as_a_failure_though_it_began_well() {
    let mut rig = Rig::new([model("m", [at("a")])]);
    for _ in 0..6 {
        let mut pick = rig.plan("m").next(None, rig.now).unwrap();
        rig.pass(SECOND / 2);
        pick.flight.first_content(rig.now);
        pick.flight.failed(&error(Code::UpstreamStreamCut), rig.now);
    }
    let report = rig.report("a");
    assert_eq!(report.state, "ejected");
    assert!(report.ttft_p50.unwrap() > SECOND / 3, "and its times to the first token are true ones");
}
