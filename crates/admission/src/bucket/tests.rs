use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn bucket(limit: u64) -> Bucket {
    Bucket::new((Meter::Tokens, Span::Minute, limit), 0)
}

#[test]
fn a_whole_bucket_may_come_at_once_and_comes_back_evenly() {
    let mut bucket = bucket(60);
    assert_eq!(bucket.fit(0, 60, 0), Fit::Now);
    bucket.pour(60, 0);
    assert_eq!(bucket.fit(0, 1, 0), Fit::After(Duration::from_secs(1)));
    assert_eq!(bucket.fit(0, 1, SECOND), Fit::Now);
    assert_eq!(bucket.fit(0, 61, 60 * SECOND), Fit::Never);
    assert_eq!((bucket.room(0, 30 * SECOND), bucket.room(10, 30 * SECOND)), (30, 20));
    assert_eq!(bucket.gauge(0, 30 * SECOND).reset, Duration::from_secs(30));
}

#[test]
fn what_is_held_does_not_leak_and_is_given_back_whole() {
    let bucket = bucket(60);
    assert_eq!(bucket.fit(60, 1, 3_600 * SECOND), Fit::After(Duration::from_secs(1)));
    assert_eq!(bucket.fit(0, 60, 3_600 * SECOND), Fit::Now);
}

#[test]
fn a_clock_that_goes_back_takes_nothing_away_and_gives_nothing_twice() {
    let mut bucket = bucket(60);
    bucket.pour(60, 100 * SECOND);
    assert_eq!(bucket.room(0, 10 * SECOND), 0);
    bucket.pour(0, 10 * SECOND);
    assert_eq!(bucket.room(0, 110 * SECOND), 10, "from 100 s on, not from 10 s on");
}

#[test]
fn a_lower_limit_leaves_at_most_a_full_bucket_of_use() {
    let mut bucket = bucket(600);
    bucket.pour(600, 0);
    let lowered = bucket.limited(6, 0);
    assert_eq!(lowered.gauge(0, 0).reset, Duration::from_secs(60));
}

proptest! {
    #[test]
    fn in_any_span_no_more_passes_than_the_bucket_and_what_leaked(
        limit in 1u64..5_000,
        asks in proptest::collection::vec((0u64..5 * SECOND, 1u64..400), 1..200),
    ) {
        let mut bucket = bucket(limit);
        let (mut now, mut passed) = (0, Vec::new());
        for (pause, ask) in asks {
            now += pause;
            if bucket.fit(0, ask, now) == Fit::Now {
                bucket.pour(ask, now);
                passed.push((now, ask));
            }
        }
        for (first, (begin, _)) in passed.iter().enumerate() {
            let mut sum = 0u128;
            for (end, ask) in &passed[first..] {
                sum += u128::from(*ask);
                let allowed = u128::from(limit) * u128::from(60 * SECOND + end - begin);
                prop_assert!(sum * u128::from(60 * SECOND) <= allowed, "{sum} in {} ns", end - begin);
            }
        }
    }

    #[test]
    fn the_wait_that_is_told_is_exact(limit in 1u64..100_000, used in 0u64..200_000, ask in 1u64..100_000) {
        let mut bucket = bucket(limit);
        bucket.pour(used, 0);
        match bucket.fit(0, ask, 0) {
            Fit::Never => prop_assert!(ask > limit),
            Fit::Now => prop_assert!(used + ask <= limit),
            Fit::After(wait) => {
                let wait = wait.as_nanos() as u64;
                prop_assert_eq!(bucket.fit(0, ask, wait), Fit::Now);
                prop_assert!(bucket.fit(0, ask, wait - 1) != Fit::Now);
            }
        }
    }
}
