//! Askers of Anthropic's dialect: answers, events and errors in its shape.

use serde_json::Value;

use crate::bench::{Bench, RAW_MESSAGE, WHOLE_MESSAGE};
use crate::wire::{Answer, ask, ask_message, bearer, exchange, get, message, post};

/// Names and data of the events of a body.
fn events(body: &str) -> Vec<(String, Value)> {
    let event = |block: &str| {
        let (name, data) = block.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        (name.to_owned(), data)
    };
    body.split_terminator("\n\n").map(event).collect()
}

fn error(answer: &Answer) -> (u16, String, String) {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["type"], "error");
    assert_eq!(body["request_id"], answer.header("request-id").unwrap());
    let text = |name: &str| body["error"][name].as_str().unwrap().to_owned();
    assert!(!text("message").is_empty());
    (answer.status, text("type"), text("code"))
}

fn expected(status: u16, kind: &str, code: &str) -> (u16, String, String) {
    (status, kind.to_owned(), code.to_owned())
}

#[tokio::test]
async fn a_whole_answer_is_a_message() {
    let bench = Bench::start().await;
    let answer = exchange(bench.address, ask_message("plain", false)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("request-id").unwrap().starts_with("req_"));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&body["type"], &body["stop_reason"]), (&"message".into(), &"end_turn".into()));
    assert_eq!(body["content"], serde_json::json!([{"type": "text", "text": "Paris"}]));
    assert_eq!((&body["usage"]["input_tokens"], &body["usage"]["output_tokens"]), (&3.into(), &1.into()));
    let whole = exchange(bench.address, ask_message("whole-message", false)).await;
    assert_eq!(whole.body, WHOLE_MESSAGE, "untouched");
    assert_eq!(bench.codes(2).await, ["ok", "ok"]);
}

#[tokio::test]
async fn deltas_become_the_events_of_a_message() {
    let bench = Bench::start().await;
    let answer = exchange(bench.address, ask_message("plain", true)).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let names: Vec<String> = events(&answer.body).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn the_vendors_own_events_pass_untouched_and_nothing_is_added() {
    let bench = Bench::start().await;
    let answer = exchange(bench.address, ask_message("raw-messages", true)).await;
    assert_eq!(answer.body, RAW_MESSAGE);
    assert_eq!(bench.codes(1).await, ["ok"]);
}

#[tokio::test]
async fn a_broken_stream_ends_with_an_error_event_and_without_message_stop() {
    let bench = Bench::start().await;
    let answer = exchange(bench.address, ask_message("cut", true)).await;
    let events = events(&answer.body);
    let (name, last) = events.last().unwrap();
    assert_eq!((name.as_str(), &last["error"]["type"]), ("error", &"api_error".into()));
    assert_eq!(last["error"]["code"], "upstream_stream_cut");
    assert_eq!(last["request_id"], answer.header("request-id").unwrap());
    assert!(events.iter().all(|(name, _)| name != "message_stop"));
    let raw = exchange(bench.address, ask_message("raw-messages-cut", true)).await;
    let rest = raw.body.strip_prefix(RAW_MESSAGE).unwrap();
    assert!(rest.starts_with("event: error\n") && rest.matches("event: ").count() == 1, "{rest}");
    let whole = exchange(bench.address, ask_message("cut", false)).await;
    assert_eq!(error(&whole), expected(502, "api_error", "upstream_stream_cut"));
}

#[tokio::test]
async fn errors_have_the_dialects_shape_type_and_status() {
    let bench = Bench::start().await;
    let ours = |headers: &str, body: &str| post("/v1/messages", headers, body);
    let cases = [
        (ours("", &message("plain", false)), expected(401, "authentication_error", "missing_api_key")),
        (ours(&bearer(), "{"), expected(400, "invalid_request_error", "invalid_json")),
        (
            ours(&bearer(), r#"{"model":"plain","messages":[{"role":"user","content":"x"}]}"#),
            expected(400, "invalid_request_error", "invalid_request"),
        ),
        (ask_message("nothing", false), expected(404, "not_found_error", "model_not_found")),
        (ask_message("limited", true), expected(429, "rate_limit_error", "upstream_rate_limited")),
        (ask_message("full", false), expected(529, "overloaded_error", "overloaded")),
        (post("/v1/messages/nothing", &bearer(), "{}"), expected(404, "not_found_error", "route_not_found")),
        (
            post("/v1/messages/count_tokens", &bearer(), &message("nothing", false)),
            expected(404, "not_found_error", "model_not_found"),
        ),
        (
            post("/v1/messages/count_tokens", "", &message("plain", false)),
            expected(401, "authentication_error", "missing_api_key"),
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(error(&exchange(bench.address, request).await), expected);
    }
    let wrong = get(bench.address, "/v1/messages").await;
    assert_eq!(error(&wrong), expected(405, "invalid_request_error", "method_not_allowed"));
    assert_eq!(wrong.header("allow"), Some("POST"));
    let near = get(bench.address, "/v1/messagesx").await;
    assert!(near.body.starts_with("{\"error\""), "another path is not of this family: {}", near.body);
    let full = exchange(bench.address, ask("full", false)).await;
    assert_eq!(full.status, 503, "529 is for those who know it");
}

#[tokio::test]
async fn tokens_are_counted_for_a_provider_that_cannot_and_the_number_is_called_an_estimate() {
    let bench = Bench::start().await;
    let body = r#"{"model":"plain","system":"Be brief.","messages":[{"role":"user","content":"Hello"}],"stream":true}"#;
    let answer = exchange(bench.address, post("/v1/messages/count_tokens", &bearer(), body)).await;
    assert_eq!((answer.status, answer.header("penstock-estimated")), (200, Some("tokens")));
    let counted: Value = serde_json::from_str(&answer.body).unwrap();
    let tokens = counted["input_tokens"].as_u64().unwrap();
    assert!((8..30).contains(&tokens), "{counted}");
    assert_eq!(bench.codes(1).await, ["ok"]);
    let chat = exchange(bench.address, ask_message("plain", false)).await;
    assert_eq!(chat.header("penstock-estimated"), None);
}

#[tokio::test]
async fn models_have_anthropics_shape_for_its_clients() {
    let bench = Bench::start().await;
    let headers = format!("{}anthropic-version: 2023-06-01\r\n", bearer());
    let ask =
        |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n");
    let list: Value =
        serde_json::from_str(&exchange(bench.address, ask("/v1/models?limit=2")).await.body).unwrap();
    let (first, last) = (list["first_id"].as_str().unwrap(), list["last_id"].as_str().unwrap());
    assert_eq!((list["data"].as_array().unwrap().len(), &list["has_more"]), (2, &Value::Bool(true)));
    let next = exchange(bench.address, ask(&format!("/v1/models?limit=1000&after_id={last}"))).await;
    let next: Value = serde_json::from_str(&next.body).unwrap();
    assert_eq!(next["has_more"], false);
    assert!(next["data"].as_array().unwrap().iter().all(|row| row["id"] != first));
    let one: Value =
        serde_json::from_str(&exchange(bench.address, ask("/v1/models/org%2Fslashed")).await.body).unwrap();
    assert_eq!((&one["type"], &one["display_name"]), (&"model".into(), &"org/slashed".into()));
    assert!(one["created_at"].as_str().unwrap().ends_with('Z'));
    let gone = exchange(bench.address, ask("/v1/models/nope")).await;
    assert_eq!(error(&gone), expected(404, "not_found_error", "model_not_found"));
    let wrong = exchange(bench.address, ask("/v1/models?limit=0")).await;
    assert_eq!(error(&wrong), expected(400, "invalid_request_error", "invalid_value"));
}

#[tokio::test]
async fn what_a_translation_lost_is_named_in_a_header() {
    let bench = Bench::start().await;
    for request in [ask("translated", false), ask("translated", true), ask_message("translated", true)] {
        let answer = exchange(bench.address, request).await;
        assert_eq!(answer.header("penstock-dropped-params"), Some("seed, top_k"));
        assert!(answer.body.contains("Paris"));
    }
    let plain = exchange(bench.address, ask("plain", false)).await;
    assert_eq!(plain.header("penstock-dropped-params"), None);
}
