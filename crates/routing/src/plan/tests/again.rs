//! The same target once more, where there is no other.

use penstock_domain::Remedy;

use super::*;

fn alone() -> Rig {
    Rig::new([model("m", [at("a")])])
}

/// Plays a request whose attempts all end with this error at once: the pauses before each.
fn pauses(rig: &mut Rig, plan: &mut Plan, error: &Error) -> Vec<Duration> {
    let mut pauses = Vec::new();
    let mut after = None;
    while let Some(pick) = plan.next(after, rig.now) {
        assert_eq!(pick.why, if pauses.is_empty() { Why::First } else { Why::Retry });
        rig.pass(pick.pause);
        pick.flight.failed(error, rig.now);
        pauses.push(pick.pause);
        after = Some(error);
    }
    pauses
}

#[test]
fn what_may_pass_is_tried_three_times_with_growing_random_pauses() {
    let codes = [Code::UpstreamError, Code::UpstreamUnreachable, Code::UpstreamStreamCut, Code::Overloaded];
    let mut sums = [Duration::ZERO; 2];
    for seed in 0..100 {
        let mut rig = Rig { fleet: Fleet::seeded(seed), ..alone() };
        for code in codes {
            rig.pass(SECOND * 60);
            let mut plan = rig.plan("m");
            let pauses = pauses(&mut rig, &mut plan, &error(code));
            assert_eq!(pauses.len(), 3, "{code}");
            assert!(pauses[0].is_zero() && pauses[1] <= SECOND / 2 && pauses[2] <= SECOND, "{pauses:?}");
            assert!(plan.is_spent(), "an SDK would do no more");
            (0..2).for_each(|n| sums[n] += pauses[n + 1]);
        }
    }
    let [first, second] = sums.map(|sum| sum.as_secs_f64() / 400.0);
    assert!((0.2..0.3).contains(&first) && (0.4..0.6).contains(&second), "{first} {second}");
}

#[test]
fn what_does_not_pass_is_not_tried_again() {
    for code in [
        Code::UpstreamRejected,
        Code::Unsupported,
        Code::UpstreamAuth,
        Code::UpstreamQuotaExceeded,
        Code::ContextLengthExceeded,
        Code::ContentFiltered,
        Code::DeadlineExceeded,
        Code::LocalModelUnavailable,
    ] {
        let rig = alone();
        assert_eq!(rig.play(&mut rig.plan("m"), &vec![error(code); 5]).len(), 1, "{code}");
    }
}

#[test]
fn no_repeat_begins_that_the_asker_s_time_does_not_allow() {
    for seed in 0..50 {
        let mut rig = Rig { fleet: Fleet::seeded(seed), ..alone() };
        let mut plan = rig.plan("m");
        let deadline = rig.now + Duration::from_millis(300);
        plan.end_by(Some(deadline));
        pauses(&mut rig, &mut plan, &error(Code::UpstreamError));
        assert!(rig.now + Duration::from_millis(20) <= deadline);
    }
}

#[test]
fn what_took_long_to_fail_is_not_waited_for_twice() {
    let mut rig = alone();
    let mut plan = rig.plan("m");
    let pick = plan.next(None, rig.now).unwrap();
    rig.pass(SECOND * 10);
    let late = error(Code::UpstreamTimeout);
    pick.flight.failed(&late, rig.now);
    assert!(plan.next(Some(&late), rig.now).is_none());
    assert!(!plan.is_spent(), "the asker may try for itself");
}

#[test]
fn a_short_wait_of_the_only_vendor_is_waited_out_once_and_a_long_one_is_told() {
    let mut rig = alone();
    let mut plan = rig.plan("m");
    let short = pauses(&mut rig, &mut plan, &cool(2));
    assert_eq!(short.len(), 2, "{short:?}");
    assert!(short[1] >= SECOND * 2 && short[1] <= SECOND * 5 / 2, "{short:?}");
    assert_eq!(plan.wait(rig.now), Some(SECOND * 2), "then it is told");
    let mut rig = alone();
    let mut plan = rig.plan("m");
    assert_eq!(pauses(&mut rig, &mut plan, &cool(6)).len(), 1);
    // Without a stated wait ours counts, which begins with a second at most.
    let mut rig = alone();
    let mut plan = rig.plan("m");
    let guessed = pauses(&mut rig, &mut plan, &error(Code::UpstreamRateLimited));
    assert!(guessed.len() == 2 && guessed[1] >= SECOND / 2, "{guessed:?}");
}

#[test]
fn a_vendor_s_own_wait_after_a_fault_is_kept() {
    let mut rig = alone();
    let busy = |seconds| error(Code::Overloaded).with_retry(Retry::After(SECOND * seconds));
    let mut plan = rig.plan("m");
    let kept = pauses(&mut rig, &mut plan, &busy(3));
    assert!(kept.len() == 3 && kept[1..].iter().all(|pause| *pause >= SECOND * 3), "{kept:?}");
    let mut plan = rig.plan("m");
    assert_eq!(pauses(&mut rig, &mut plan, &busy(30)).len(), 1);
}

#[test]
fn whoever_has_somebody_else_does_not_wait_for_the_one_that_failed() {
    let rig = Rig::new([model("m", [at("a"), at("b")])]);
    for _ in 0..20 {
        let mut plan = rig.plan("m");
        let mut asked = rig.play(&mut plan, &vec![error(Code::UpstreamError); 5]);
        asked.sort();
        asked.dedup();
        assert!(asked.len() <= 2 && plan.repeats == 0, "{asked:?}");
    }
}

#[test]
fn when_nothing_passes_the_purse_for_retries_bounds_what_it_costs() {
    let rig = alone();
    let (mut calls, mut denied) = (0, 0);
    for _ in 0..200 {
        let mut plan = rig.plan("m");
        calls += rig.play(&mut plan, &vec![error(Code::UpstreamError); 9]).len();
        denied += usize::from(plan.is_spent());
    }
    assert!((200..=250).contains(&calls), "{calls}");
    assert_eq!(denied, 200, "nobody is invited to send it again at once");
}

#[test]
fn a_request_that_fails_again_does_not_eject_its_target_alone() {
    let mut rig = alone();
    let mut plan = rig.plan("m");
    let once = Rig::new([model("m", [at("a")])]);
    let pick = once.plan("m").next(None, once.now).unwrap();
    pick.flight.failed(&error(Code::UpstreamError), once.now);
    pauses(&mut rig, &mut plan, &error(Code::UpstreamError));
    assert!((rig.report("a").suspicion - once.report("a").suspicion).abs() < 1e-9);
}

#[test]
fn a_broken_connection_is_tried_at_once_and_then_with_pauses() {
    let mut rig = alone();
    let mut plan = rig.plan("m");
    let broken = error(Code::UpstreamUnreachable).with_remedy(Remedy::Same);
    let pauses = pauses(&mut rig, &mut plan, &broken);
    assert_eq!(pauses.len(), 4);
    assert!(pauses[1].is_zero() && !pauses[3].is_zero(), "{pauses:?}");
}
