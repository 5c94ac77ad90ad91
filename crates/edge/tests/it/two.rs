//! The same routes over HTTP/2 without negotiation.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use penstock_edge::EdgeSettings;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bench::{Bench, KEY, WHOLE};
use crate::wire::chat;

async fn connect(bench: &Bench) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn ask(bench: &Bench, model: &str, stream: bool) -> Request<Full<Bytes>> {
    Request::post(format!("http://{}/v1/chat/completions", bench.address))
        .header("content-type", "application/json")
        .header("x-api-key", KEY)
        .body(Full::from(chat(model, stream)))
        .unwrap()
}

#[tokio::test]
async fn whole_answers_and_streams_come_over_one_connection() {
    let bench = Bench::start().await;
    let mut sender = connect(&bench).await;
    let (whole, raw) = tokio::join!(
        sender.send_request(ask(&bench, "whole", false)),
        sender.clone().send_request(ask(&bench, "raw", true))
    );
    let whole = whole.unwrap();
    assert_eq!(whole.headers()["penstock-provider"], "vendor");
    assert_eq!(whole.into_body().collect().await.unwrap().to_bytes(), WHOLE);
    let raw = raw.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(raw.ends_with(b"data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_reset_stream_cancels_the_call_at_once_and_leaves_the_connection() {
    let bench = Bench::start().await;
    let mut sender = connect(&bench).await;
    let mut body = sender.send_request(ask(&bench, "endless", true)).await.unwrap().into_body();
    body.frame().await.expect("a first frame").unwrap();
    drop(body);
    timeout(Duration::from_millis(100), bench.watch.gone.notified())
        .await
        .expect("the call is dropped within 100 ms");
    assert_eq!(sender.send_request(ask(&bench, "whole", false)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn streams_end_with_a_terminal_error_when_the_grace_is_over() {
    let bench = Bench::start().await;
    let mut sender = connect(&bench).await;
    let mut body = sender.send_request(ask(&bench, "endless", true)).await.unwrap().into_body();
    body.frame().await.expect("a first frame").unwrap();
    bench.drain.begin();
    bench.drain.end();
    let rest =
        timeout(Duration::from_secs(5), body.collect()).await.expect("the stream ends").unwrap().to_bytes();
    let rest = String::from_utf8(rest.to_vec()).unwrap();
    assert!(rest.contains("server_shutdown") && !rest.contains("[DONE]"), "{rest}");
    timeout(Duration::from_secs(5), bench.server).await.expect("the server ends").unwrap();
}

#[tokio::test]
async fn heads_that_are_too_large_are_431() {
    let bench = Bench::start().await;
    let mut sender = connect(&bench).await;
    let mut request = ask(&bench, "whole", false);
    request.headers_mut().insert("x-padding", "x".repeat(80 << 10).parse().unwrap());
    assert_eq!(sender.send_request(request).await.unwrap().status(), 431);
}

/// A client that opens no window beyond this and never says that it has read anything.
async fn connect_narrow(bench: &Bench, window: u32) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_stream_without_window_is_reset_in_time_and_others_go_on() {
    let hasty = EdgeSettings { write_timeout: Duration::from_millis(100), ..EdgeSettings::default() };
    let bench = Bench::set(hasty).await;
    let mut sender = connect_narrow(&bench, 20_000).await;
    let mut slow = sender.send_request(ask(&bench, "endless", true)).await.unwrap().into_body();
    slow.frame().await.expect("a first frame").unwrap();
    let stalled = sender.send_request(ask(&bench, "flood", true)).await.unwrap().into_body();
    timeout(Duration::from_secs(5), bench.watch.gone.notified()).await.expect("the call is dropped");
    let taken = bench.watch.flooded.load(Ordering::SeqCst) * 4096;
    assert!(taken < 1 << 20, "{taken} bytes were taken for a client that has no room");
    assert_eq!(bench.codes_so_far(), ["cancelled"], "and the one whose vendor is slow goes on");
    assert!(stalled.collect().await.is_err(), "what came is not taken for a whole answer");
    // As long again: its client reads, it is the vendor that says nothing.
    assert!(
        timeout(Duration::from_millis(300), slow.frame()).await.is_err(),
        "nothing comes and nothing ends"
    );
    assert_eq!(sender.send_request(ask(&bench, "whole", false)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_never_opens_a_window_gets_nothing_and_holds_nothing() {
    let hasty = EdgeSettings { write_timeout: Duration::from_millis(100), ..EdgeSettings::default() };
    let bench = Bench::set(hasty).await;
    let mut sender = connect_narrow(&bench, 0).await;
    for (model, stream) in [("flood", true), ("whole", false)] {
        let body = sender.send_request(ask(&bench, model, stream)).await.unwrap().into_body();
        let ended = timeout(Duration::from_secs(5), body.collect()).await.expect("the stream is reset");
        assert!(ended.is_err(), "{model}");
    }
}
