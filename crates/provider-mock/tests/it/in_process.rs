//! The provider kind `mock`, held against the suites and its script.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use penstock_config::{Registry, Section};
use penstock_domain::{Code, Delta, Error, Retry, Task};
use penstock_provider::{Call, Calling, Chat, Provider};
use penstock_provider_mock::{MockProvider, Script, register};
use penstock_testkit::{
    Sample, call, chat_conformance, collect, complete_conformance, embed_conformance, fold, openai,
};
use serde_json::{Value, json};

use crate::support::question;

/// The port's method: a provider has an ability of the same name.
fn chat(mock: &MockProvider, call: Call) -> Calling<'_> {
    Chat::chat(mock, call)
}

fn provider(script: Value) -> MockProvider {
    MockProvider::new(Script::from_json(&script.to_string()).unwrap())
}

fn scripted(script: Value) -> penstock_domain::Request {
    let mut body = question(true);
    body["mock"] = script;
    openai(Task::Chat, &body)
}

fn plain_request() -> penstock_domain::Request {
    openai(Task::Chat, &question(true))
}

async fn failed(mock: &MockProvider, script: Value) -> Error {
    match chat(mock, call(scripted(script), "m", None)).await {
        Err(error) => error,
        Ok(deltas) => fold(&plain_request(), collect(deltas).await).failed.expect("the answer breaks"),
    }
}

#[tokio::test]
async fn the_provider_keeps_every_promise_of_the_ports() {
    let mock =
        provider(json!({"default": {"text": "Hello, world. And a few words more, so that limits are met."}}));
    let sample = Sample {
        deterministic: true,
        several_choices: true,
        exact_usage: true,
        unsupported: Some(json!([{"role": "user", "content": [
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]}])),
        unknown_model: None,
    };
    chat_conformance(&mock, "m", &sample).await;
    complete_conformance(&mock, "m", &sample).await;
    embed_conformance(&mock, "m", &sample).await;
    assert_eq!(mock.stats().in_flight, 0);
}

#[tokio::test]
async fn faults_become_the_errors_that_a_vendor_would_cause() {
    let mock = provider(json!({}));
    for (script, code) in [
        (json!({"status": 401}), Code::UpstreamAuth),
        (json!({"status": 402}), Code::UpstreamQuotaExceeded),
        (json!({"status": 400}), Code::UpstreamRejected),
        (json!({"status": 404}), Code::ModelNotFound),
        (json!({"status": 503}), Code::UpstreamError),
        (json!({"cut": "reset"}), Code::UpstreamUnreachable),
        (json!({"cut_at_byte": 3}), Code::UpstreamStreamCut),
        (json!({"malformed_event": 2}), Code::UpstreamBadResponse),
        (json!({"error_event": 1}), Code::UpstreamError),
        (json!({"tekst": "a"}), Code::InvalidRequest),
    ] {
        assert_eq!(failed(&mock, script.clone()).await.code(), code, "{script}");
    }
    let limited = failed(&mock, json!({"status": 429, "retry_after": {"ms": 1500}})).await;
    assert_eq!(
        (limited.code(), limited.retry()),
        (Code::UpstreamRateLimited, Retry::After(Duration::from_millis(1500)))
    );
}

#[tokio::test]
async fn a_hang_ends_at_the_deadline() {
    let mock = provider(json!({}));
    for place in ["before_headers", "after_headers", "mid_stream"] {
        let deadline = Some(Instant::now() + Duration::from_millis(20));
        let error = match chat(&mock, call(scripted(json!({"hang": place})), "m", deadline)).await {
            Err(error) => error,
            Ok(deltas) => fold(&plain_request(), collect(deltas).await).failed.unwrap(),
        };
        assert_eq!(error.code(), Code::DeadlineExceeded, "{place}");
    }
}

#[tokio::test]
async fn a_dropped_stream_is_counted_with_what_it_said() {
    let mock = provider(json!({"default": {"tokens": 100}}));
    let mut deltas = chat(&mock, call(scripted(json!({"tokens": 100})), "m", None)).await.unwrap();
    for _ in 0..4 {
        deltas.next().await;
    }
    assert_eq!(mock.stats().in_flight, 1);
    drop(deltas);
    let stats = mock.stats();
    assert_eq!((stats.streams_aborted, stats.completion_tokens, stats.in_flight), (1, 3, 0));
}

#[tokio::test]
async fn both_shapes_give_the_same_answer() {
    let server = crate::support::plain().await;
    let script = json!({"echo": true, "reasoning": "let me see"});
    let over_http = crate::support::stream(&server, script.clone()).await.said();
    let mock = provider(json!({}));
    let deltas = chat(&mock, call(scripted(script), "m", None)).await.unwrap();
    let seen = fold(&plain_request(), collect(deltas).await);
    assert_eq!(seen.text[&0], over_http);
}

#[tokio::test]
async fn the_kind_mock_is_made_from_its_section() {
    let mut registry: Registry<dyn Provider, ()> = Registry::new();
    register(&mut registry);
    // What routing has to know of a provider may be said of this kind as of every other.
    let section = Section::new(
        "mock",
        "fake",
        json!({"default": {"text": "from the file"}, "region": "eu", "trust": "internal", "provisioned": {"tokens_per_minute": 9}}),
    );
    assert_eq!(section.placement().region.as_deref(), Some("eu"));
    let made = registry.build(&section, &()).unwrap();
    assert_eq!(made.kind(), "mock");
    let deltas =
        made.chat().unwrap().chat(call(openai(Task::Chat, &question(false)), "m", None)).await.unwrap();
    let all: Vec<Delta> = collect(deltas).await;
    assert_eq!(fold(&plain_request(), all).text[&0], "from the file");
    let wrong = Section::new("mock", "fake", json!({"default": {"status": 42}}));
    let problems = registry.build(&wrong, &()).err().unwrap();
    assert!(problems[0].to_string().contains("400 to 599"), "{}", problems[0]);
}

#[tokio::test]
async fn a_defect_that_the_script_asks_for_panics_where_it_says_and_leaves_the_count_right() {
    for (place, said) in [("call", 0), ("stream", 1)] {
        let mock = std::sync::Arc::new(provider(json!({"default": {"panic": place, "text": "a b c"}})));
        let asked = std::sync::Arc::clone(&mock);
        let task = tokio::spawn(async move {
            let deltas =
                chat(&asked, call(plain_request(), "m", None)).await.expect("it panics, it does not fail");
            deltas.collect::<Vec<_>>().await
        });
        assert!(task.await.unwrap_err().is_panic(), "{place}");
        let stats = mock.stats();
        assert_eq!((stats.in_flight, stats.completion_tokens), (0, said), "{place}");
    }
}
