//! Clients that mean harm: slow, silent, greedy, ambiguous.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use penstock_edge::EdgeSettings;
use tokio::time::timeout;

use crate::bench::{Bench, KEY};
use crate::wire::{Wire, ask, bearer, chat, exchange, post};

const SHORT: Duration = Duration::from_millis(100);

fn hasty() -> EdgeSettings {
    EdgeSettings {
        header_timeout: SHORT,
        body_timeout: SHORT,
        idle_timeout: SHORT,
        write_timeout: SHORT,
        ..EdgeSettings::default()
    }
}

/// The connection must end by itself, and not before its time.
async fn ends(wire: &mut Wire, least: Duration) {
    let start = Instant::now();
    timeout(Duration::from_secs(5), wire.rest()).await.expect("the connection is closed");
    assert!(start.elapsed() >= least.mul_f32(0.8), "closed after {:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed() {
    let bench = Bench::set(hasty()).await;
    ends(&mut Wire::open(bench.address).await, SHORT).await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_closed_while_others_are_served() {
    let bench = Bench::set(hasty()).await;
    for start in ["P", "PRI * HT", "GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: "] {
        let mut wire = Wire::open(bench.address).await;
        wire.send(start).await;
        assert_eq!(exchange(bench.address, ask("whole", false)).await.status, 200);
        timeout(Duration::from_secs(5), wire.rest()).await.expect("the connection is closed");
        assert_eq!(wire.text(), "");
    }
}

#[tokio::test]
async fn a_second_head_that_does_not_end_is_closed_too() {
    let bench = Bench::set(EdgeSettings { idle_timeout: Duration::from_secs(60), ..hasty() }).await;
    let mut wire = Wire::open(bench.address).await;
    wire.send(ask("whole", false)).await;
    wire.answer().await.expect("an answer");
    wire.send("GET /livez HT").await;
    ends(&mut wire, SHORT).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_a_waiting_one_is_not() {
    let bench = Bench::set(hasty()).await;
    let mut idle = Wire::open(bench.address).await;
    idle.send(ask("whole", false)).await;
    idle.answer().await.expect("an answer");
    let mut waiting = Wire::open(bench.address).await;
    waiting.send(ask("late", true)).await;
    waiting.until("Paris").await;
    ends(&mut idle, SHORT).await;
    // The idle one took at least one turn of the timer; give the waiting one as many again.
    ends(&mut Wire::open(bench.address).await, SHORT).await;
    ends(&mut Wire::open(bench.address).await, SHORT).await;
    bench.watch.go.notify_one();
    waiting.until("[DONE]").await;
}

#[tokio::test]
async fn a_body_that_trickles_is_408() {
    let bench = Bench::set(hasty()).await;
    let mut wire = Wire::open(bench.address).await;
    let request = ask("plain", false);
    wire.send(&request[..request.len() - 9]).await;
    let mut answer = None;
    for byte in request.as_bytes()[request.len() - 9..].chunks(1).take(8) {
        match timeout(Duration::from_millis(40), wire.answer()).await {
            Ok(came) => {
                answer = came;
                break;
            }
            Err(_) => wire.send(byte).await,
        }
    }
    let answer = answer.expect("an answer before the body is complete");
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
}

#[tokio::test]
async fn heads_that_are_too_large_are_431() {
    let bench = Bench::start().await;
    let padding = format!("x-padding: {}\r\n", "x".repeat(8 << 10)).repeat(9);
    let answer = exchange(bench.address, post("/v1/chat/completions", &padding, "{}")).await;
    assert_eq!(answer.status, 431);
    let many = "x-many: 1\r\n".repeat(200);
    let answer = exchange(bench.address, post("/v1/chat/completions", &many, "{}")).await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_provider_and_is_closed() {
    let bench = Bench::set(hasty()).await;
    let mut wire = Wire::open(bench.address).await;
    wire.send(ask("flood", true)).await;
    timeout(Duration::from_secs(10), bench.watch.gone.notified()).await.expect("the call is dropped");
    // What was taken from the provider fits the kernel's buffers of both ends and a few pieces of ours.
    let taken = bench.watch.flooded.load(Ordering::SeqCst) * 4096;
    assert!(taken < 32 << 20, "{taken} bytes were taken for a client that reads nothing");
    assert_eq!(bench.codes(1).await, ["cancelled"]);
}

#[tokio::test]
async fn heads_that_two_parties_could_read_differently_are_refused_and_nothing_is_smuggled() {
    let bench = Bench::start().await;
    let smuggled = ask("plain", false);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-api-key: {KEY}\r\n"
    );
    let chunked = format!("{:x}\r\n{}\r\n0\r\n\r\n", chat("whole", false).len(), chat("whole", false));
    for (name, request) in [
        (
            "CL.TE",
            format!("{head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{chunked}{smuggled}"),
        ),
        (
            "TE.CL",
            format!("{head}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n{chunked}{smuggled}"),
        ),
        ("two lengths", format!("{head}content-length: 5\r\ncontent-length: 6\r\n\r\n{smuggled}")),
        ("length list", format!("{head}content-length: 5, 5\r\n\r\n{smuggled}")),
        ("signed length", format!("{head}content-length: +5\r\n\r\n{smuggled}")),
        ("negative length", format!("{head}content-length: -1\r\n\r\n{smuggled}")),
        (
            "not chunked last",
            format!("{head}transfer-encoding: chunked, identity\r\n\r\n{chunked}{smuggled}"),
        ),
        ("unknown coding", format!("{head}transfer-encoding: xchunked\r\n\r\n{chunked}{smuggled}")),
        ("space before colon", format!("{head}content-length : 5\r\n\r\n{smuggled}")),
        ("folded line", format!("{head}x-a: b\r\n content-length: 5\r\n\r\n{smuggled}")),
        ("bare line feed", format!("{head}x-a: b\ncontent-length: 0\r\n\r\n{smuggled}")),
        ("bare line feeds only", format!("{}\n", head.replace("\r\n", "\n"))),
        ("bare carriage return", format!("{head}x-a: b\rcontent-length: 5\r\n\r\n{smuggled}")),
        ("null", format!("{head}x-a: \0\r\n\r\n{smuggled}")),
        (
            "HTTP/1.0 with chunks",
            format!("{}transfer-encoding: chunked\r\n\r\n{chunked}{smuggled}", head.replace("1.1", "1.0")),
        ),
        ("no version", "GET /livez\r\n\r\n".to_owned()),
        ("two hosts", format!("{head}host: other\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}")),
    ] {
        let mut wire = Wire::open(bench.address).await;
        wire.send(&request).await;
        let answer = wire.answer().await.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
        let rest = wire.rest().await;
        assert_eq!(rest, "", "{name}: the connection goes on");
    }
    assert_eq!(bench.watch.calls.load(Ordering::SeqCst), 0, "no provider was called");
}

#[tokio::test]
async fn broken_chunks_are_400() {
    let bench = Bench::start().await;
    for chunks in
        ["zz\r\nhello\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"]
    {
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{}transfer-encoding: chunked\r\n\r\n{chunks}",
            bearer()
        );
        let answer = exchange(bench.address, request).await;
        assert_eq!(answer.status, 400, "{chunks:?}");
    }
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_their_turn() {
    let bench = Bench::set(EdgeSettings { max_connections: 1, ..EdgeSettings::default() }).await;
    let mut first = Wire::open(bench.address).await;
    first.send(ask("late", true)).await;
    first.until("Paris").await;
    let mut second = Wire::open(bench.address).await;
    second.send(ask("whole", false)).await;
    assert!(timeout(SHORT, second.answer()).await.is_err(), "the second waits");
    drop(first);
    assert_eq!(second.answer().await.expect("an answer").status, 200);
}
