//! The same request, sent twice: done once, answered twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use penstock_domain::{Code, Error};
use penstock_edge::{EdgeSettings, Extra};
use penstock_idempotency::{AnswerStore, Idempotency, MemoryAnswers, Policy};
use penstock_provider::Health;
use serde_json::json;

use crate::bench::{ASKS, Bench, FILES, FOREIGN, KEY, POOR, WHOLE};
use crate::wire::{Answer, Wire, chat, exchange, message, post, response};

/// A gateway whose kept answers are in the test's hands.
async fn bench(policy: Policy) -> (Bench, Arc<MemoryAnswers>) {
    let store = Arc::new(MemoryAnswers::default());
    let port = Arc::clone(&store) as Arc<dyn AnswerStore>;
    let idempotency = Arc::new(Idempotency::new(port, &[7; 32], policy));
    let extra = Extra { idempotency, ..Extra::default() };
    (Bench::with(EdgeSettings::default(), extra, Health::Ready).await, store)
}

/// The same, relaying what is about files.
async fn relaying() -> (Bench, Arc<MemoryAnswers>) {
    let store = Arc::new(MemoryAnswers::default());
    let port = Arc::clone(&store) as Arc<dyn AnswerStore>;
    let idempotency = Arc::new(Idempotency::new(port, &[7; 32], Policy::default()));
    let extra = Extra { idempotency, ..Extra::default() };
    (Bench::with_relay(EdgeSettings::default(), extra, Health::Ready, &["/files/*"]).await, store)
}

fn asked(path: &str, key: &str, name: &str, body: &str) -> String {
    post(path, &format!("authorization: Bearer {key}\r\nidempotency-key: {name}\r\n"), body)
}

async fn ask(bench: &Bench, key: &str, name: &str, body: &str) -> Answer {
    exchange(bench.address, asked("/v1/chat/completions", key, name, body)).await
}

fn calls(bench: &Bench) -> usize {
    bench.watch.calls.load(Ordering::SeqCst)
}

fn is_replay(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}

#[tokio::test]
async fn a_whole_answer_is_given_again_to_the_byte_and_nobody_is_called() {
    let (bench, _) = bench(Policy::default()).await;
    let first = ask(&bench, KEY, "order-17", &chat("whole", false)).await;
    let again = ask(&bench, KEY, "\"order-17\"", &chat("whole", false)).await;
    assert_eq!((first.body.as_str(), again.body.as_str()), (WHOLE, WHOLE));
    assert_eq!((first.status, again.status, calls(&bench)), (200, 200, 1));
    assert!(!is_replay(&first) && is_replay(&again));
    assert_eq!(first.header("penstock-idempotency"), Some("stored"));
    for name in ["content-type", "penstock-model", "penstock-provider", "penstock-attempts"] {
        assert_eq!(first.header(name), again.header(name), "{name}");
    }
    assert_eq!(again.header("penstock-original-request-id"), first.header("x-request-id"));
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    assert_eq!(again.header("server-timing"), None);
    assert_eq!(bench.codes(2).await, ["ok", "replayed"]);
    let record = &bench.kept.records()[1];
    assert_eq!((record.attempts, record.usage, record.model.as_deref()), (0, None, Some("whole")));
    assert!(record.cost.known().is_none() && record.key.is_some());
}

#[tokio::test]
async fn a_complete_stream_is_given_again_in_every_dialect() {
    let (bench, _) = bench(Policy::default()).await;
    let requests = [
        ("/v1/chat/completions", chat("plain", true)),
        ("/v1/chat/completions", chat("raw", true)),
        ("/v1/messages", message("plain", true)),
        ("/v1/messages", message("raw-messages", true)),
        ("/v1/responses", response("plain", json!({"stream": true}))),
        ("/v1/responses", response("raw-responses", json!({"stream": true, "store": false}))),
        ("/v1/responses", response("raw-responses", json!({"stream": true}))),
    ];
    for (number, (path, body)) in requests.iter().enumerate() {
        let request = asked(path, KEY, &format!("stream-{number}"), body);
        let first = exchange(bench.address, &request).await;
        let again = exchange(bench.address, &request).await;
        assert_eq!(first.body, again.body, "{path} {body}");
        assert!(is_replay(&again) && first.body.len() > 50, "{path} {body}: {again:?}");
        assert_eq!(again.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(calls(&bench), number + 1);
    }
}

#[tokio::test]
async fn what_fails_is_done_again() {
    let (bench, store) = bench(Policy::default()).await;
    for (number, (model, stream)) in [("html", false), ("cut", false), ("cut", true)].iter().enumerate() {
        let request = asked("/v1/chat/completions", KEY, &format!("fails-{number}"), &chat(model, *stream));
        for _ in 0..2 {
            let before = calls(&bench);
            let answer = exchange(bench.address, &request).await;
            assert!(!is_replay(&answer) && calls(&bench) > before, "{model} {answer:?}");
            settled(&store).await;
        }
    }
}

/// Waits until nothing is held: who gives up gives back beside.
async fn settled(store: &MemoryAnswers) {
    while !store.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whoever_comes_meanwhile_is_told_when_to_come_again() {
    let (bench, _) = bench(Policy::default()).await;
    let mut wire = Wire::open(bench.address).await;
    wire.send(asked("/v1/chat/completions", KEY, "slow", &chat("late", true))).await;
    wire.until("Paris").await;
    let second = ask(&bench, KEY, "slow", &chat("late", true)).await;
    assert_eq!((second.status, second.code().as_str()), (409, "idempotency_in_progress"));
    assert_eq!((second.header("x-should-retry"), second.header("retry-after")), (Some("true"), Some("1")));
    let other = ask(&bench, KEY, "slow", &chat("plain", true)).await;
    assert_eq!((other.status, other.code().as_str()), (422, "idempotency_key_reused"));
    assert_eq!(other.header("x-should-retry"), None);
    bench.watch.go.notify_one();
    wire.until("[DONE]").await;
    assert!(is_replay(&ask(&bench, KEY, "slow", &chat("late", true)).await));
    assert_eq!(calls(&bench), 1);
    let mut codes = bench.codes(4).await;
    codes.sort_unstable();
    assert_eq!(codes, ["idempotency_in_progress", "idempotency_key_reused", "ok", "replayed"]);
    assert!(bench.kept.records().iter().all(|record| record.key.is_some()), "who was refused is known");
}

#[tokio::test]
async fn who_leaves_before_the_end_gets_nothing_kept() {
    let (bench, store) = bench(Policy::default()).await;
    let mut wire = Wire::open(bench.address).await;
    wire.send(asked("/v1/chat/completions", KEY, "left", &chat("endless", true))).await;
    wire.until("Paris").await;
    assert_eq!(store.len(), 1);
    drop(wire);
    settled(&store).await;
    let mut again = Wire::open(bench.address).await;
    again.send(asked("/v1/chat/completions", KEY, "left", &chat("endless", true))).await;
    again.until("Paris").await;
    assert_eq!(calls(&bench), 2);
}

#[tokio::test]
async fn callers_do_not_meet_and_who_may_not_ask_gets_nothing() {
    let (bench, _) = bench(Policy::default()).await;
    for (number, key) in [KEY, ASKS, FOREIGN].iter().enumerate() {
        let answer = ask(&bench, key, "shared", &chat("plain", false)).await;
        assert!(answer.status == 200 && !is_replay(&answer), "{answer:?}");
        assert_eq!(calls(&bench), number + 1);
    }
    let refused = ask(&bench, POOR, "shared", &chat("plain", false)).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "insufficient_scope"));
    let stranger = ask(&bench, "nobody-0123456789", "shared", &chat("plain", false)).await;
    assert_eq!(stranger.status, 401);
    assert_eq!(bench.codes(5).await[3..], ["insufficient_scope", "invalid_api_key"]);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_delivered_and_not_kept() {
    let (bench, store) = bench(Policy { max_body: 40, ..Policy::default() }).await;
    let whole = ask(&bench, KEY, "large", &chat("whole", false)).await;
    assert_eq!((whole.body.as_str(), whole.header("penstock-idempotency")), (WHOLE, Some("too-large")));
    settled(&store).await;
    let streamed = ask(&bench, KEY, "large", &chat("raw", true)).await;
    assert!(streamed.body.ends_with("[DONE]\n\n"));
    settled(&store).await;
    assert_eq!(calls(&bench), 2);
}

#[tokio::test]
async fn what_is_no_key_is_refused_and_other_methods_do_not_read_it() {
    let (bench, _) = bench(Policy::default()).await;
    for odd in ["", "\"", &"x".repeat(256), "a\r\nidempotency-key: b"] {
        let answer = ask(&bench, KEY, odd, &chat("plain", false)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_value"), "{odd:?}");
    }
    let models =
        format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\nidempotency-key: \"\r\n\r\n");
    assert_eq!(exchange(bench.address, models).await.status, 200);
    assert_eq!(calls(&bench), 0);
}

#[tokio::test]
async fn without_its_store_a_request_with_a_key_is_refused_and_one_without_runs() {
    let (bench, store) = bench(Policy::default()).await;
    store.fail(Some(Error::new(Code::StoreUnavailable, "the disk is full")));
    let refused = ask(&bench, KEY, "k", &chat("plain", false)).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "store_unavailable"));
    assert_eq!(exchange(bench.address, crate::wire::ask("plain", false)).await.status, 200);
    assert_eq!(calls(&bench), 1);
}

#[tokio::test]
async fn a_relayed_request_is_done_once_and_the_vendor_gets_a_key_of_its_own_per_caller() {
    let (bench, _) = relaying().await;
    let request = |key: &str| asked("/v1/files/a", key, "mine", "{}");
    let first = exchange(bench.address, request(KEY)).await;
    let again = exchange(bench.address, request(KEY)).await;
    assert!(first.status == 200 && first.body == again.body && is_replay(&again), "{again:?}");
    assert_eq!((calls(&bench), again.header("content-type")), (1, Some("text/plain")));
    assert!(
        first.body.contains("idempotency-key=penstock-") && !first.body.contains("mine"),
        "{}",
        first.body
    );
    let other = exchange(bench.address, request(FILES)).await;
    assert!(!is_replay(&other) && other.body != first.body);
}

#[tokio::test]
async fn a_relayed_refusal_and_an_answer_that_breaks_are_not_kept() {
    let (bench, store) = relaying().await;
    for path in ["/v1/files/missing", "/v1/files/barred", "/v1/files/cut"] {
        for _ in 0..2 {
            let before = calls(&bench);
            let mut wire = Wire::open(bench.address).await;
            wire.send(asked(path, KEY, "fails", "{}").replacen("\r\n", "\r\nconnection: close\r\n", 1)).await;
            wire.rest().await;
            settled(&store).await;
            assert_eq!(calls(&bench), before + 1, "{path}");
        }
    }
}
