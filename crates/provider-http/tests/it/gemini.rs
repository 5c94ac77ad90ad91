//! Gemini's API behind askers of both dialects: addresses, translation, and what breaks on the way.

use std::sync::Arc;
use std::time::Duration;

use penstock_domain::{Code, Delta, Remedy, Retry, Task};
use penstock_provider::{Call, Provider};
use serde_json::{Value, json};

use crate::support::{
    CHAT_ASK, KEY, STREAM_ASK, Server, Step, call, chat_through, events_answer, json_answer, message_through,
    read, send, vendor,
};

pub(crate) const WHOLE: &str = r#"{
  "candidates": [{"content": {"parts": [{"text": "hello"}], "role": "model"}, "finishReason": "STOP", "index": 0}],
  "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 2, "thoughtsTokenCount": 3, "totalTokenCount": 12},
  "modelVersion": "gemini-x-001", "responseId": "r1"
}"#;

pub(crate) const VECTORS: &str = r#"{"embeddings": [{"values": [0.5, -0.25]}]}"#;

const EVENTS: &[&str] = &[
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Weigh.\",\"thought\":true}],\"role\":\"model\"},\"index\":0}],\"modelVersion\":\"gemini-x-001\"}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hé\"}],\"role\":\"model\"},\"index\":0}],\"modelVersion\":\"gemini-x-001\"}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"llo\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":7,\"candidatesTokenCount\":2,\"totalTokenCount\":9}}\r\n\r\n",
];

fn gemini(server: &Server) -> Arc<dyn Provider> {
    vendor("gemini", json!({"base_url": server.base, "api_key": KEY}))
}

fn dropped(deltas: &[Delta]) -> Vec<String> {
    match deltas.first() {
        Some(Delta::Dropped(names)) => names.clone(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn a_chat_is_asked_under_its_model_with_the_key_in_googles_header() {
    let mut server = Server::always(vec![send(json_answer("200 OK", WHOLE))]).await;
    let asks = r#"{"model":"large","n":1,"user":"u","messages":[{"role":"system","content":"s"},{"role":"user","content":"hi"}]}"#;
    let answer = chat_through(&*gemini(&server), asks).await;
    assert_eq!(answer.text, "hello");
    assert_eq!(dropped(&answer.deltas), ["user"]);
    let usage = answer.deltas.iter().find_map(|delta| match delta {
        Delta::Usage(usage) => Some((usage.input, usage.output, usage.reasoning)),
        _ => None,
    });
    assert_eq!(usage, Some((7, 5, Some(3))));
    let seen = server.seen().await;
    assert_eq!(seen.line(), "POST /v1/models/vendor-model:generateContent HTTP/1.1");
    assert_eq!(seen.header("x-goog-api-key"), Some(KEY));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("accept"), Some("application/json"));
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "s"}]},
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "generationConfig": {"candidateCount": 1},
    });
    assert_eq!(seen.json(), expected);
}

#[tokio::test]
async fn a_name_with_its_collection_is_asked_under_the_same_path() {
    let mut server = Server::always(vec![send(json_answer("200 OK", WHOLE))]).await;
    let provider = gemini(&server);
    let asks = Call { model: "models/vendor-model".into(), ..call(Task::Chat, CHAT_ASK) };
    read(provider.chat().expect("able").chat(asks).await.expect("an answer")).await;
    let line = server.seen().await.line().to_owned();
    assert_eq!(line, "POST /v1/models/vendor-model:generateContent HTTP/1.1");
}

#[tokio::test]
async fn a_stream_is_asked_at_its_own_path_with_its_query() {
    let mut server = Server::always(vec![send(events_answer(EVENTS))]).await;
    for through in ["chat", "messages"] {
        let provider = gemini(&server);
        let answer = match through {
            "chat" => chat_through(&*provider, STREAM_ASK).await,
            _ => {
                let asks = r#"{"model":"large","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
                message_through(&*provider, asks).await
            }
        };
        assert!(answer.failed.is_none(), "{:?}", answer.failed);
        assert_eq!(answer.text, "héllo");
        let thought =
            answer.deltas.iter().any(|d| matches!(d, Delta::Reasoning { text, .. } if text == "Weigh."));
        assert!(thought, "{:?}", answer.deltas);
        assert!(matches!(answer.deltas.last(), Some(Delta::Usage(usage)) if usage.input == 7));
        let seen = server.seen().await;
        assert_eq!(seen.line(), "POST /v1/models/vendor-model:streamGenerateContent?alt=sse HTTP/1.1");
        assert_eq!(seen.header("accept"), Some("text/event-stream"));
    }
}

#[tokio::test]
async fn vectors_and_counts_have_paths_of_their_own() {
    let mut server = Server::start(|_, seen| {
        let count = seen.line().contains(":countTokens");
        vec![send(json_answer("200 OK", if count { r#"{"totalTokens": 31}"# } else { VECTORS }))]
    })
    .await;
    let provider = gemini(&server);
    let asks = r#"{"model":"e","input":"hi","dimensions":2}"#;
    let answer =
        read(provider.embed().expect("able").embed(call(Task::Embedding, asks)).await.expect("vectors"))
            .await;
    assert!(
        answer.deltas.iter().any(|delta| matches!(delta, Delta::Vectors(rows) if *rows == [[0.5, -0.25]]))
    );
    let seen = server.seen().await;
    assert_eq!(seen.line(), "POST /v1/models/vendor-model:batchEmbedContents HTTP/1.1");
    let expected = json!({"requests": [{
        "model": "models/vendor-model", "content": {"parts": [{"text": "hi"}]}, "outputDimensionality": 2,
    }]});
    assert_eq!(seen.json(), expected);

    let mut count = call(Task::Chat, CHAT_ASK);
    Arc::make_mut(&mut count.request).task = Task::CountTokens;
    let answer = read(provider.count().expect("able").count(count).await.expect("a count")).await;
    assert!(
        matches!(answer.deltas[..], [Delta::Counted { input: 31, estimated: false }]),
        "{:?}",
        answer.deltas
    );
    let seen = server.seen().await;
    assert_eq!(seen.line(), "POST /v1/models/vendor-model:countTokens HTTP/1.1");
    assert_eq!(seen.json()["generateContentRequest"]["model"], "models/vendor-model");
}

#[tokio::test]
async fn a_blocked_prompt_is_refused_as_filtered_and_no_empty_answer() {
    let blocked = r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":7,"totalTokenCount":7}}"#;
    let events = format!("data: {blocked}\r\n\r\n");
    for (ask, body) in
        [(CHAT_ASK, json_answer("200 OK", blocked)), (STREAM_ASK, events_answer(&[events.as_str()]))]
    {
        let server = Server::always(vec![send(body)]).await;
        let answer = chat_through(&*gemini(&server), ask).await;
        let failed = answer.failed.expect("a refusal");
        assert_eq!((failed.code(), failed.remedy()), (Code::ContentFiltered, Remedy::Filtered));
        assert!(failed.say().contains("PROHIBITED_CONTENT"), "{failed}");
    }
    let empty = r#"{"usageMetadata":{"promptTokenCount":7,"totalTokenCount":7}}"#;
    let server = Server::always(vec![send(json_answer("200 OK", empty))]).await;
    assert_eq!(chat_through(&*gemini(&server), CHAT_ASK).await.code(), Some(Code::UpstreamBadResponse));
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_never_ends_clean() {
    let whole = EVENTS.concat();
    for cut in (0..whole.len() - 4).step_by(7) {
        let server = Server::always(vec![
            send(events_answer(
                &[&whole.as_bytes()[..cut]].map(|b| std::str::from_utf8(b).unwrap_or("data: ")),
            )),
            Step::Close,
        ])
        .await;
        let answer = chat_through(&*gemini(&server), STREAM_ASK).await;
        assert_eq!(answer.code(), Some(Code::UpstreamStreamCut), "cut at {cut}");
    }
}

#[tokio::test]
async fn the_vendors_refusals_become_our_codes() {
    let rpc = |code: u16, status: &str, message: &str, details: Value| {
        json!([{"error": {"code": code, "message": message, "status": status, "details": details}}])
            .to_string()
    };
    let retry = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "9s"}]);
    let cases = [
        (
            "400 Bad Request",
            rpc(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", json!([])),
            Code::UpstreamAuth,
            Retry::Never,
        ),
        (
            "429 Too Many Requests",
            rpc(429, "RESOURCE_EXHAUSTED", "slow down", retry),
            Code::UpstreamRateLimited,
            Retry::After(Duration::from_secs(9)),
        ),
        (
            "503 Service Unavailable",
            rpc(503, "UNAVAILABLE", "The service is currently unavailable.", json!([])),
            Code::UpstreamError,
            Retry::Maybe,
        ),
    ];
    for (status, body, code, retry) in cases {
        let server = Server::always(vec![send(json_answer(status, body))]).await;
        for ask in [CHAT_ASK, STREAM_ASK] {
            let error = chat_through(&*gemini(&server), ask).await.failed.expect("an error");
            assert_eq!((error.code(), error.retry()), (code, retry), "{status}");
        }
    }
}

#[tokio::test]
async fn a_hostile_model_name_stays_one_segment_before_the_verb() {
    let mut server = Server::always(vec![send(json_answer("200 OK", WHOLE))]).await;
    let provider = gemini(&server);
    for name in ["a:countTokens", "a?alt=json", "a/b", "a#b", "@evil.example"] {
        let mut call = call(Task::Chat, CHAT_ASK);
        call.model = name.into();
        read(provider.chat().expect("able").chat(call).await.expect("an answer")).await;
        let seen = server.seen().await;
        let target = seen.line().split(' ').nth(1).expect("target").to_owned();
        assert!(target.starts_with("/v1/models/") && target.ends_with(":generateContent"), "{target}");
        assert_eq!(
            (target.matches('/').count(), target.matches([':', '?', '#', '@']).count()),
            (3, 1),
            "{target}"
        );
    }
    let mut call = call(Task::Chat, CHAT_ASK);
    call.model = "../x".into();
    assert!(provider.chat().expect("able").chat(call).await.is_err());
}
