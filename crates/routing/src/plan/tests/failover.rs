//! After a failure.

use super::*;

fn with_fallback() -> Rig {
    let mut first = model("first", [at("a")]);
    first.fallbacks = vec!["second".into()];
    Rig::new([first, model("second", [at("b"), at("c")])])
}

#[test]
fn the_models_come_in_their_order_and_each_target_once() {
    let rig = with_fallback();
    let failures = vec![error(Code::UpstreamError); 9];
    let mut asked = rig.play(&mut rig.plan("first"), &failures);
    assert_eq!(asked[0], "a/0");
    asked.sort();
    assert_eq!(asked, ["a/0", "b/0", "c/0"]);
    // The other way round nobody takes over.
    assert_eq!(rig.play(&mut rig.plan("second"), &failures).len(), 2);
}

#[test]
fn what_is_the_request_s_own_fault_is_asked_of_nobody_else_and_speaks_against_nobody() {
    let rig = with_fallback();
    for code in [Code::UpstreamRejected, Code::InvalidRequest, Code::ContentFiltered, Code::DeadlineExceeded]
    {
        for _ in 0..50 {
            assert_eq!(rig.play(&mut rig.plan("first"), &[error(code)]), ["a/0"], "{code}");
        }
    }
    assert_eq!(rig.report("a").state, "healthy");
}

#[test]
fn a_hung_target_is_noticed_by_askers_whose_time_runs_out() {
    let mut rig = with_fallback();
    for _ in 0..5 {
        let pick = rig.plan("first").next(None, rig.now).unwrap();
        rig.pass(SECOND * 10);
        pick.flight.failed(&error(Code::DeadlineExceeded), rig.now);
    }
    assert_eq!(rig.report("a").state, "ejected");
}

#[test]
fn what_a_target_cannot_do_goes_to_another_and_speaks_against_nobody() {
    let rig = with_fallback();
    for _ in 0..50 {
        assert_eq!(rig.play(&mut rig.plan("first"), &[error(Code::Unsupported)])[0], "a/0");
    }
    assert_eq!(rig.report("a").state, "healthy");
}

#[test]
fn a_broken_connection_is_tried_again_only_where_there_is_no_equal() {
    let broken = error(Code::UpstreamUnreachable).with_remedy(penstock_domain::Remedy::Same);
    let rig = with_fallback();
    let failures = [broken.clone(), broken.clone()];
    let asked = rig.play(&mut rig.plan("first"), &failures);
    assert_eq!(asked[..2], ["a/0", "a/0"], "once more before another model");
    assert_ne!(asked[2], "a/0", "and not for ever");
    let asked = rig.play(&mut rig.plan("second"), &failures[..1]);
    assert_ne!(asked[0], asked[1], "an equal is at hand");
}

#[test]
fn another_provider_comes_before_another_credential_of_the_one_that_failed() {
    for _ in 0..3 {
        let rig = Rig::new([model("m", [Deployment { credentials: 3, ..at("a") }, at("b")])]);
        let asked = rig.play(&mut rig.plan("m"), &[error(Code::UpstreamError)]);
        assert_ne!(asked[0][..1], asked[1][..1]);
    }
}

#[test]
fn too_long_a_prompt_goes_only_where_the_window_is_larger() {
    let window = |provider, tokens| Deployment { context_window: tokens, ..at(provider) };
    let mut small = model("m", [window("small", Some(8_000))]);
    small.fallbacks = vec!["other".into()];
    let others = [window("same", Some(8_000)), window("unknown", None), window("large", Some(32_000))];
    let rig = Rig::new([small, model("other", others)]);
    let failures = vec![error(Code::ContextLengthExceeded); 5];
    let mut plan = rig.plan_for("m", 7_000, None);
    assert_eq!(rig.play(&mut plan, &failures), ["small/0", "large/0"]);
    let verdicts: Vec<_> = plan.considered().iter().map(|seen| seen.verdict).collect();
    assert_eq!(verdicts, ["tried", "context_window", "context_window", "tried"]);
    // What surely does not fit is not even tried; what perhaps does, is.
    let asked = rig.play(&mut rig.plan_for("m", 13_000, None), &[]);
    assert!(asked == ["unknown/0"] || asked == ["large/0"], "{asked:?}");
    assert_eq!(rig.play(&mut rig.plan_for("m", 11_000, None), &[]), ["small/0"]);
}

#[test]
fn a_prompt_that_fits_nowhere_is_for_a_vendor_to_refuse() {
    let rig =
        Rig::new([model("m", ["a", "b"].map(|name| Deployment { context_window: Some(100), ..at(name) }))]);
    assert_eq!(rig.play(&mut rig.plan_for("m", 1_000_000, None), &[]).len(), 1);
}

#[test]
fn what_a_filter_withheld_is_asked_elsewhere_only_when_the_model_says_so() {
    let deployments = || [Deployment { credentials: 2, ..at("a") }, at("b")];
    let past = Policy { past_content_filter: true, ..Policy::default() };
    let rig =
        Rig::new([model("kept", deployments()), Model { policy: past, ..model("asked", deployments()) }]);
    let filtered = vec![error(Code::ContentFiltered); 5];
    assert_eq!(rig.play(&mut rig.plan("kept"), &filtered).len(), 1);
    let asked = rig.play(&mut rig.plan("asked"), &filtered);
    assert_eq!(asked.len(), 2, "another credential meets the same filter: {asked:?}");
    assert_ne!(asked[0][..1], asked[1][..1]);
}

#[test]
fn relayed_requests_are_never_repeated() {
    let rule = crate::RelayRule { place: Deployment::new("p", None), paths: vec!["/*".into()] };
    let rig = Rig::new([]);
    let catalogue = Catalogue::new([]).with_relay(Some(rule));
    let broken = error(Code::UpstreamUnreachable).with_remedy(penstock_domain::Remedy::Same);
    let mut plan = catalogue.relay(&rig.fleet, ("/files", "files"), None).unwrap();
    assert_eq!(rig.play(&mut plan, &vec![broken; 3]), ["p/0"]);
}

#[test]
fn one_request_costs_no_more_than_eight_calls() {
    let rig = Rig::new([model("m", (0..20).map(|n| at(&format!("p{n}"))))]);
    assert_eq!(rig.play(&mut rig.plan("m"), &vec![error(Code::UpstreamError); 30]).len(), 8);
}

#[test]
fn when_all_are_out_few_requests_are_tried_more_than_once() {
    let rig = Rig::new([model("m", [at("a"), at("b"), at("c")])]);
    for provider in ["a", "b", "c"] {
        rig.fleet.target(&provider.into(), 0, &"m".into());
        rig.eject(provider, "m");
    }
    let mut calls = 0;
    for _ in 0..200 {
        let mut plan = rig.plan("m");
        calls += rig.play(&mut plan, &vec![error(Code::UpstreamError); 9]).len();
    }
    assert!((200..=250).contains(&calls), "{calls}");
    let verdicts: Vec<_> = rig.plan("m").considered().iter().map(|seen| seen.verdict).collect();
    assert_eq!(verdicts, ["ejected"; 3]);
}

#[test]
fn explanations_say_when_the_budget_kept_somebody_away() {
    // Only what a request pays in can be spent, and here one request asks for more than all.
    let rig = Rig::new([model("m", [at("a"), at("b")])]);
    let mut plan = rig.plan("m");
    let pick = plan.next(None, rig.now).unwrap();
    let budgets = Arc::clone(plan.budgets.as_ref().unwrap());
    while budgets.take(Extra::Failover, rig.now) {}
    let failure = error(Code::UpstreamError);
    pick.flight.failed(&failure, rig.now);
    assert!(plan.next(Some(&failure), rig.now).is_none());
    let mut verdicts: Vec<_> = plan.considered().iter().map(|seen| seen.verdict).collect();
    verdicts.sort_unstable();
    assert_eq!(verdicts, ["budget", "tried"]);
}
