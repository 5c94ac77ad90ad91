//! How a request picks its script.

use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn the_header_wins_over_the_member_and_the_member_over_the_rules() {
    let mock = server(json!({"default": {"text": "default"},
        "rules": [{"when": {"model": "m*"}, "do": {"text": "rule"}}]}))
    .await;
    let mut body = question(true);
    assert_eq!(raw(mock.addr(), &request(CHAT, None, &body)).await.said(), "rule");
    body["mock"] = json!({"text": "member"});
    assert_eq!(raw(mock.addr(), &request(CHAT, None, &body)).await.said(), "member");
    assert_eq!(ask(&mock, CHAT, json!({"text": "header"}), &body).await.said(), "header");
    body.as_object_mut().unwrap().remove("mock");
    body["model"] = json!("other");
    assert_eq!(raw(mock.addr(), &request(CHAT, None, &body)).await.said(), "default");
}

#[tokio::test]
async fn a_rule_can_speak_for_a_path_a_text_or_the_nth_request() {
    let mock = server(json!({"rules": [
        {"when": {"path": "/v1/messages"}, "do": {"status": 529}},
        {"when": {"text_contains": "are you", "nth": 2}, "do": {"status": 500}}]}))
    .await;
    let statuses = async |path: &str| raw(mock.addr(), &request(path, None, &question(false))).await.status;
    assert_eq!(statuses(MESSAGES).await, 529);
    let seen = [statuses(CHAT).await, statuses(CHAT).await, statuses(CHAT).await];
    assert_eq!(seen, [200, 500, 200]);
}

#[tokio::test]
async fn repeat_and_then_work_in_rules_and_in_requests() {
    let mock =
        server(json!({"rules": [{"do": {"status": 503, "repeat": 2, "then": {"text": "up again"}}}]})).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(raw(mock.addr(), &request(CHAT, None, &question(false))).await.status);
    }
    assert_eq!(seen, [503, 503, 200]);
    let flaky = |key: &str| json!({"status": 500, "repeat": 1, "then": {"text": "ok"}, "key": key});
    let mut seen = Vec::new();
    for key in ["a", "a", "b", "b"] {
        seen.push(whole(&mock, flaky(key)).await.status);
    }
    assert_eq!(seen, [500, 200, 500, 200]);
}

#[tokio::test]
async fn a_script_can_be_replaced_while_the_server_runs() {
    let mock = server(json!({"default": {"status": 503}})).await;
    let statuses = async || raw(mock.addr(), &request(CHAT, None, &question(false))).await.status;
    assert_eq!(statuses().await, 503);
    let replace = async |script: Value| raw(mock.addr(), &request("/mock/script", None, &script)).await;
    assert_eq!(replace(json!({"default": {"text": "well again"}})).await.status, 200);
    assert_eq!(statuses().await, 200);
    for (bad, directive) in
        [(json!({"default": {"texxt": "x"}}), "texxt"), (json!({"default": {"panic": "call"}}), "panic")]
    {
        let refused = replace(bad).await;
        assert_eq!((refused.status, refused.json()["error"]["param"].clone()), (400, json!(directive)));
    }
    assert_eq!(statuses().await, 200, "what was refused changed nothing");
    assert_eq!(mock.stats().requests, 3, "neither asking nor replacing counts");
}

#[tokio::test]
async fn any_prefix_may_stand_before_a_path() {
    let mock = plain().await;
    for path in [
        "/openai/deployments/d/chat/completions?api-version=1",
        "/api/v1/chat/completions",
        "/chat/completions",
    ] {
        assert_eq!(raw(mock.addr(), &request(path, None, &question(false))).await.status, 200, "{path}");
    }
    assert_eq!(mock.stats().by_path[CHAT][&200], 3);
    assert!(mock.requests()[0].path.ends_with("?api-version=1"));
}
