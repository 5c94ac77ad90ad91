//! Pooled connections: reuse, and the race with a vendor that closes them.

use std::time::Duration;

use penstock_domain::Code;

use crate::support::{
    CHAT_ASK, CHAT_EVENTS, CHAT_WHOLE, LAST_CHUNK, STREAM_ASK, Server, Step, chat_through, events_answer,
    json_answer, plain, send,
};

#[tokio::test]
async fn answers_leave_the_connection_for_the_next_request() {
    let mut server = Server::start(|n, _| match n % 2 {
        0 => vec![send(json_answer("200 OK", CHAT_WHOLE))],
        _ => vec![send(events_answer(CHAT_EVENTS))],
    })
    .await;
    let provider = plain(&server);
    for n in 0..6 {
        let ask = if n % 2 == 0 { CHAT_ASK } else { STREAM_ASK };
        assert!(chat_through(&*provider, ask).await.failed.is_none());
        assert_eq!(server.seen().await.connection, 0, "request {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_body_that_lags_behind_the_end_marker_still_saves_the_connection() {
    let whole = events_answer(CHAT_EVENTS);
    let (marker, last) = whole.split_at(whole.len() - LAST_CHUNK.len());
    let mut server =
        Server::always(vec![send(marker), Step::Wait(Duration::from_millis(5)), send(last)]).await;
    let provider = plain(&server);
    for _ in 0..3 {
        assert!(chat_through(&*provider, STREAM_ASK).await.failed.is_none());
        assert_eq!(server.seen().await.connection, 0);
    }
}

#[tokio::test]
async fn a_pooled_connection_that_the_vendor_closed_is_replaced_unseen() {
    // The second request on a connection is read and dropped without a byte: the race of a keep-alive that just ran out.
    for last in [Step::Close, Step::Reset] {
        let mut server = Server::start(move |n, _| match n {
            1 => vec![last.clone()],
            _ => vec![send(json_answer("200 OK", CHAT_WHOLE))],
        })
        .await;
        let provider = plain(&server);
        for n in 0..2 {
            let answer = chat_through(&*provider, CHAT_ASK).await;
            assert!(answer.failed.is_none(), "request {n}: {:?}", answer.failed);
        }
        assert_eq!(server.requests(), 3);
        server.seen().await;
        assert_eq!((server.seen().await.connection, server.seen().await.connection), (0, 1));
    }
}

#[tokio::test]
async fn a_failure_on_a_fresh_connection_is_not_repeated() {
    for last in [Step::Close, Step::Reset] {
        let server = Server::always(vec![last]).await;
        let answer = chat_through(&*plain(&server), CHAT_ASK).await;
        assert_eq!(answer.code(), Some(Code::UpstreamUnreachable));
        assert_eq!(server.requests(), 1);
    }
}

#[tokio::test]
async fn a_request_that_the_vendor_began_to_answer_is_not_repeated() {
    let server = Server::start(|n, _| match n {
        1 => vec![send("HTTP/1.1 200"), Step::Close],
        _ => vec![send(json_answer("200 OK", CHAT_WHOLE))],
    })
    .await;
    let provider = plain(&server);
    assert!(chat_through(&*provider, CHAT_ASK).await.failed.is_none());
    assert!(chat_through(&*provider, CHAT_ASK).await.failed.is_some());
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_stale_connection_is_replaced_once_and_not_for_ever() {
    let server = Server::start(|n, _| match n {
        0 => vec![send(json_answer("200 OK", CHAT_WHOLE))],
        _ => vec![Step::Close],
    })
    .await;
    let provider = plain(&server);
    assert!(chat_through(&*provider, CHAT_ASK).await.failed.is_none());
    assert_eq!(chat_through(&*provider, CHAT_ASK).await.code(), Some(Code::UpstreamUnreachable));
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_hundred_calls_at_once_all_get_their_answers() {
    let server = Server::always(vec![send(events_answer(CHAT_EVENTS))]).await;
    let provider = plain(&server);
    let calls = (0..100).map(|_| chat_through(&*provider, STREAM_ASK));
    for answer in futures_util::future::join_all(calls).await {
        assert!(answer.failed.is_none(), "{:?}", answer.failed);
    }
}
