//! Anthropic's API behind askers of both dialects, and OpenAI's API behind askers of Anthropic's.

use std::sync::Arc;

use futures_util::StreamExt;
use penstock_domain::{Code, Delta, Dialect, FinishReason, Hints, Origin, RequestId, Retry, Task};
use penstock_provider::{Call, Provider};
use serde_json::{Value, json};

use crate::support::{
    CHAT_ASK, CHAT_EVENTS, CHAT_WHOLE, KEY, MESSAGE_EVENTS, MESSAGE_WHOLE, STREAM_ASK, Server, Step,
    chat_through, events_answer, http, json_answer, message_call, message_through, plain, send, vendor,
};

const MESSAGE_ASK: &str =
    r#"{ "x_unknown":[1,  2], "model":"large","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
const MESSAGE_STREAM_ASK: &str = r#"{"model":"large","max_tokens":9,"stream":true,"thinking":{"type":"enabled","budget_tokens":1024},"messages":[{"role":"user","content":"hi"}]}"#;

fn anthropic(server: &Server) -> Arc<dyn Provider> {
    vendor("anthropic", json!({"base_url": server.base, "api_key": KEY}))
}

fn dropped(deltas: &[Delta]) -> Vec<String> {
    match deltas.first() {
        Some(Delta::Dropped(names)) => names.clone(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn an_asker_of_the_same_dialect_gets_the_vendors_bytes_and_sends_its_own() {
    let mut server = Server::always(vec![send(json_answer("200 OK", MESSAGE_WHOLE))]).await;
    let answer = message_through(&*anthropic(&server), MESSAGE_ASK).await;
    assert_eq!(answer.body(), MESSAGE_WHOLE);
    let Some(Delta::Whole(whole)) = answer.deltas.first() else { panic!("{:?}", answer.deltas) };
    let usage = whole.notes.usage.expect("usage");
    assert_eq!((usage.input, usage.cached_input, usage.cache_write, usage.output), (7, Some(2), Some(1), 2));
    let seen = server.seen().await;
    assert_eq!(seen.line(), "POST /v1/messages HTTP/1.1");
    assert_eq!(seen.body, MESSAGE_ASK.replace("large", "vendor-model"));
    assert_eq!(seen.header("x-api-key"), Some(KEY));
    assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
}

#[tokio::test]
async fn the_hints_of_an_asker_reach_a_vendor_of_its_dialect_and_the_operators_word_stays() {
    let hints = || {
        let found = [("anthropic-beta", "a,b"), ("anthropic-version", "2024-10-22")];
        Hints::new(found.map(|(name, value)| (name, value.into())))
    };
    let with = |body: &str| {
        let mut call = message_call(body);
        Arc::make_mut(&mut call.request).hints = hints();
        call
    };
    let mut server = Server::always(vec![send(json_answer("200 OK", MESSAGE_WHOLE))]).await;
    let ask = |provider: Arc<dyn Provider>| async move {
        let mut deltas = provider.chat().unwrap().chat(with(MESSAGE_ASK)).await.unwrap();
        while deltas.next().await.is_some() {}
    };
    ask(anthropic(&server)).await;
    let seen = server.seen().await;
    assert_eq!(
        (seen.header("anthropic-beta"), seen.header("anthropic-version")),
        (Some("a,b"), Some("2024-10-22"))
    );
    let own = json!({"anthropic-beta": "own", "anthropic-version": "2030-01-01"});
    ask(vendor("anthropic", json!({"base_url": server.base, "api_key": KEY, "headers": own}))).await;
    let seen = server.seen().await;
    assert_eq!(
        (seen.header("anthropic-beta"), seen.header("anthropic-version")),
        (Some("own,a,b"), Some("2030-01-01"))
    );
    let mut foreign = Server::always(vec![send(json_answer("200 OK", CHAT_WHOLE))]).await;
    ask(plain(&foreign)).await;
    let seen = foreign.seen().await;
    assert_eq!((seen.header("anthropic-beta"), seen.header("anthropic-version")), (None, None));
}

#[tokio::test]
async fn counting_reaches_anthropic_as_bytes_and_others_read_its_number() {
    let mut server =
        Server::always(vec![send(json_answer("200 OK", r#"{"input_tokens": 14, "x": 1}"#))]).await;
    let count = |body: &'static str, dialect: Dialect| {
        let asker = penstock_dialect::asker(dialect).unwrap();
        let task = Task::CountTokens;
        let decoded = asker.decode(task, body.into(), &penstock_dialect::DecodeLimits::default()).unwrap();
        let request = decoded.into_request(RequestId::new("req_1"), Origin::Http, None);
        Call { request: Arc::new(request), model: "vendor-model".into(), credential: 0, deadline: None }
    };
    let provider = anthropic(&server);
    let ask = r#"{"model":"large","messages":[{"role":"user","content":"hi"}],"x":1}"#;
    let mut deltas = provider.count().unwrap().count(count(ask, Dialect::Anthropic)).await.unwrap();
    let Some(Delta::Whole(whole)) = deltas.next().await else { panic!("no bytes") };
    assert_eq!(whole.bytes, r#"{"input_tokens": 14, "x": 1}"#);
    let seen = server.seen().await;
    assert_eq!(seen.line(), "POST /v1/messages/count_tokens HTTP/1.1");
    assert_eq!(seen.body, ask.replace("large", "vendor-model"));
    let ask =
        r#"{"model":"large","max_tokens":5,"temperature":1,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut deltas = provider.count().unwrap().count(count(ask, Dialect::OpenAi)).await.unwrap();
    let counted = deltas.next().await;
    assert!(matches!(counted, Some(Delta::Counted { input: 14, estimated: false })), "{counted:?}");
    let sent = server.seen().await.json();
    let turn = json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]);
    assert_eq!(sent, json!({"model": "vendor-model", "messages": turn}), "only what has tokens");
}

#[tokio::test]
async fn events_reach_an_asker_of_the_same_dialect_byte_for_byte() {
    let server = Server::always(vec![send(events_answer(MESSAGE_EVENTS))]).await;
    let answer = message_through(&*anthropic(&server), MESSAGE_STREAM_ASK).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert_eq!(answer.body(), MESSAGE_EVENTS.concat());
    let notes: Vec<_> = answer
        .deltas
        .iter()
        .filter_map(|delta| if let Delta::Raw(raw) = delta { Some(&raw.notes) } else { None })
        .collect();
    assert_eq!(
        notes.iter().filter_map(|notes| notes.usage).next_back().map(|usage| (usage.input, usage.output)),
        Some((7, 2))
    );
    assert!(notes.iter().any(|notes| notes.finish == Some(FinishReason::Stop)));
}

#[tokio::test]
async fn an_openai_asker_is_translated_and_told_what_was_lost() {
    let mut server = Server::start(|n, _| {
        vec![send(if n == 0 { json_answer("200 OK", MESSAGE_WHOLE) } else { events_answer(MESSAGE_EVENTS) })]
    })
    .await;
    let provider = vendor(
        "anthropic",
        json!({"base_url": server.base, "api_key": KEY, "default_max_tokens": 77, "headers": {"anthropic-version": "2030-01-01"}}),
    );
    let ask = r#"{"model":"l","seed":1,"stop":"x","messages":[{"role":"system","content":"be"},{"role":"user","content":"hi"}]}"#;
    let answer = chat_through(&*provider, ask).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert_eq!(answer.text, "hello");
    assert_eq!(dropped(&answer.deltas), ["seed"]);
    let seen = server.seen().await;
    assert_eq!(seen.header("anthropic-version"), Some("2030-01-01"));
    let expected = json!({
        "model": "vendor-model", "max_tokens": 77, "system": [{"type": "text", "text": "be"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "stop_sequences": ["x"],
    });
    assert_eq!(seen.json(), expected);
    let answer = chat_through(&*provider, STREAM_ASK).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert_eq!((answer.text.as_str(), dropped(&answer.deltas).len()), ("héllo", 0));
    assert!(
        matches!(answer.deltas.last(), Some(Delta::Usage(usage)) if usage.input == 7 && usage.output == 2)
    );
    assert_eq!(server.seen().await.json()["stream"], true);
}

#[tokio::test]
async fn an_anthropic_asker_is_translated_for_openai_vendors() {
    let mut server = Server::start(|n, _| {
        vec![send(if n == 0 { json_answer("200 OK", CHAT_WHOLE) } else { events_answer(CHAT_EVENTS) })]
    })
    .await;
    let provider = plain(&server);
    let answer = message_through(&*provider, MESSAGE_ASK).await;
    assert_eq!((answer.text.as_str(), dropped(&answer.deltas)), ("hello", vec!["x_unknown".to_owned()]));
    let seen = server.seen().await;
    assert_eq!(seen.line(), "POST /v1/chat/completions HTTP/1.1");
    assert_eq!((&seen.json()["max_tokens"], &seen.json()["model"]), (&json!(9), &json!("vendor-model")));
    let answer = message_through(&*provider, MESSAGE_STREAM_ASK).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert_eq!((answer.text.as_str(), dropped(&answer.deltas)), ("héllo", vec![]));
    assert!(
        matches!(answer.deltas.last(), Some(Delta::Usage(usage)) if usage.input == 7 && usage.output == 2)
    );
    let sent = server.seen().await.json();
    assert_eq!(
        (&sent["stream_options"]["include_usage"], &sent["reasoning_effort"]),
        (&json!(true), &json!("low"))
    );
    let modest = vendor("openai_compatible", json!({"base_url": server.base, "stream_options": false}));
    message_through(&*modest, MESSAGE_STREAM_ASK).await;
    assert_eq!(server.seen().await.json().get("stream_options"), None);
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_never_ends_clean_in_either_lane() {
    let whole = events_answer(MESSAGE_EVENTS);
    let marker: &[u8] = b"{\"type\":\"message_stop\"}\n\n";
    let end = whole.windows(marker.len()).position(|window| window == marker).expect("a marker");
    let cuts = whole.clone();
    // Every second call is the other lane's: each cut is met twice.
    let server = Server::start(move |n, _| vec![send(&cuts[..n / 2]), Step::Close]).await;
    let provider = anthropic(&server);
    for cut in 0..end {
        for answer in [
            message_through(&*provider, MESSAGE_STREAM_ASK).await,
            chat_through(&*provider, STREAM_ASK).await,
        ] {
            assert!(
                matches!(
                    answer.code(),
                    Some(Code::UpstreamStreamCut | Code::UpstreamUnreachable | Code::UpstreamBadResponse)
                ),
                "cut at {cut}: {:?}",
                answer.failed
            );
        }
    }
}

#[tokio::test]
async fn the_vendors_refusals_become_our_codes() {
    let error = |kind: &str, message: &str| {
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"}).to_string()
    };
    let cases: Vec<(&str, String, Code)> = vec![
        ("400 Bad Request", error("invalid_request_error", "messages: roles"), Code::UpstreamRejected),
        (
            "400 Bad Request",
            error("invalid_request_error", "prompt is too long: 9 > 8"),
            Code::ContextLengthExceeded,
        ),
        ("401 Unauthorized", error("authentication_error", "invalid x-api-key"), Code::UpstreamAuth),
        ("413 Payload Too Large", error("request_too_large", "big"), Code::UpstreamRejected),
        ("429 Too Many Requests", error("rate_limit_error", "slow"), Code::UpstreamRateLimited),
        ("504 Gateway Timeout", error("timeout_error", "late"), Code::UpstreamTimeout),
        ("529 Overloaded", error("overloaded_error", "busy"), Code::Overloaded),
    ];
    for (status, body, code) in cases {
        let answer = http(status, "content-type: application/json\r\nretry-after: 3\r\n", &body);
        let server = Server::always(vec![send(answer)]).await;
        for failed in [
            message_through(&*anthropic(&server), MESSAGE_ASK).await.failed,
            chat_through(&*anthropic(&server), CHAT_ASK).await.failed,
        ] {
            let failed = failed.expect("a refusal");
            assert_eq!(failed.code(), code, "{status}");
            assert_eq!(matches!(failed.retry(), Retry::After(_)), failed.retry() != Retry::Never, "{status}");
        }
    }
}

#[tokio::test]
async fn an_error_event_fails_the_answer_where_it_stands() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n";
    let events: Vec<&str> = MESSAGE_EVENTS[..4].iter().copied().chain([error]).collect();
    let server = Server::always(vec![send(events_answer(&events))]).await;
    let raw = message_through(&*anthropic(&server), MESSAGE_STREAM_ASK).await;
    assert_eq!((raw.body(), raw.code()), (MESSAGE_EVENTS[..4].concat().as_str(), Some(Code::Overloaded)));
    let read = chat_through(&*anthropic(&server), STREAM_ASK).await;
    assert_eq!((read.text.as_str(), read.code()), ("héllo", Some(Code::Overloaded)));
}

#[test]
fn a_bound_of_answers_is_a_setting_of_anthropic_alone() {
    use penstock_config::{Registry, Section};
    let problems = |kind: &str, bound: Value| {
        let mut registry: Registry<dyn Provider, ()> = Registry::new();
        penstock_provider_http::register(&mut registry);
        let settings = json!({"base_url": "http://127.0.0.1:1", "api_key": KEY, "default_max_tokens": bound});
        registry
            .build(&Section::new(kind, "vendor", settings), &())
            .err()
            .map_or(0, |problems| problems.len())
    };
    assert_eq!(problems("anthropic", json!(1)), 0);
    assert_eq!(problems("anthropic", json!(0)), 1);
    assert_eq!(problems("openai", json!(1)), 1);
}
