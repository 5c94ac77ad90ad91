use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::*;

fn limits(requests_per_minute: Option<u32>, concurrent_requests: Option<u32>) -> Limits {
    Limits { requests_per_minute, concurrent_requests }
}

fn code(outcome: Result<Permit, Error>) -> Code {
    outcome.expect_err("refused").code()
}

#[test]
fn a_permit_gives_its_slot_back_when_it_drops() {
    let start = Instant::now();
    let admission = Admission::new(start);
    let two = limits(None, Some(2));
    let (_, first) = admission.admit("a", &two, start);
    let (_, second) = admission.admit("a", &two, start);
    let (first, second) = (first.expect("one"), second.expect("two"));
    assert_eq!(code(admission.admit("a", &two, start).1), Code::ConcurrencyLimitExceeded);
    assert!(admission.admit("b", &two, start).1.is_ok(), "keys do not share slots");
    drop(first);
    let third = admission.admit("a", &two, start).1.expect("the slot is free again");
    drop((second, third));
    assert_eq!(admission.in_flight("a"), 0);
}

#[test]
fn a_refusal_uses_up_neither_slot_nor_rate() {
    let start = Instant::now();
    let admission = Admission::new(start);
    let both = limits(Some(2), Some(1));
    let held = admission.admit("a", &both, start).1.expect("first");
    for _ in 0..10 {
        let (rate, refused) = admission.admit("a", &both, start);
        assert_eq!(rate.expect("limited").remaining, 1, "refused for its slot, the rate is untouched");
        assert_eq!(code(refused), Code::ConcurrencyLimitExceeded);
    }
    drop(held);
    drop(admission.admit("a", &both, start).1.expect("second"));
    for _ in 0..10 {
        let (rate, refused) = admission.admit("a", &both, start);
        assert_eq!(rate.expect("limited").remaining, 0);
        assert_eq!(code(refused), Code::RateLimitExceeded);
        assert_eq!(admission.in_flight("a"), 0, "refused for its rate, the slot is free");
    }
}

#[test]
fn the_wait_that_is_told_is_the_wait_that_helps() {
    let start = Instant::now();
    let admission = Admission::new(start);
    let limits = limits(Some(7), None);
    for _ in 0..7 {
        drop(admission.admit("a", &limits, start).1.expect("within the limit"));
    }
    let error = admission.admit("a", &limits, start).1.expect_err("the eighth");
    let Retry::After(wait) = error.retry() else { panic!("no wait told: {error:?}") };
    assert!(admission.admit("a", &limits, start + wait - Duration::from_nanos(1)).1.is_err());
    assert!(admission.admit("a", &limits, start + wait).1.is_ok());
}

#[test]
fn a_key_without_limits_is_not_held_back_and_told_nothing() {
    let start = Instant::now();
    let admission = Admission::new(start);
    let permits: Vec<_> = (0..1_000)
        .map(|_| {
            let (rate, permit) = admission.admit("a", &Limits::default(), start);
            assert!(rate.is_none());
            permit.expect("unlimited")
        })
        .collect();
    assert_eq!(admission.in_flight("a"), 1_000);
    drop(permits);
    assert_eq!(admission.in_flight("a"), 0);
}

#[test]
fn a_thousand_requests_at_once_get_exactly_what_is_allowed() {
    const THREADS: usize = 20;
    const EACH: usize = 50;
    let start = Instant::now();
    let (admission, barrier) = (Admission::new(start), Barrier::new(THREADS));
    let (passed, peak) = (AtomicUsize::new(0), AtomicU32::new(0));
    let limits = limits(Some(100), Some(3));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..EACH {
                    // A slot may be taken at this moment; the rate may not be lost to that.
                    loop {
                        match admission.admit("a", &limits, start).1 {
                            Ok(permit) => {
                                peak.fetch_max(admission.in_flight("a"), Ordering::Relaxed);
                                passed.fetch_add(1, Ordering::Relaxed);
                                drop(permit);
                                break;
                            }
                            Err(error) if error.code() == Code::RateLimitExceeded => break,
                            Err(_) => std::thread::yield_now(),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(passed.load(Ordering::Relaxed), 100, "the rate is exact under a race");
    assert!(peak.load(Ordering::Relaxed) <= 3, "slots are exact under a race");
    assert_eq!(admission.in_flight("a"), 0, "every slot came back");
}

#[test]
fn memory_is_bounded_by_the_keys_that_were_lately_active() {
    let start = Instant::now();
    let admission = Admission::new(start);
    let limits = limits(Some(60), None);
    let held = admission.admit("long-lived", &limits, start).1.expect("first");
    for i in 0..100_000_u32 {
        // Each key's bucket is full again after a second; a hundred keys come per second.
        let now = start + Duration::from_millis(u64::from(i) * 10);
        drop(admission.admit(&format!("key-{i}"), &limits, now).1.expect("first of its key"));
    }
    assert!(
        admission.remembered() <= SHARDS * (FIRST_SWEEP + 1),
        "{} keys remembered",
        admission.remembered()
    );
    assert_eq!(admission.in_flight("long-lived"), 1, "a key with a request in flight is never forgotten");
    drop(held);
}

#[test]
fn a_key_whose_rate_is_used_up_is_not_forgotten_under_pressure() {
    let start = Instant::now();
    let admission = Admission::new(start);
    let one = limits(Some(1), None);
    drop(admission.admit("a", &one, start).1.expect("first"));
    for i in 0..10_000 {
        drop(admission.admit(&format!("flood-{i}"), &Limits::default(), start).1);
    }
    assert_eq!(code(admission.admit("a", &one, start).1), Code::RateLimitExceeded);
}
