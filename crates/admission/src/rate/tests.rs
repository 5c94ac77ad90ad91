use proptest::prelude::*;

use super::*;

/// Runs requests at the given gaps and returns the times at which one passed, with all verdicts.
fn run(per_minute: u32, gaps: &[u64]) -> (Vec<u64>, Vec<(u64, Verdict)>) {
    let (mut now, mut full_at) = (0, 0);
    let (mut passed, mut verdicts) = (Vec::new(), Vec::new());
    for gap in gaps {
        now += gap;
        let verdict = ask(per_minute, full_at, now);
        if let Verdict::Pass { full_at: next } = verdict {
            full_at = next;
            passed.push(now);
        }
        verdicts.push((now, verdict));
    }
    (passed, verdicts)
}

/// Gaps from nothing to a few seconds, with bursts and long pauses.
fn gaps() -> impl Strategy<Value = Vec<u64>> {
    let gap = prop_oneof![
        3 => Just(0_u64),
        4 => 0..50_000_000_u64,
        2 => 0..3_000_000_000_u64,
        1 => 0..90_000_000_000_u64,
    ];
    proptest::collection::vec(gap, 1..400)
}

proptest! {
    #[test]
    fn no_span_of_time_lets_more_through_than_burst_plus_refill(per_minute in 1_u32..2_000, gaps in gaps()) {
        let (passed, _) = run(per_minute, &gaps);
        for (i, begin) in passed.iter().enumerate() {
            for (j, end) in passed.iter().enumerate().skip(i) {
                let allowed = u128::from(per_minute)
                    + u128::from(end - begin) * u128::from(per_minute) / u128::from(MINUTE_NANOS);
                prop_assert!((j - i + 1) as u128 <= allowed, "{} passed in {} ns", j - i + 1, end - begin);
            }
        }
    }

    #[test]
    fn the_wait_is_exact(per_minute in 1_u32..2_000, gaps in gaps()) {
        let (mut now, mut full_at) = (0, 0);
        for gap in gaps {
            now += gap;
            match ask(per_minute, full_at, now) {
                Verdict::Pass { full_at: next } => full_at = next,
                Verdict::Wait { wait } => {
                    let wait = u64::try_from(wait.as_nanos()).expect("short");
                    let (at_last, one_less) = (ask(per_minute, full_at, now + wait), ask(per_minute, full_at, now + wait - 1));
                    let passes = matches!(at_last, Verdict::Pass { .. });
                    let waits = matches!(one_less, Verdict::Wait { .. });
                    prop_assert!(passes && waits, "{wait} ns: {at_last:?}, one nanosecond less: {one_less:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_told_as_remaining_passes_at_once_and_no_more(per_minute in 1_u32..300, gaps in gaps()) {
        let (mut now, mut full_at) = (0, 0);
        for gap in gaps {
            now += gap;
            if let Verdict::Pass { full_at: next } = ask(per_minute, full_at, now) {
                full_at = next;
            }
        }
        let told = look(per_minute, full_at, now);
        let (mut state, mut passed) = (full_at, 0);
        while let Verdict::Pass { full_at: next } = ask(per_minute, state, now) {
            state = next;
            passed += 1;
        }
        prop_assert_eq!(passed, told.remaining);
        let rested = look(per_minute, full_at, now + u64::try_from(told.reset.as_nanos()).expect("short"));
        prop_assert_eq!(rested.remaining, per_minute, "after `reset` everything is back");
    }

    #[test]
    fn no_token_is_lost_by_asking_in_vain(per_minute in 1_u32..500, tries in 1_usize..200) {
        let mut full_at = 0;
        while let Verdict::Pass { full_at: next } = ask(per_minute, full_at, 0) {
            full_at = next;
        }
        let before = full_at;
        for _ in 0..tries {
            prop_assert!(matches!(ask(per_minute, full_at, 1), Verdict::Wait { .. }), "the bucket is empty");
        }
        prop_assert_eq!(full_at, before);
        let later = gap(per_minute);
        prop_assert!(matches!(ask(per_minute, full_at, later), Verdict::Pass { .. }), "one token later one passes");
    }

    #[test]
    fn a_steady_asker_below_the_limit_is_never_refused(per_minute in 1_u32..5_000) {
        let each = gap(per_minute);
        let (passed, _) = run(per_minute, &vec![each; 300]);
        prop_assert_eq!(passed.len(), 300);
    }

    #[test]
    fn a_changed_limit_holds_from_the_next_request(before in 1_u32..5_000, after in 1_u32..5_000) {
        let mut full_at = 0;
        while let Verdict::Pass { full_at: next } = ask(before, full_at, 0) {
            full_at = next;
        }
        // Whatever the state, a minute and a bit refills a bucket of any size, and no bucket is over its new size.
        let rested = look(after, full_at, MINUTE_NANOS + 5_000);
        prop_assert_eq!(rested.remaining, after);
        prop_assert!(look(after, full_at, 0).remaining <= after);
    }
}

#[test]
fn a_whole_minute_s_worth_may_come_at_once_and_then_one_per_gap() {
    let (passed, verdicts) = run(60, &[0; 100]);
    assert_eq!(passed.len(), 60);
    assert_eq!(verdicts[60].1, Verdict::Wait { wait: Duration::from_secs(1) });
    assert_eq!(look(60, 0, 0), Rate { limit: 60, remaining: 60, reset: Duration::ZERO });
}

#[test]
fn extreme_values_neither_overflow_nor_pass_for_ever() {
    assert_eq!(ask(0, 0, 0), Verdict::Wait { wait: Duration::from_secs(60) });
    assert!(matches!(ask(u32::MAX, 0, u64::MAX), Verdict::Pass { .. } | Verdict::Wait { .. }));
    assert!(matches!(ask(1, u64::MAX, 0), Verdict::Wait { wait } if wait == Duration::from_secs(60)));
    assert_eq!(look(1, u64::MAX, 0).remaining, 0);
}
