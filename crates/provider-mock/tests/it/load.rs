//! Many at once, connections used again, HTTP/2, and peers that leave.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use penstock_provider_mock::MockHandle;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::*;

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn http2(mock: &MockHandle, tasks: &mut JoinSet<()>) -> Sender {
    let io = TokioIo::new(TcpStream::connect(mock.addr()).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tasks.spawn(async move { drop(connection.await) });
    sender
}

fn h2_request(script: serde_json::Value) -> Request<Full<Bytes>> {
    Request::post(format!("http://mock{CHAT}"))
        .header("x-mock-script", script.to_string())
        .body(Full::from(question(true).to_string()))
        .unwrap()
}

#[tokio::test]
async fn two_hundred_streams_at_once_are_all_whole() {
    let mock = plain().await;
    let mut clients = JoinSet::new();
    for _ in 0..200 {
        let handle: MockHandle = (*mock).clone();
        clients.spawn(async move { stream(&handle, json!({"tokens": 10, "inter_token_ms": 2})).await });
    }
    let mut whole = 0;
    while let Some(answer) = clients.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.said(), " the mock says one more word and then the mock");
        assert_eq!(answer.data().last().unwrap(), "[DONE]");
        whole += 1;
    }
    within(Duration::from_secs(1), &mock, |stats| stats.in_flight == 0).await;
    let stats = mock.stats();
    assert_eq!((whole, stats.streams_completed, stats.completion_tokens), (200, 200, 2_000));
}

#[tokio::test]
async fn a_peer_that_leaves_a_stream_is_noticed_within_100_ms() {
    let mock = plain().await;
    let script = json!({"tokens": 1000, "inter_token_ms": 60000});
    let mut client = open(mock.addr(), &request(CHAT, Some(&script), &question(true))).await;
    let mut buffer = [0; 4096];
    assert!(client.read(&mut buffer).await.unwrap() > 0);
    within(Duration::from_secs(1), &mock, |stats| stats.streams_started == 1).await;
    drop(client);
    within(Duration::from_millis(100), &mock, |stats| stats.streams_aborted == 1 && stats.in_flight == 0)
        .await;
    assert_eq!(mock.stats().completion_tokens, 1, "what was said before is billed");
}

#[tokio::test]
async fn an_http2_stream_that_is_reset_is_noticed_within_100_ms() {
    let mock = plain().await;
    let mut tasks = JoinSet::new();
    let mut sender = http2(&mock, &mut tasks).await;
    let answer =
        sender.send_request(h2_request(json!({"tokens": 1000, "inter_token_ms": 60000}))).await.unwrap();
    let mut body = answer.into_body();
    assert!(body.frame().await.is_some());
    drop(body);
    within(Duration::from_millis(100), &mock, |stats| stats.streams_aborted == 1 && stats.in_flight == 0)
        .await;
    let again = sender.send_request(h2_request(json!({"text": "still here"}))).await.unwrap();
    let again = again.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&again).contains("[DONE]"));
    assert_eq!(mock.stats().connections, 1);
}

#[tokio::test]
async fn an_http2_cut_resets_the_stream_after_its_bytes_and_keeps_the_connection() {
    let mock = plain().await;
    let mut tasks = JoinSet::new();
    let mut sender = http2(&mock, &mut tasks).await;
    let answer =
        sender.send_request(h2_request(json!({"text": "to be cut", "cut_at_byte": 30}))).await.unwrap();
    let mut body = answer.into_body();
    let mut came = 0;
    let broken = loop {
        match body.frame().await {
            Some(Ok(frame)) => came += frame.into_data().unwrap().len(),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broken);
    assert_eq!(came, 30);
    assert!(sender.send_request(h2_request(json!({"cut": "reset"}))).await.is_err());
    assert_eq!(sender.send_request(h2_request(json!({}))).await.unwrap().status(), 200);
    assert_eq!(mock.stats().connections, 1);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let mock = plain().await;
    let io = TokioIo::new(TcpStream::connect(mock.addr()).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    for _ in 0..20 {
        let request = Request::post(CHAT)
            .header("host", "mock")
            .body(Full::<Bytes>::from(question(false).to_string()))
            .unwrap();
        sender.ready().await.unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
    }
    assert_eq!((mock.stats().connections, mock.stats().requests), (1, 20));
}

#[tokio::test]
async fn shutdown_ends_streams_and_frees_the_address() {
    let server = penstock_provider_mock::MockServer::bind("127.0.0.1:0", Default::default()).await.unwrap();
    let handle = server.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve_until(async move { drop(stopped.await) }));
    let script = json!({"hang": "after_headers"});
    let _client = open(handle.addr(), &request(CHAT, Some(&script), &question(true))).await;
    within(Duration::from_secs(1), &handle, |stats| stats.in_flight == 1).await;
    stop.send(()).unwrap();
    tasks.join_next().await.unwrap().unwrap();
    assert!(TcpStream::connect(handle.addr()).await.is_err());
}
