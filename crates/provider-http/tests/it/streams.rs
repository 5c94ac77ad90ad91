//! Answers as events.

use std::time::Duration;

use futures_util::StreamExt;
use penstock_domain::{Code, Delta};
use serde_json::json;

use crate::support::{
    CHAT_EVENTS, EVENTS_HEAD, KEY, LAST_CHUNK, STREAM_ASK, Server, Step, chat, chat_through, chunk,
    events_answer, hasty, http, plain, send, vendor,
};

const ASK_WITH_USAGE: &str = r#"{"model":"large","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;

/// What the asker gets of [`CHAT_EVENTS`]: without the end marker, which the edge writes.
fn without_done() -> String {
    CHAT_EVENTS[..4].concat()
}

fn usage_of(deltas: &[Delta]) -> Option<(u64, u64)> {
    deltas.iter().rev().find_map(|delta| match delta {
        Delta::Raw(raw) => raw.notes.usage.map(|usage| (usage.input, usage.output)),
        Delta::Usage(usage) => Some((usage.input, usage.output)),
        _ => None,
    })
}

#[tokio::test]
async fn events_reach_an_asker_who_wants_usage_byte_for_byte() {
    let mut server = Server::always(vec![send(events_answer(CHAT_EVENTS))]).await;
    let answer = chat_through(&*plain(&server), ASK_WITH_USAGE).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert_eq!(answer.body(), without_done());
    assert_eq!(usage_of(&answer.deltas), Some((7, 2)));
    assert_eq!(server.seen().await.header("accept"), Some("text/event-stream"));
}

#[tokio::test]
async fn usage_is_always_asked_of_the_vendor_and_hidden_from_an_asker_who_did_not_ask() {
    let mut server = Server::always(vec![send(events_answer(CHAT_EVENTS))]).await;
    let answer = chat_through(&*plain(&server), STREAM_ASK).await;
    assert_eq!(server.seen().await.json()["stream_options"]["include_usage"], true);
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert_eq!(usage_of(&answer.deltas), Some((7, 2)), "the ledger still learns it");
    assert!(!answer.body().contains("prompt_tokens"), "{}", answer.body());
    assert!(answer.body().contains("héllo") && answer.body().contains("\"x_unknown\":{\"kept\":true}"));
}

#[tokio::test]
async fn chunk_borders_and_crlf_change_nothing_of_the_content() {
    let stream: String = CHAT_EVENTS.concat();
    let crlf = format!("\u{feff}: hello\r\n\r\n{}", stream.replace('\n', "\r\n"));
    for text in [stream, crlf] {
        for size in [1, 2, 3, 5, 7, 64, 100_000] {
            let mut steps = vec![send(EVENTS_HEAD)];
            steps.extend(text.as_bytes().chunks(size).map(|piece| send(chunk(piece))));
            steps.push(send(LAST_CHUNK));
            let server = Server::always(steps).await;
            let answer = chat_through(&*plain(&server), ASK_WITH_USAGE).await;
            assert!(answer.failed.is_none(), "size {size}: {:?}", answer.failed);
            let events =
                answer.body().replace("\r\n", "\n").replace(['\u{feff}'], "").replace(": hello\n\n", "");
            assert_eq!(events, without_done(), "size {size}");
        }
    }
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_never_ends_clean() {
    let whole = events_answer(CHAT_EVENTS);
    // Once the end marker is here nothing of the answer is missing, whatever becomes of the connection.
    let marker = whole.windows(14).position(|window| window == b"data: [DONE]\n\n").expect("a marker") + 14;
    let cuts = whole.clone();
    let server = Server::start(move |n, _| vec![send(&cuts[..n]), Step::Close]).await;
    let provider = plain(&server);
    for cut in 0..marker {
        let answer = chat_through(&*provider, STREAM_ASK).await;
        let code = answer.code();
        assert!(
            matches!(
                code,
                Some(Code::UpstreamStreamCut | Code::UpstreamUnreachable | Code::UpstreamBadResponse)
            ),
            "cut at {cut}: {code:?}"
        );
        if cut >= EVENTS_HEAD.len() {
            assert_eq!(code, Some(Code::UpstreamStreamCut), "cut at {cut}");
        }
        // What went out consists of whole events.
        assert!(answer.bytes.is_empty() || answer.bytes.ends_with(b"\n\n"), "cut at {cut}");
    }
    assert_eq!(server.requests(), marker, "nothing was sent twice");
}

#[tokio::test]
async fn a_reset_in_the_middle_is_a_cut() {
    let steps = vec![
        send(EVENTS_HEAD),
        send(chunk(CHAT_EVENTS[0])),
        Step::Wait(Duration::from_millis(1)),
        Step::Reset,
    ];
    let server = Server::always(steps).await;
    let answer = chat_through(&*plain(&server), STREAM_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamStreamCut));
}

#[tokio::test]
async fn a_stream_that_is_no_stream_of_events_is_an_error() {
    let html = "<html>bad gateway</html>";
    let cases = [
        ("html", http("200 OK", "content-type: text/html\r\n", html)),
        ("html that claims to be events", http("200 OK", "content-type: text/event-stream\r\n", html)),
        ("empty", http("200 OK", "content-type: text/event-stream\r\n", "")),
        ("comments alone", http("200 OK", "content-type: text/event-stream\r\n", ": ping\n\n: ping\n\n")),
        (
            "garbage event",
            http(
                "200 OK",
                "content-type: text/event-stream\r\n",
                "data: {\"choices\":[{]}\n\ndata: [DONE]\n\n",
            ),
        ),
        (
            "an error event",
            events_answer(&["data: {\"error\":{\"message\":\"no quota\",\"type\":\"x\",\"code\":null}}\n\n"]),
        ),
    ];
    for (name, bytes) in cases {
        let server = Server::always(vec![send(bytes)]).await;
        let answer = chat_through(&*plain(&server), STREAM_ASK).await;
        assert!(answer.failed.is_some(), "{name}: {:?}", answer.deltas);
        assert!(!answer.body().contains("html"), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_vendor_that_accepts_and_says_nothing_is_given_up_in_time() {
    for steps in [vec![Step::Stall], vec![send(EVENTS_HEAD), Step::Stall]] {
        let server = Server::always(steps).await;
        let begun = tokio::time::Instant::now();
        let answer = chat_through(&*hasty(&server, 700, 60_000, 90_000), STREAM_ASK).await;
        assert_eq!(answer.code(), Some(Code::UpstreamTimeout));
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(700) && took < Duration::from_millis(800), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn comments_are_no_first_token_but_keep_a_begun_stream_alive() {
    let mut steps = vec![send(EVENTS_HEAD)];
    for _ in 0..20 {
        steps.extend([send(chunk(": ping\n\n")), Step::Wait(Duration::from_millis(300))]);
    }
    let server = Server::always(steps.clone()).await;
    let answer = chat_through(&*hasty(&server, 700, 1_000, 90_000), STREAM_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamTimeout));

    steps.insert(1, send(chunk(CHAT_EVENTS[1])));
    steps.extend(CHAT_EVENTS[2..].iter().map(|event| send(chunk(event))));
    steps.push(send(LAST_CHUNK));
    let server = Server::always(steps).await;
    let answer = chat_through(&*hasty(&server, 700, 1_000, 90_000), STREAM_ASK).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_silent_is_given_up_after_the_idle_time() {
    let server = Server::always(vec![
        send(EVENTS_HEAD),
        send(chunk(CHAT_EVENTS[0])),
        send(chunk(CHAT_EVENTS[1])),
        Step::Stall,
    ])
    .await;
    let begun = tokio::time::Instant::now();
    let answer = chat_through(&*hasty(&server, 60_000, 900, 90_000), STREAM_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamIdleTimeout));
    assert!(answer.body().contains("héllo"), "what came before goes out");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_millis(1_000), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_end_is_given_up_after_the_total_time_and_after_the_callers_deadline() {
    let mut steps = vec![send(EVENTS_HEAD)];
    for _ in 0..1000 {
        steps.extend([send(chunk(CHAT_EVENTS[1])), Step::Wait(Duration::from_millis(50))]);
    }
    let server = Server::always(steps).await;
    let provider = hasty(&server, 500, 500, 3_000);
    let begun = tokio::time::Instant::now();
    let answer = chat_through(&*provider, STREAM_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamTimeout));
    assert!(begun.elapsed() < Duration::from_millis(3_100), "{:?}", begun.elapsed());

    let begun = tokio::time::Instant::now();
    let mut call = crate::support::call(penstock_domain::Task::Chat, STREAM_ASK);
    call.deadline = Some(begun.into_std() + Duration::from_millis(1_200));
    let answer =
        crate::support::read(provider.chat().expect("chats").chat(call).await.expect("headers")).await;
    assert_eq!(answer.code(), Some(Code::DeadlineExceeded));
    assert!(begun.elapsed() < Duration::from_millis(1_300), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_asker_is_not_a_silent_vendor() {
    // The vendor is silent for longer than the idle time, but only while nobody listens.
    let mut steps = vec![send(EVENTS_HEAD)];
    for event in CHAT_EVENTS {
        steps.extend([send(chunk(event)), Step::Wait(Duration::from_millis(30_100))]);
    }
    steps.push(send(LAST_CHUNK));
    let server = Server::always(steps).await;
    let mut deltas = chat(&*hasty(&server, 60_000, 200, 600_000), STREAM_ASK).await.expect("an answer");
    let mut count = 0;
    while let Some(delta) = deltas.next().await {
        assert!(!matches!(delta, Delta::Failed(_)), "{delta:?}");
        tokio::time::sleep(Duration::from_secs(30)).await;
        count += 1;
    }
    assert!(count > 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_complete_but_for_the_end_of_its_body_is_complete() {
    let mut steps = vec![send(EVENTS_HEAD)];
    steps.extend(CHAT_EVENTS.iter().map(|event| send(chunk(event))));
    steps.push(Step::Stall);
    let server = Server::always(steps).await;
    let begun = tokio::time::Instant::now();
    let answer = chat_through(&*hasty(&server, 500, 500, 3_000), ASK_WITH_USAGE).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert_eq!(answer.body(), without_done());
}

#[tokio::test]
async fn dropping_the_answer_closes_the_vendors_connection_within_100_ms() {
    let begun = vec![send(EVENTS_HEAD), send(chunk(CHAT_EVENTS[1])), Step::Stall];
    // In the stream, before its first event, and before the headers.
    for (steps, events) in [(begun, 1), (vec![send(EVENTS_HEAD), Step::Stall], 0)] {
        let mut server = Server::always(steps).await;
        let mut deltas = chat(&*plain(&server), STREAM_ASK).await.expect("headers");
        for _ in 0..events {
            deltas.next().await.expect("an event");
        }
        let left = std::time::Instant::now();
        drop(deltas);
        let took = server.gone().await.saturating_duration_since(left);
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
    let mut server = Server::always(vec![Step::Stall]).await;
    let provider = plain(&server);
    let asking = tokio::spawn(async move { chat(&*provider, STREAM_ASK).await.map(drop) });
    server.seen().await;
    let left = std::time::Instant::now();
    asking.abort();
    let took = server.gone().await.saturating_duration_since(left);
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn a_vendor_is_read_only_as_fast_as_the_asker_reads() {
    // 64 MiB of events do not fit into socket buffers: the server can only finish if somebody swallows them unasked.
    let event = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(64 << 10)
    );
    let mut steps = vec![send(EVENTS_HEAD)];
    steps.extend((0..1024).map(|_| send(chunk(&event))));
    steps.push(Step::Stall);
    let mut server = Server::always(steps).await;
    let mut deltas = chat(&*plain(&server), STREAM_ASK).await.expect("headers");
    deltas.next().await.expect("an event");
    // The server's write fails only when the connection goes: until then it must be stuck.
    assert!(tokio::time::timeout(Duration::from_millis(200), server.gone()).await.is_err());
    drop(deltas);
    server.gone().await;
}

#[tokio::test]
async fn one_call_more_than_max_concurrency_is_refused_until_an_answer_ends() {
    let server = Server::start(|n, _| match n {
        0 => vec![send(EVENTS_HEAD), send(chunk(CHAT_EVENTS[1])), Step::Stall],
        _ => vec![send(events_answer(CHAT_EVENTS))],
    })
    .await;
    let provider =
        vendor("openai_compatible", json!({"base_url": server.base, "api_key": KEY, "max_concurrency": 1}));
    let held = chat(&*provider, STREAM_ASK).await.expect("an answer");
    let refused = chat_through(&*provider, STREAM_ASK).await;
    assert_eq!(refused.code(), Some(Code::Overloaded));
    assert_eq!(server.requests(), 1);
    drop(held);
    assert!(chat_through(&*provider, STREAM_ASK).await.failed.is_none());
}
