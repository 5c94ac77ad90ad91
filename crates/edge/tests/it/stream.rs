//! Answers, whole and streamed: framing, silence, breaks, and clients who leave.

use std::time::Duration;

use penstock_edge::EdgeSettings;
use tokio::time::timeout;

use crate::bench::{Bench, RAW, WHOLE};
use crate::wire::{Wire, ask, bearer, chat, exchange, post};

/// A client who leaves must be noticed within this time (contract).
const NOTICE: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_whole_answer_of_the_askers_dialect_passes_untouched_with_its_length() {
    let bench = Bench::start().await;
    let answer = exchange(bench.address, ask("whole", false)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, WHOLE));
    assert_eq!(answer.header("content-length"), Some(WHOLE.len().to_string().as_str()));
    assert_eq!(answer.header("penstock-model"), Some("whole"));
    assert_eq!(answer.header("penstock-provider"), Some("vendor"));
    assert_eq!(answer.header("penstock-attempts"), Some("1"));
    assert_eq!(answer.header("penstock-cache"), Some("bypass"));
    assert!(answer.header("server-timing").unwrap().starts_with("decode;dur="));
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("10000"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("9999"));
    assert!(answer.header("x-ratelimit-reset-requests").is_some());
    assert_eq!(bench.codes(1).await, ["ok"]);
}

#[tokio::test]
async fn a_whole_answer_is_folded_from_deltas() {
    let bench = Bench::start().await;
    let answer = exchange(bench.address, ask("plain", false)).await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "Paris");
    assert_eq!(body["usage"]["total_tokens"], 4);
    assert_eq!(bench.codes(1).await, ["ok"]);
}

#[tokio::test]
async fn embeddings_are_answered() {
    let bench = Bench::start().await;
    let body = "{\"model\":\"vectors\",\"input\":\"Paris\"}";
    let answer = exchange(bench.address, post("/v1/embeddings", &bearer(), body)).await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["data"][0]["embedding"], serde_json::json!([0.5, -0.5]));
}

#[tokio::test]
async fn raw_events_pass_untouched_and_end_with_done() {
    let bench = Bench::start().await;
    let answer = exchange(bench.address, ask("raw", true)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, format!("{RAW}{RAW}data: [DONE]\n\n"));
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert_eq!(answer.header("penstock-provider"), Some("vendor"));
    assert_eq!(bench.codes(1).await, ["ok"]);
}

#[tokio::test]
async fn deltas_become_events_of_one_data_line_each() {
    let bench = Bench::start().await;
    let answer = exchange(bench.address, ask("plain", true)).await;
    let events: Vec<_> = answer.body.split_terminator("\n\n").collect();
    assert!(events.iter().all(|event| event.starts_with("data: ") && !event.contains('\n')), "{events:?}");
    assert_eq!(*events.last().unwrap(), "data: [DONE]");
    assert!(answer.body.contains("Paris"));
}

#[tokio::test]
async fn a_broken_stream_ends_with_an_error_event_and_without_done() {
    let bench = Bench::start().await;
    for (model, code) in [("cut", "upstream_stream_cut"), ("panic-later", "internal_error")] {
        let answer = exchange(bench.address, ask(model, true)).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("Paris"));
        let last = answer.body.split_terminator("\n\n").last().unwrap();
        let error: serde_json::Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(error["error"]["code"], code);
        assert!(!answer.body.contains("[DONE]"));
    }
    let answer = exchange(bench.address, ask("cut", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_stream_cut"));
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_with_comments() {
    let settings = EdgeSettings { keep_alive: Duration::from_millis(20), ..EdgeSettings::default() };
    let bench = Bench::set(settings).await;
    let mut wire = Wire::open(bench.address).await;
    wire.send(ask("late", true)).await;
    while wire.text().matches(": keep-alive\n\n").count() < 3 {
        assert!(wire.more().await);
    }
    bench.watch.go.notify_one();
    wire.until("[DONE]").await;
    assert_eq!(bench.codes(1).await, ["ok"]);
}

#[tokio::test]
async fn a_stream_held_too_long_gets_its_status_and_a_comment_and_fails_in_band() {
    let settings = EdgeSettings { hold_max: Duration::from_millis(20), ..EdgeSettings::default() };
    let bench = Bench::set(settings).await;
    let headers = format!("{}x-request-timeout: 200ms\r\n", bearer());
    let answer = exchange(bench.address, post("/v1/chat/completions", &headers, &chat("silent", true))).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with(": keep-alive\n\n"), "{}", answer.body);
    assert!(answer.body.contains("\"deadline_exceeded\"") && !answer.body.contains("[DONE]"));
}

#[tokio::test]
async fn a_client_who_leaves_mid_stream_cancels_the_call_at_once() {
    let bench = Bench::start().await;
    let mut wire = Wire::open(bench.address).await;
    wire.send(ask("endless", true)).await;
    wire.until("Paris").await;
    drop(wire);
    timeout(NOTICE, bench.watch.gone.notified())
        .await
        .expect("the provider's stream is dropped within 100 ms");
    assert_eq!(bench.codes(1).await, ["cancelled"]);
}

#[tokio::test]
async fn a_client_who_leaves_before_the_first_content_cancels_the_call_at_once() {
    let bench = Bench::start().await;
    for stream in [false, true] {
        let mut wire = Wire::open(bench.address).await;
        wire.send(ask("silent", stream)).await;
        bench.watch.begun.notified().await;
        drop(wire);
        timeout(NOTICE, bench.watch.gone.notified()).await.expect("the call is dropped within 100 ms");
    }
    assert_eq!(bench.codes(2).await, ["cancelled", "cancelled"]);
}

#[tokio::test]
async fn connections_are_used_again() {
    let bench = Bench::start().await;
    let mut wire = Wire::open(bench.address).await;
    for _ in 0..3 {
        wire.send(ask("whole", false)).await;
        assert_eq!(wire.answer().await.unwrap().body, WHOLE);
        wire.send(ask("raw", true)).await;
        assert!(wire.answer().await.unwrap().body.ends_with("data: [DONE]\n\n"));
    }
}
