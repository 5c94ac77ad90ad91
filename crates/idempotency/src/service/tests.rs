use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use penstock_domain::Retry;
use proptest::prelude::*;

use super::*;
use crate::{MemoryAnswers, Room, Stored};

const POLICY: Policy = Policy {
    retention: Duration::from_secs(3_600),
    lease: Duration::from_secs(30),
    max_body: 1_000,
    room: Room { tenant: 100_000, total: 1_000_000 },
};

fn service(policy: Policy) -> (Idempotency, Arc<MemoryAnswers>) {
    let store = Arc::new(MemoryAnswers::default());
    (Idempotency::new(Arc::clone(&store) as Arc<dyn AnswerStore>, &[7; 32], policy), store)
}

fn key(text: &str) -> Key {
    Key::read([text.as_bytes()]).unwrap()
}

fn print(body: &str) -> Print {
    Print::begin("/v1/x", None).body(b"application/json", body.as_bytes())
}

async fn begin(service: &Idempotency, tenant: &str, body: &str) -> Result<Begun, Error> {
    let (key, print) = (key("k"), print(body));
    service.begin(Ask { key: &key, tenant, route: "POST /v1/x", print: &print }).await
}

fn answer(body: &str) -> Kept {
    Kept {
        status: 200,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: Bytes::from(body.to_owned()),
    }
}

async fn run(service: &Idempotency, tenant: &str) -> Running {
    match begin(service, tenant, "{}").await {
        Ok(Begun::Run(running)) => running,
        other => panic!("it does not run: {other:?}"),
    }
}

async fn replayed(service: &Idempotency, tenant: &str) -> Kept {
    match begin(service, tenant, "{}").await {
        Ok(Begun::Replay(kept)) => kept,
        other => panic!("it is not replayed: {other:?}"),
    }
}

/// What was spawned has run.
async fn settled() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_kept_is_given_again_as_it_was() {
    let (service, _) = service(POLICY);
    assert_eq!(run(&service, "me").await.keep(answer("one")).await, Stored::Stored);
    assert_eq!(replayed(&service, "me").await, answer("one"));
    assert_eq!(replayed(&service, "me").await, answer("one"), "as often as it is asked");
}

#[tokio::test]
async fn whoever_comes_while_one_runs_is_told_to_come_again() {
    let (service, _) = service(POLICY);
    let running = run(&service, "me").await;
    let error = begin(&service, "me", "{}").await.unwrap_err();
    assert_eq!((error.code(), error.retry()), (Code::IdempotencyInProgress, Retry::After(AGAIN)));
    drop(running);
    settled().await;
    drop(run(&service, "me").await);
}

#[tokio::test]
async fn another_request_with_the_same_key_is_refused_while_it_runs_and_after() {
    let (service, _) = service(POLICY);
    let running = run(&service, "me").await;
    let code = async || begin(&service, "me", "[]").await.unwrap_err().code();
    assert_eq!(code().await, Code::IdempotencyKeyReused);
    running.keep(answer("one")).await;
    assert_eq!(code().await, Code::IdempotencyKeyReused);
}

#[tokio::test]
async fn tenants_do_not_meet() {
    let (service, _) = service(POLICY);
    run(&service, "me").await.keep(answer("mine")).await;
    run(&service, "you").await.keep(answer("yours")).await;
    assert_eq!(replayed(&service, "me").await, answer("mine"));
    assert_eq!(replayed(&service, "you").await, answer("yours"));
}

#[tokio::test]
async fn what_was_given_up_runs_again() {
    let (service, store) = service(POLICY);
    drop(run(&service, "me").await);
    settled().await;
    assert!(store.is_empty());
    run(&service, "me").await;
}

#[tokio::test]
async fn what_is_too_large_is_not_kept_and_runs_again() {
    let (service, store) = service(POLICY);
    let large = answer(&"x".repeat(1_001));
    assert_eq!(run(&service, "me").await.keep(large).await, Stored::Large);
    settled().await;
    assert!(store.is_empty());
}

#[tokio::test]
async fn an_answer_is_kept_although_nobody_waits_for_it() {
    let (service, _) = service(POLICY);
    drop(run(&service, "me").await.keep(answer("one")));
    settled().await;
    assert_eq!(replayed(&service, "me").await, answer("one"));
}

#[tokio::test]
async fn a_request_with_a_key_does_not_run_without_its_store() {
    let (service, store) = service(POLICY);
    store.fail(Some(Error::new(Code::StoreUnavailable, "the disk is full")));
    assert_eq!(begin(&service, "me", "{}").await.unwrap_err().code(), Code::StoreUnavailable);
    store.fail(None);
    let running = run(&service, "me").await;
    store.fail(Some(Error::new(Code::StoreUnavailable, "the disk is full")));
    assert_eq!(running.keep(answer("one")).await, Stored::Failed);
}

#[tokio::test]
async fn a_runner_that_died_is_waited_for_for_one_lease() {
    let short = Policy { lease: Duration::ZERO, ..POLICY };
    let (service, _) = service(short);
    let dead = run(&service, "me").await;
    let alive = run(&service, "me").await;
    assert_eq!(dead.keep(answer("late")).await, Stored::Lost, "who was given up keeps nothing");
    assert_eq!(alive.keep(answer("one")).await, Stored::Stored);
    assert_eq!(replayed(&service, "me").await, answer("one"));
}

#[tokio::test]
async fn a_runner_that_lives_is_waited_for_as_long_as_it_runs() {
    let (service, store) = service(POLICY);
    let running = run(&service, "me").await;
    let (slot, ticket) = service.shared.live.lock().iter().map(|(s, t)| (*s, *t)).next().unwrap();
    // A lease that would be over is there again after a renewal.
    store.renew(&[(slot, ticket)], SystemTime::UNIX_EPOCH).await.unwrap();
    service.renew(POLICY.lease).await.unwrap();
    assert_eq!(begin(&service, "me", "{}").await.unwrap_err().code(), Code::IdempotencyInProgress);
    running.keep(answer("one")).await;
    assert!(service.shared.live.lock().is_empty(), "who has kept an answer renews nothing");
}

#[tokio::test]
async fn what_is_over_runs_again() {
    let (service, _) = service(Policy { retention: Duration::ZERO, ..POLICY });
    run(&service, "me").await.keep(answer("one")).await;
    run(&service, "me").await;
}

/// What one caller meets at the provider.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Succeeds,
    /// It fails, or its client leaves before the answer is there.
    GivesUp,
}

async fn call(service: &Idempotency, fate: Fate, pauses: (u8, u8), calls: &AtomicUsize) -> Option<Kept> {
    for _ in 0..pauses.0 {
        tokio::task::yield_now().await;
    }
    loop {
        match begin(service, "me", "{}").await {
            Ok(Begun::Replay(kept)) => return Some(kept),
            Ok(Begun::Run(running)) => {
                for _ in 0..pauses.1 {
                    tokio::task::yield_now().await;
                }
                if matches!(fate, Fate::Succeeds) {
                    let number = calls.fetch_add(1, Ordering::SeqCst);
                    let kept = answer(&number.to_string());
                    assert_eq!(running.keep(kept.clone()).await, Stored::Stored);
                    return Some(kept);
                }
                return None;
            }
            Err(error) => {
                assert_eq!(error.code(), Code::IdempotencyInProgress);
                tokio::task::yield_now().await;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whoever comes first, whoever gives up in between: the provider succeeds once, and everybody who is answered
    /// has that answer.
    #[test]
    fn of_any_callers_in_any_order_one_succeeds(
        callers in proptest::collection::vec(
            (prop_oneof![3 => Just(Fate::Succeeds), 2 => Just(Fate::GivesUp)], (0_u8..6, 0_u8..6)),
            1..12,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (service, _) = service(POLICY);
            let (service, calls) = (Arc::new(service), Arc::new(AtomicUsize::new(0)));
            let tasks: Vec<_> = callers
                .iter()
                .map(|(fate, pauses)| {
                    let (service, calls, fate, pauses) = (Arc::clone(&service), Arc::clone(&calls), *fate, *pauses);
                    tokio::spawn(async move { call(&service, fate, pauses, &calls).await })
                })
                .collect();
            let mut answers = Vec::new();
            for ((fate, _), task) in callers.iter().zip(tasks) {
                let got = task.await.unwrap();
                assert!(got.is_some() || !matches!(fate, Fate::Succeeds), "who can succeed has an answer");
                answers.extend(got);
            }
            let wanted = callers.iter().any(|(fate, _)| matches!(fate, Fate::Succeeds));
            assert_eq!(calls.load(Ordering::SeqCst), usize::from(wanted));
            assert!(answers.iter().all(|one| *one == answer("0")));
        });
    }
}
