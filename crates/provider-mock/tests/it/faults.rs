//! Every way to go wrong, and the count right after it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::support::*;

const SOON: Duration = Duration::from_millis(100);

#[tokio::test]
async fn an_error_status_has_the_dialects_body_or_the_scripts() {
    let mock = plain().await;
    for (status, kind) in [(401, "invalid_request_error"), (429, "rate_limit_error"), (503, "server_error")] {
        let answer = stream(&mock, json!({"status": status})).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["error"]["type"], kind);
        assert!(answer.json()["error"]["message"].is_string());
    }
    for (status, kind) in
        [(401, "authentication_error"), (429, "rate_limit_error"), (529, "overloaded_error")]
    {
        let answer = ask(&mock, MESSAGES, json!({"status": status}), &question(true)).await;
        assert_eq!((answer.status, answer.json()["type"].clone()), (status, json!("error")));
        assert_eq!(answer.json()["error"]["type"], kind);
    }
    let script = json!({"status": 502, "body": "<html>bad gateway</html>", "content_type": "text/html",
                        "headers": {"x-why": "because"}});
    let html = stream(&mock, script).await;
    assert_eq!((html.status, html.text().as_str()), (502, "<html>bad gateway</html>"));
    assert_eq!((html.header("content-type"), html.header("x-why")), (Some("text/html"), Some("because")));
    assert_eq!(whole(&mock, json!({"status": 400, "body": {"a": 1}})).await.json(), json!({"a": 1}));
    let stats = mock.stats();
    assert_eq!(stats.by_path[CHAT][&429], 1);
    assert_eq!((stats.streams_started, stats.streams_aborted, stats.completion_tokens), (0, 0, 0));
    assert_eq!((stats.prompt_tokens, stats.in_flight), (0, 0));
}

#[tokio::test]
async fn come_back_later_has_three_spellings() {
    let mock = plain().await;
    let at = |form: Value| whole(&mock, json!({"status": 429, "retry_after": form}));
    assert_eq!(at(json!(7)).await.header("retry-after"), Some("7"));
    assert_eq!(at(json!({"ms": 250})).await.header("retry-after-ms"), Some("250"));
    let date = at(json!({"date": 30})).await;
    let date = date.header("retry-after").unwrap().to_owned();
    assert!(date.ends_with(" GMT") && date.len() == "Sun, 06 Nov 1994 08:49:37 GMT".len(), "{date}");
}

#[tokio::test]
async fn delays_pass_before_the_headers_the_first_token_and_every_other() {
    let mock = plain().await;
    let start = Instant::now();
    stream(&mock, json!({"tokens": 4, "latency_ms": 30, "first_token_ms": 20, "inter_token_ms": 10})).await;
    assert!(start.elapsed() >= Duration::from_millis(30 + 20 + 3 * 10), "{:?}", start.elapsed());
    let answer = stream(&mock, json!({"tokens": 4, "inter_token_ms": 5})).await;
    assert!(
        answer.chunks.len() >= 4,
        "tokens with a pause between them leave one by one: {:?}",
        answer.chunks
    );
    let start = Instant::now();
    whole(&mock, json!({"tokens": 3, "first_token_ms": 20, "inter_token_ms": 10})).await;
    assert!(start.elapsed() >= Duration::from_millis(40), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_hang_is_silent_and_leaving_it_is_noticed_at_once() {
    let mock = plain().await;
    for (n, place, wants) in
        [(1, "before_headers", ""), (2, "after_headers", "200 OK"), (3, "mid_stream", "the mock")]
    {
        let script = json!({"hang": place, "tokens": 8});
        let mut client = open(mock.addr(), &request(CHAT, Some(&script), &question(true))).await;
        within(Duration::from_secs(5), &mock, |stats| stats.in_flight == 1).await;
        let mut came = String::new();
        let mut buffer = [0; 4096];
        while !came.contains(wants) {
            let n = client.read(&mut buffer).await.unwrap();
            came.push_str(&String::from_utf8_lossy(&buffer[..n]).replace("\"}", ""));
            if wants == "the mock" && came.contains(" the") && came.contains(" mock") {
                break;
            }
        }
        let more = tokio::time::timeout(Duration::from_millis(30), client.read(&mut buffer)).await;
        assert!(more.is_err(), "{place}: something came: {more:?}");
        drop(client);
        within(SOON, &mock, |stats| {
            stats.in_flight == 0 && stats.streams_aborted + stats.wholes_aborted == n
        })
        .await;
    }
    let stats = mock.stats();
    assert_eq!((stats.streams_aborted, stats.wholes_aborted, stats.completion_tokens), (2, 1, 4));
}

#[tokio::test]
async fn the_log_of_calls_tells_who_was_left_by_key_and_model_and_how_much_was_said() {
    let mock = plain().await;
    let script = json!({"hang": "mid_stream", "text": "a b c d"});
    let client = open(mock.addr(), &request(CHAT, Some(&script), &question(true))).await;
    within(Duration::from_secs(5), &mock, |stats| stats.completion_tokens == 2).await;
    drop(client);
    within(SOON, &mock, |stats| stats.in_flight == 0).await;
    whole(&mock, json!({"text": "a b"})).await;
    stream(&mock, json!({"status": 503})).await;
    within(SOON, &mock, |stats| stats.in_flight == 0).await;
    let calls = mock.calls();
    let seen: Vec<_> = calls.iter().map(|call| (call.status, call.aborted, call.completion_tokens)).collect();
    assert_eq!(seen, [(200, true, 2), (200, false, 2), (503, false, 0)]);
    for call in &calls {
        assert_eq!((call.model.as_str(), call.path), ("m1", CHAT));
        assert_eq!(call.key_digest, Some(penstock_provider_mock::key_digest("sk-test")));
    }
    assert!(calls[1].began_us >= calls[0].took_us, "{calls:?}");
}

#[tokio::test]
async fn a_cut_sends_exactly_so_many_bytes_and_breaks() {
    let mock = plain().await;
    let full = stream(&mock, json!({"text": "to be cut"})).await;
    assert!(full.whole && full.end == End::Fin);
    for (mode, end) in [("reset", End::Reset), ("fin", End::Fin)] {
        for at in [0, 1, 17, 100, full.body.len() - 1, full.body.len()] {
            let cut = stream(&mock, json!({"text": "to be cut", "cut_at_byte": at, "cut": mode})).await;
            assert_eq!((cut.status, cut.end, cut.whole), (200, end, false), "{mode} at {at}");
            assert_eq!(cut.body.len(), at, "{mode}");
            assert_eq!(without_id(&cut.text()), without_id(&full.text()[..at]), "{mode} at {at}");
        }
    }
    let whole_cut = whole(&mock, json!({"text": "to be cut", "cut_at_byte": 20})).await;
    assert_eq!((whole_cut.body.len(), whole_cut.whole, whole_cut.end), (20, false, End::Reset));
    within(SOON, &mock, |stats| stats.in_flight == 0).await;
    let stats = mock.stats();
    assert_eq!(
        (stats.streams_completed, stats.streams_aborted),
        (13, 0),
        "a cut is the script's, not the peer's"
    );
}

#[tokio::test]
async fn a_cut_can_come_before_any_event_in_every_dialect() {
    let mock = plain().await;
    for (path, opening) in [(CHAT, 1), (MESSAGES, 2)] {
        let full = ask(&mock, path, json!({"text": "to be cut"}), &question(true)).await.data().len();
        for (mode, end) in [("reset", End::Reset), ("fin", End::Fin)] {
            for at in 0..full {
                let script = json!({"text": "to be cut", "cut_at_event": at, "cut": mode});
                let cut = ask(&mock, path, script, &question(true)).await;
                assert_eq!((cut.status, cut.end, cut.whole), (200, end, false), "{path} {mode} before {at}");
                assert_eq!(cut.data().len(), at, "{path} {mode}");
                if at == opening {
                    assert!(!cut.text().contains(r#":"to""#), "only the opening: {}", cut.text());
                }
            }
        }
    }
}

#[tokio::test]
async fn a_cut_before_the_headers_sends_nothing() {
    let mock = plain().await;
    for (n, (mode, end)) in [("reset", End::Reset), ("fin", End::Fin)].into_iter().enumerate() {
        let cut = stream(&mock, json!({"cut": mode})).await;
        assert_eq!((cut.end, cut.body.len(), cut.status), (end, 0, 0), "{mode}");
        assert_eq!(mock.stats().by_path[CHAT][&0], n as u64 + 1);
    }
    assert_eq!(mock.stats().wholes_aborted, 0);
}

#[tokio::test]
async fn one_event_can_be_broken_at_every_index() {
    let mock = plain().await;
    let good = stream(&mock, json!({"text": "a b"})).await.data();
    for index in 0..good.len() {
        let bad = stream(&mock, json!({"text": "a b", "malformed_event": index})).await.data();
        assert_eq!(bad.len(), good.len());
        for (at, (bad, good)) in bad.iter().zip(&good).enumerate() {
            let broken = serde_json::from_str::<Value>(bad).is_err() && bad != "[DONE]";
            assert_eq!(broken, at == index, "{at}: {bad}");
            assert!(broken || without_id(bad) == without_id(good), "{bad} {good}");
        }
    }
}

#[tokio::test]
async fn an_error_event_ends_the_stream_at_every_index_in_both_dialects() {
    let mock = plain().await;
    for index in 0..4 {
        let answer = stream(&mock, json!({"text": "a b", "error_event": index})).await;
        let data = answer.data();
        assert_eq!((answer.status, data.len()), (200, index + 1), "{data:?}");
        let last: Value = serde_json::from_str(data.last().unwrap()).unwrap();
        assert_eq!(last["error"]["type"], "server_error");
        let answer =
            ask(&mock, MESSAGES, json!({"text": "a b", "error_event": index}), &question(true)).await;
        assert_eq!(answer.events().last().unwrap()["error"]["type"], "overloaded_error");
        assert!(answer.text().contains("event: error\n"));
        assert_eq!(answer.events().len(), index + 1);
    }
    assert_eq!(mock.stats().streams_completed, 8);
}

#[tokio::test]
async fn the_end_marker_can_be_missing() {
    let mock = plain().await;
    let with = stream(&mock, json!({"text": "a"})).await.data();
    let without = stream(&mock, json!({"text": "a", "omit_done": true})).await.data();
    assert_eq!(with.len(), without.len() + 1);
    assert_ne!(without.last().unwrap(), "[DONE]");
    let messages = ask(&mock, MESSAGES, json!({"text": "a", "omit_done": true}), &question(true)).await;
    assert_eq!(messages.events().last().unwrap()["type"], "message_delta");
}

#[tokio::test]
async fn the_wire_can_be_ugly_without_changing_what_is_said() {
    let mock = plain().await;
    let plain = stream(&mock, json!({"text": "same"})).await;
    let crlf = stream(&mock, json!({"text": "same", "crlf": true})).await;
    assert_eq!(without_id(&crlf.text()), without_id(&plain.text()).replace('\n', "\r\n"));
    let comments = stream(&mock, json!({"text": "same", "comments": true})).await;
    assert_eq!(comments.text().matches(": the mock is alive\n\n").count(), plain.data().len());
    assert_eq!(comments.said(), "same");
    let cut = stream(&mock, json!({"text": "same", "chunk_bytes": 7})).await;
    assert_eq!(without_id(&cut.text()), without_id(&plain.text()));
    let (last, full) = cut.chunks.split_last().unwrap();
    assert!(full.iter().all(|size| *size == 7) && *last <= 7, "{:?}", cut.chunks);
    assert!(cut.whole);
}

#[tokio::test]
async fn a_raw_body_is_sent_as_it_is() {
    let mock = plain().await;
    let script = json!({"raw_body": "data: {\"half\":", "content_type": "text/event-stream"});
    let answer = stream(&mock, script).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "data: {\"half\":"));
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let odd = whole(&mock, json!({"content_type": "text/plain"})).await;
    assert_eq!(odd.header("content-type"), Some("text/plain"));
    assert_eq!(odd.json()["object"], "chat.completion");
}

/// Answers are numbered; everything else must be equal.
fn without_id(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("mock-") {
        out.push_str(&rest[..at]);
        rest = rest[at + 5..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}
