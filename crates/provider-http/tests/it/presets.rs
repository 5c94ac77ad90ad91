//! Every row of the table, over the wire.

use penstock_domain::{Dialect, Task};
use penstock_provider_http::{Auth, Naming, PRESETS};
use serde_json::json;

use crate::support::{
    CHAT_ASK, CHAT_WHOLE, COMPLETION_WHOLE, EMBEDDING_WHOLE, KEY, MESSAGE_WHOLE, STREAM_ASK, Server, call,
    events_answer, json_answer, read, send, vendor,
};

fn answers() -> impl Fn(usize, &crate::support::Seen) -> Vec<crate::support::Step> + Send + Sync + 'static {
    |_, seen| {
        let body = match seen.line() {
            line if line.contains("/messages") => MESSAGE_WHOLE,
            line if line.contains("chat/completions") => CHAT_WHOLE,
            line if line.contains("completions") => COMPLETION_WHOLE,
            _ => EMBEDDING_WHOLE,
        };
        vec![send(json_answer("200 OK", body))]
    }
}

#[tokio::test]
async fn every_preset_asks_at_its_paths_with_its_credential() {
    let mut server = Server::start(answers()).await;
    for preset in PRESETS {
        for kind in preset.aliases.iter().chain([&preset.kind]) {
            let provider = vendor(kind, json!({"base_url": server.base, "api_key": KEY}));
            assert_eq!(provider.kind(), preset.kind);
            let asks = [
                (preset.chat, Task::Chat, CHAT_ASK, provider.chat().is_some()),
                (
                    preset.completions,
                    Task::Completion,
                    r#"{"model":"large","prompt":"hi"}"#,
                    provider.complete().is_some(),
                ),
                (
                    preset.embeddings,
                    Task::Embedding,
                    r#"{"model":"large","input":"hi"}"#,
                    provider.embed().is_some(),
                ),
            ];
            for (path, task, body, able) in asks {
                assert_eq!(path.is_some(), able, "{kind} and {task:?}");
                let Some(path) = path else { continue };
                let deltas = match task {
                    Task::Chat => provider.chat().expect("able").chat(call(task, body)).await,
                    Task::Completion => provider.complete().expect("able").complete(call(task, body)).await,
                    Task::Embedding => provider.embed().expect("able").embed(call(task, body)).await,
                    Task::CountTokens => provider.count().expect("able").count(call(task, body)).await,
                };
                let answer = read(deltas.expect("an answer")).await;
                assert!(answer.failed.is_none(), "{kind} and {task:?}: {:?}", answer.failed);
                let seen = server.seen().await;
                let (line, model) = match preset.naming {
                    Naming::Body => (format!("POST /v1{path} HTTP/1.1"), "vendor-model"),
                    Naming::Deployment(version) => {
                        let path = format!("/openai/deployments/vendor-model{path}?api-version={version}");
                        (format!("POST /v1{path} HTTP/1.1"), "vendor-model")
                    }
                };
                assert_eq!(seen.line(), line, "{kind}");
                assert_eq!(seen.json()["model"], model, "{kind}");
                let bearer = format!("Bearer {KEY}");
                let (ours, other) = match preset.auth {
                    Auth::Bearer => (("authorization", bearer.as_str()), "api-key"),
                    Auth::Header(name) => ((name, KEY), "authorization"),
                };
                assert_eq!(seen.header(ours.0), Some(ours.1), "{kind}");
                assert_eq!(seen.header(other), None, "{kind}");
            }
        }
    }
}

#[tokio::test]
async fn azure_maps_models_to_deployments_and_its_newer_address_needs_neither() {
    let mut server = Server::start(answers()).await;
    let settings = json!({
        "base_url": server.base, "api_key": KEY, "api_version": "2025-01-01-preview",
        "deployments": {"vendor-model": "my deployment/1"},
    });
    let provider = vendor("azure_openai", settings);
    let chat = provider.chat().expect("chats");
    read(chat.chat(call(Task::Chat, CHAT_ASK)).await.expect("an answer")).await;
    let line = "POST /v1/openai/deployments/my%20deployment%2F1/chat/completions?api-version=2025-01-01-preview HTTP/1.1";
    assert_eq!(server.seen().await.line(), line);

    let newer = server.base.replace("/v1", "/openai/v1");
    let provider = vendor("azure_openai", json!({"base_url": newer, "api_key": KEY}));
    read(provider.chat().expect("chats").chat(call(Task::Chat, CHAT_ASK)).await.expect("an answer")).await;
    let seen = server.seen().await;
    assert_eq!(seen.line(), "POST /openai/v1/chat/completions HTTP/1.1");
    assert_eq!(seen.header("api-key"), Some(KEY));
}

#[tokio::test]
async fn a_hostile_model_name_cannot_move_the_request() {
    let mut server = Server::start(answers()).await;
    let provider = vendor("azure_openai", json!({"base_url": server.base, "api_key": KEY}));
    for name in ["a#b", "a?api-version=x", "a%2fb", "@evil.example", "//evil.example/x"] {
        let mut call = call(Task::Chat, CHAT_ASK);
        call.model = name.into();
        read(provider.chat().expect("chats").chat(call).await.expect("an answer")).await;
        let seen = server.seen().await;
        let target = seen.line().split(' ').nth(1).expect("target").to_owned();
        assert!(target.starts_with("/v1/openai/deployments/"), "{target}");
        assert!(target.ends_with("/chat/completions?api-version=2024-10-21"), "{target}");
        assert_eq!(target.split('/').count(), 7, "{target}");
    }
    for name in ["..", "../admin", "x/../../y", "%2e%2e", "a\r\nhost: evil", "", "a\0"] {
        let mut call = call(Task::Chat, CHAT_ASK);
        call.model = name.into();
        let Err(error) = provider.chat().expect("chats").chat(call).await else {
            panic!("{name:?} was sent")
        };
        assert_eq!(error.code().name(), "invalid_value", "{name:?}");
    }
    assert_eq!(server.requests(), 5);
}

#[tokio::test]
async fn usage_is_asked_of_vendors_that_know_stream_options_and_of_no_other() {
    let mut server = Server::always(vec![send(events_answer(crate::support::CHAT_EVENTS))]).await;
    for preset in PRESETS.iter().filter(|preset| preset.dialect == Dialect::OpenAi) {
        let provider = vendor(preset.kind, json!({"base_url": server.base, "api_key": KEY}));
        read(provider.chat().expect("chats").chat(call(Task::Chat, STREAM_ASK)).await.expect("an answer"))
            .await;
        let asked = server.seen().await.json()["stream_options"]["include_usage"] == json!(true);
        assert_eq!(asked, preset.stream_options, "{}", preset.kind);
    }
    let provider = vendor("openai_compatible", json!({"base_url": server.base, "stream_options": false}));
    read(provider.chat().expect("chats").chat(call(Task::Chat, STREAM_ASK)).await.expect("an answer")).await;
    assert!(server.seen().await.json().get("stream_options").is_none());
    // Not even when the asker sends it.
    let asks = r#"{"model":"l","stream":true,"penstock":{},"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;
    read(provider.chat().expect("chats").chat(call(Task::Chat, asks)).await.expect("an answer")).await;
    let seen = server.seen().await.json();
    let mut members: Vec<&String> = seen.as_object().expect("an object").keys().collect();
    members.sort();
    assert_eq!(members, ["messages", "model", "stream"]);
}
