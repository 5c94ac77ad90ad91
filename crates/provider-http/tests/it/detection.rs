//! How a vendor that is ill is told from one that is slow, and what may be done about it.

use std::sync::Arc;
use std::time::Duration;

use penstock_domain::{Code, Remedy, Task};
use penstock_provider::Provider;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    CHAT_ASK, CHAT_EVENTS, CHAT_WHOLE, EVENTS_HEAD, KEY, LAST_CHUNK, MESSAGE_EVENTS, STREAM_ASK, Server,
    Step, call, chat_through, chunk, events_answer, hasty, http, json_answer, message_through, plain, read,
    send, vendor,
};

/// How much later than its deadline a fault may be noticed.
const SLACK: Duration = Duration::from_millis(50);

fn kind(kind: &str, server: &Server, timeouts: &Value) -> Arc<dyn Provider> {
    vendor(kind, json!({"base_url": server.base, "api_key": KEY, "timeouts": timeouts}))
}

/// A stream that opens with these events and then says the last one of them for ever.
async fn opening(events: &[&str]) -> Server {
    let mut steps = vec![send(EVENTS_HEAD)];
    steps.extend(events.iter().map(|event| send(chunk(event))));
    for _ in 0..100 {
        steps.extend([Step::Wait(Duration::from_millis(90)), send(chunk(events[events.len() - 1]))]);
    }
    Server::always(steps).await
}

#[tokio::test(start_paused = true)]
async fn a_vendor_that_opens_for_ever_is_given_up_with_the_first_token_time() {
    let first = json!({"first_token": "700ms", "idle": "60s"});
    let ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    let messages = opening(&[MESSAGE_EVENTS[0], MESSAGE_EVENTS[2], ping]).await;
    let asks =
        r#"{"model":"large","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let anthropic = kind("anthropic", &messages, &first);
    let begun = Instant::now();
    let raw = message_through(&*anthropic, asks).await;
    let took = begun.elapsed();
    let begun = Instant::now();
    let translated = chat_through(&*anthropic, STREAM_ASK).await;
    for (answer, took) in [(raw, took), (translated, begun.elapsed())] {
        let failed = answer.failed.expect("a fault");
        assert_eq!((failed.code(), failed.remedy()), (Code::UpstreamTimeout, Remedy::Other));
        assert!(took >= Duration::from_millis(700) && took <= Duration::from_millis(700) + SLACK, "{took:?}");
    }

    let comments = opening(&[CHAT_EVENTS[0], ": PROCESSING\n\n"]).await;
    let begun = Instant::now();
    let answer = chat_through(&*kind("openai_compatible", &comments, &first), STREAM_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamTimeout));
    assert!(begun.elapsed() <= Duration::from_millis(700) + SLACK, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn bytes_that_trickle_without_completing_a_line_are_silence() {
    // One byte every 100 ms, before and after the first content.
    for before in [&CHAT_EVENTS[..0], &CHAT_EVENTS[..2]] {
        let mut steps = vec![send(EVENTS_HEAD)];
        steps.extend(before.iter().map(|event| send(chunk(event))));
        steps.push(send(chunk("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"")));
        for _ in 0..1000 {
            steps.extend([Step::Wait(Duration::from_millis(100)), send(chunk("x"))]);
        }
        let server = Server::always(steps).await;
        let begun = Instant::now();
        let answer = chat_through(&*hasty(&server, 900, 500, 90_000), STREAM_ASK).await;
        let (code, limit) = match before {
            [] => (Code::UpstreamTimeout, 900),
            _ => (Code::UpstreamIdleTimeout, 500),
        };
        assert_eq!(answer.code(), Some(code));
        assert!(begun.elapsed() <= Duration::from_millis(limit + 100) + SLACK, "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_event_that_takes_long_is_no_silence() {
    let text = "x".repeat(16 << 10);
    let event = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let mut steps = vec![send(EVENTS_HEAD), send(chunk(CHAT_EVENTS[1]))];
    for piece in event.as_bytes().chunks(512) {
        steps.extend([send(chunk(piece)), Step::Wait(Duration::from_millis(150))]);
    }
    steps.extend(CHAT_EVENTS[2..].iter().map(|event| send(chunk(event))));
    steps.push(send(LAST_CHUNK));
    let server = Server::always(steps).await;
    // Longer than the idle time in all, but more than a trickle.
    let answer = chat_through(&*hasty(&server, 900, 500, 90_000), STREAM_ASK).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert!(answer.body().contains(&text));
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_a_connection_is_told_from_a_fault_of_the_vendor() {
    for last in [Step::Close, Step::Reset] {
        // On a fresh connection it is the vendor's.
        let server = Server::always(vec![last.clone()]).await;
        let failed = chat_through(&*plain(&server), CHAT_ASK).await.failed.expect("a fault");
        assert_eq!((failed.code(), failed.remedy()), (Code::UpstreamUnreachable, Remedy::Other));

        // On a used one that broke without a byte, too late to be only stale, it may have been the connection's.
        let server = Server::start(move |n, _| match n {
            0 => vec![send(json_answer("200 OK", CHAT_WHOLE))],
            _ => vec![Step::Wait(Duration::from_secs(3)), last.clone()],
        })
        .await;
        let provider = plain(&server);
        assert!(chat_through(&*provider, CHAT_ASK).await.failed.is_none());
        let failed = chat_through(&*provider, CHAT_ASK).await.failed.expect("a fault");
        assert_eq!((failed.code(), failed.remedy()), (Code::UpstreamUnreachable, Remedy::Same));
        assert_eq!(server.requests(), 2, "nothing that may have been worked on is repeated unasked");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_somebody_elses_to_give() {
    let json = "content-type: application/json\r\n";
    let events = "content-type: text/event-stream\r\n";
    let gzip = [0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6];
    let short =
        format!("HTTP/1.1 200 OK\r\n{json}content-length: {}\r\n\r\n{CHAT_WHOLE}", CHAT_WHOLE.len() - 9);
    let long =
        format!("HTTP/1.1 200 OK\r\n{json}content-length: {}\r\n\r\n{CHAT_WHOLE}", CHAT_WHOLE.len() + 9);
    let twice = format!(
        "HTTP/1.1 200 OK\r\n{json}content-length: 5\r\ncontent-length: {}\r\n\r\n{CHAT_WHOLE}",
        CHAT_WHOLE.len()
    );
    let bad = Code::UpstreamBadResponse;
    let cases: Vec<(&str, &str, Vec<u8>, Code)> = vec![
        (
            "compressed unasked",
            CHAT_ASK,
            http("200 OK", &format!("{json}content-encoding: gzip\r\n"), gzip),
            bad,
        ),
        (
            "compressed events",
            STREAM_ASK,
            http("200 OK", &format!("{events}content-encoding: gzip\r\n"), gzip),
            bad,
        ),
        ("compressed and not told", CHAT_ASK, http("200 OK", json, gzip), bad),
        ("compressed events and not told", STREAM_ASK, http("200 OK", events, gzip), Code::UpstreamStreamCut),
        ("cut JSON", CHAT_ASK, json_answer("200 OK", &CHAT_WHOLE[..CHAT_WHOLE.len() - 9]), bad),
        ("less announced than sent", CHAT_ASK, short.into_bytes(), bad),
        ("more announced than sent", CHAT_ASK, long.into_bytes(), Code::UpstreamStreamCut),
        ("two lengths", CHAT_ASK, twice.into_bytes(), bad),
        ("a page of HTML", CHAT_ASK, http("200 OK", "content-type: text/html\r\n", "<html>"), bad),
        (
            "a page of HTML for a stream",
            STREAM_ASK,
            http("200 OK", "content-type: text/html\r\n", "<html>"),
            bad,
        ),
        (
            "a gateway's page",
            CHAT_ASK,
            http("502 Bad Gateway", "content-type: text/html\r\n", "<html>"),
            Code::UpstreamError,
        ),
        ("nothing", CHAT_ASK, http("200 OK", json, ""), bad),
    ];
    for (name, ask, bytes, code) in cases {
        let server = Server::always(vec![send(bytes), Step::Close]).await;
        let failed = chat_through(&*plain(&server), ask).await.failed.unwrap_or_else(|| panic!("{name}"));
        assert_eq!((failed.code(), failed.remedy()), (code, Remedy::Other), "{name}: {failed}");
        assert!(!failed.say().contains("html"), "{name}: {failed}");
    }
}

#[tokio::test]
async fn a_call_goes_out_with_the_credential_that_it_names_and_no_other() {
    let mut server = Server::start(|_, seen| match seen.header("accept") {
        Some("text/event-stream") => vec![send(events_answer(CHAT_EVENTS))],
        _ => vec![send(json_answer("200 OK", CHAT_WHOLE))],
    })
    .await;
    for (kind, header, bearer) in [("openai", "authorization", "Bearer "), ("azure_openai", "api-key", "")] {
        let keys = ["sk-first", "sk-second", "sk-third"];
        let provider = vendor(kind, json!({"base_url": server.base, "api_keys": keys}));
        assert_eq!(provider.credentials(), 3);
        for (credential, ask) in [(2, CHAT_ASK), (0, STREAM_ASK), (1, CHAT_ASK)] {
            let mut asked = call(Task::Chat, ask);
            asked.credential = credential;
            let deltas = provider.chat().expect("chats").chat(asked).await.expect("an answer");
            assert!(read(deltas).await.failed.is_none());
            let seen = server.seen().await;
            let key = format!("{bearer}{}", keys[credential as usize]);
            assert_eq!(seen.header(header), Some(key.as_str()));
            let others = keys.iter().filter(|other| !key.ends_with(*other));
            assert!(others.clone().all(|other| !seen.head.contains(other)), "{}", seen.head);
        }
        let before = server.requests();
        let mut asked = call(Task::Chat, CHAT_ASK);
        asked.credential = 3;
        let error = provider.chat().expect("chats").chat(asked).await.err().expect("no such credential");
        assert_eq!((error.code(), server.requests()), (Code::InternalError, before));
    }
}

#[test]
fn where_a_provider_is_and_who_runs_it_may_be_said_of_every_kind() {
    use penstock_config::{Registry, Section};
    let mut registry: Registry<dyn Provider, ()> = Registry::new();
    penstock_provider_http::register(&mut registry);
    let placed = json!({
        "base_url": "https://vendor.example/v1", "api_key": KEY, "region": "eu-central-1", "trust": "internal",
        "provisioned": {"tokens_per_minute": 100_000},
    });
    for (name, kind) in registry.kinds() {
        let section = Section::new(name.clone(), "vendor", placed.clone());
        assert!(registry.build(&section, &()).is_ok(), "{name}");
        assert_eq!(section.placement().region.as_deref(), Some("eu-central-1"), "{name}");
        let Some(schema) = &kind.schema else { continue };
        for member in ["region", "trust", "provisioned"] {
            assert!(schema["properties"].get(member).is_some(), "{name} has no {member}");
        }
    }
}
