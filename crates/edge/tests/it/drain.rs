//! The end: what runs may finish, then it is told.

use std::time::Duration;

use penstock_edge::EdgeSettings;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bench::Bench;
use crate::wire::{Wire, ask};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn streams_finish_inside_the_grace_and_new_connections_are_not_taken() {
    let bench = Bench::start().await;
    let mut streaming = Wire::open(bench.address).await;
    streaming.send(ask("late", true)).await;
    streaming.until("Paris").await;
    let mut idle = Wire::open(bench.address).await;
    idle.send(ask("whole", false)).await;
    idle.answer().await.expect("an answer");

    bench.drain.begin();
    assert_eq!(timeout(SOON, idle.rest()).await.expect("idle connections close"), "");
    let refused = async { while TcpStream::connect(bench.address).await.is_ok() {} };
    timeout(SOON, refused).await.expect("the listener is closed");
    bench.watch.go.notify_one();
    let all = streaming.rest().await;
    assert!(all.contains("[DONE]") && !all.contains("server_shutdown"), "{all}");
    timeout(SOON, bench.server).await.expect("the server ends").unwrap();
}

#[tokio::test]
async fn when_the_grace_is_over_streams_end_with_a_terminal_error_and_waiting_requests_with_503() {
    let settings = EdgeSettings { drain: Duration::from_millis(100), ..EdgeSettings::default() };
    let bench = Bench::set(settings).await;
    let mut streaming = Wire::open(bench.address).await;
    streaming.send(ask("endless", true)).await;
    streaming.until("Paris").await;
    let mut waiting = Wire::open(bench.address).await;
    waiting.send(ask("silent", false)).await;
    bench.watch.begun.notified().await;
    bench.watch.begun.notified().await;

    bench.drain.begin();
    let all = streaming.rest().await;
    assert!(all.contains("server_shutdown") && !all.contains("[DONE]"), "{all}");
    assert!(all.ends_with("0\r\n\r\n"), "the body ends in good order: {all}");
    let answer = waiting.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (503, "server_shutdown"));
    assert_eq!(answer.header("connection"), Some("close"));
    timeout(SOON, bench.server).await.expect("the server ends").unwrap();
}

#[tokio::test]
async fn a_second_signal_ends_everything_at_once() {
    let bench = Bench::start().await;
    let mut streaming = Wire::open(bench.address).await;
    streaming.send(ask("endless", true)).await;
    streaming.until("Paris").await;
    bench.drain.begin();
    bench.drain.end();
    assert!(timeout(SOON, streaming.rest()).await.expect("the stream ends").contains("server_shutdown"));
    timeout(SOON, bench.server).await.expect("the server ends").unwrap();
}
