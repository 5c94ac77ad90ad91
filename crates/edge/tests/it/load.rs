//! More work than there is room for: who is turned away, and who is not.

use std::time::Duration;

use penstock_edge::EdgeSettings;
use tokio::time::timeout;

use crate::bench::{BATCH, Bench, KEY, URGENT};
use crate::wire::{Answer, Wire, chat, exchange, get, post};

fn small(max_in_flight: usize, max_in_flight_bytes: usize) -> EdgeSettings {
    EdgeSettings { max_in_flight, max_in_flight_bytes, ..EdgeSettings::default() }
}

fn with_key(key: &str, path: &str, body: &str) -> String {
    post(path, &format!("authorization: Bearer {key}\r\n"), body)
}

/// Opens streams that go on for as long as they are read.
async fn streams(bench: &Bench, key: &str, count: usize) -> Vec<Wire> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut wire = Wire::open(bench.address).await;
        wire.send(with_key(key, "/v1/chat/completions", &chat("endless", true))).await;
        wire.until("Paris").await;
        open.push(wire);
    }
    open
}

async fn asks(bench: &Bench, key: &str) -> Answer {
    exchange(bench.address, with_key(key, "/v1/chat/completions", &chat("plain", false))).await
}

#[tokio::test]
async fn batch_work_is_turned_away_first_and_interactive_work_last() {
    let bench = Bench::set(small(10, 1 << 30)).await;
    let mut open = streams(&bench, BATCH, 7).await;
    let refused = asks(&bench, BATCH).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"));
    assert_eq!(refused.header("x-should-retry"), Some("true"));
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(refused.header("connection"), Some("close"));
    open.extend(streams(&bench, KEY, 2).await);
    assert_eq!(asks(&bench, KEY).await.header("retry-after"), Some("2"));
    open.extend(streams(&bench, URGENT, 1).await);
    assert_eq!(asks(&bench, URGENT).await.header("retry-after"), Some("1"));
    let anthropic = exchange(bench.address, with_key(URGENT, "/v1/messages", &chat("plain", false))).await;
    assert_eq!(anthropic.status, 529);
    assert!(anthropic.body.contains("overloaded_error"), "{}", anthropic.body);
    for probe in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(get(bench.address, probe).await.status, 200, "{probe} answers however full it is");
    }
    // Who leaves makes room.
    open.clear();
    timeout(Duration::from_secs(5), async {
        while asks(&bench, BATCH).await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("there is room again");
}

#[tokio::test]
async fn a_request_that_says_that_nobody_waits_for_it_is_turned_away_like_batch_work() {
    let bench = Bench::set(small(10, 1 << 30)).await;
    let _open = streams(&bench, KEY, 7).await;
    let body = chat("plain", false).replacen('{', "{\"penstock\":{\"priority\":\"batch\"},", 1);
    let path = "/v1/chat/completions";
    assert_eq!(exchange(bench.address, with_key(KEY, path, &body)).await.code(), "overloaded");
    assert_eq!(asks(&bench, KEY).await.status, 200);
}

#[tokio::test]
async fn strangers_learn_nothing_but_that_they_are_strangers() {
    let bench = Bench::set(small(1, 1 << 30)).await;
    let _open = streams(&bench, URGENT, 1).await;
    assert_eq!(asks(&bench, "a-key-that-nobody-has-0123").await.code(), "invalid_api_key");
}

#[tokio::test]
async fn strangers_cannot_fill_the_house() {
    let bench = Bench::set(small(16, 1 << 30)).await;
    let request = with_key("a-key-that-nobody-has-0123", "/v1/chat/completions", &chat("plain", false));
    let head = request.split_inclusive("\r\n\r\n").next().unwrap();
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::open(bench.address).await;
        wire.send(head).await;
        open.push(wire);
    }
    // Two may begin a body that never comes; the third is sent away before it sends any of it.
    let [one, two, three] = open.as_mut_slice() else { panic!("three") };
    let refused = tokio::select! {
        answer = one.answer() => answer,
        answer = two.answer() => answer,
        answer = three.answer() => answer,
    };
    assert_eq!(refused.expect("an answer").code(), "invalid_api_key");
    assert_eq!(asks(&bench, KEY).await.status, 200);
}

#[tokio::test]
async fn bodies_in_memory_are_bounded_and_given_back() {
    let bench = Bench::set(small(1000, 1 << 20)).await;
    let padded = |model: &str, bytes: usize| {
        chat(model, false).replacen('{', &format!("{{\"padding\":\"{}\",", "x".repeat(bytes)), 1)
    };
    let path = "/v1/chat/completions";
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut wire = Wire::open(bench.address).await;
        wire.send(with_key(KEY, path, &padded("silent", 100 << 10))).await;
        bench.watch.begun.notified().await;
        waiting.push(wire);
    }
    // 800 KiB of 1,024 are held: batch work, which may fill 70 %, sends not even what the others send.
    let ask = |key: &str, kib: usize| with_key(key, path, &padded("plain", kib << 10));
    assert_eq!(exchange(bench.address, ask(BATCH, 20)).await.code(), "overloaded");
    assert_eq!(exchange(bench.address, ask(KEY, 20)).await.status, 200);
    assert_eq!(exchange(bench.address, ask(KEY, 200)).await.code(), "overloaded");
    assert_eq!(exchange(bench.address, ask(URGENT, 200)).await.status, 200);
    // A length that nobody told is counted as it comes.
    let body = padded("plain", 300 << 10);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer {URGENT}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunked = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    assert_eq!(exchange(bench.address, chunked).await.code(), "overloaded");
    drop(waiting);
    // The script keeps the last body that it was asked with, of 200 KiB.
    timeout(Duration::from_secs(5), async {
        while exchange(bench.address, ask(BATCH, 400)).await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("what was held is given back");
}

#[tokio::test]
async fn every_request_that_is_turned_away_has_a_record() {
    let bench = Bench::set(small(1, 1 << 30)).await;
    let open = streams(&bench, URGENT, 1).await;
    asks(&bench, KEY).await;
    drop(open);
    let mut codes = bench.codes(2).await;
    codes.sort_unstable();
    assert_eq!(codes, ["cancelled", "overloaded"]);
}
