//! The mock as a vendor of OpenAI's responses.

use serde_json::{Value, json};

use crate::support::*;

const PATH: &str = "/v1/responses";

fn question(stream: bool) -> Value {
    json!({"model": "m1", "instructions": "be brief", "input": [{"role": "user", "content": "how are you"}], "stream": stream})
}

fn kinds(answer: &Answer) -> Vec<String> {
    answer.events().iter().map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn an_answer_is_the_same_whole_and_streamed() {
    let mock = plain().await;
    let whole = ask(&mock, PATH, json!({"text": "a b"}), &question(false)).await.json();
    assert_eq!(whole["output"][0]["content"][0]["text"], "a b");
    assert_eq!(whole["usage"]["output_tokens"], 2);
    let streamed = ask(&mock, PATH, json!({"text": "a b"}), &question(true)).await;
    let last = streamed.events().last().cloned().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["output"][0]["content"], whole["output"][0]["content"]);
    let numbers: Vec<u64> =
        streamed.events().iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(mock.stats().by_path[PATH][&200], 2);
}

#[tokio::test]
async fn reasoning_and_calls_are_items_of_their_own() {
    let mock = plain().await;
    let script =
        json!({"reasoning": "hm", "tool_calls": [{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]});
    let whole = ask(&mock, PATH, script.clone(), &question(false)).await.json();
    let told: Vec<&str> =
        whole["output"].as_array().unwrap().iter().filter_map(|item| item["type"].as_str()).collect();
    assert_eq!(told, ["reasoning", "function_call", "function_call"]);
    assert_eq!(whole["output"][1]["arguments"], "{\"a\":1}");
    let streamed = ask(&mock, PATH, script, &question(true)).await;
    let kinds = kinds(&streamed);
    assert_eq!(kinds.iter().filter(|kind| *kind == "response.function_call_arguments.done").count(), 2);
    assert!(kinds.contains(&"response.reasoning_summary_text.delta".to_owned()), "{kinds:?}");
}

#[tokio::test]
async fn faults_reach_the_wire() {
    let mock = plain().await;
    let cut = ask(&mock, PATH, json!({"text": "a", "omit_done": true}), &question(true)).await;
    assert!(!kinds(&cut).iter().any(|kind| kind == "response.completed"), "the end is left out");
    let error = ask(&mock, PATH, json!({"text": "a", "error_event": 3}), &question(true)).await;
    assert_eq!(kinds(&error).last().map(String::as_str), Some("error"));
    let length = ask(&mock, PATH, json!({"text": "a b", "finish_reason": "length"}), &question(false)).await;
    assert_eq!(length.json()["incomplete_details"]["reason"], "max_output_tokens");
    let status = ask(&mock, PATH, json!({"status": 429}), &question(false)).await;
    assert_eq!((status.status, status.json()["error"]["code"].as_str()), (429, Some("rate_limit_exceeded")));
}

#[tokio::test]
async fn what_was_never_kept_cannot_be_gone_on_from() {
    let mock = plain().await;
    for body in [
        json!({"model": "m1", "input": "x", "previous_response_id": "resp_1"}),
        json!({"model": "m1", "input": [{"type": "item_reference", "id": "msg_1"}]}),
        json!({"model": "m1", "input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}),
        json!({"model": "m1"}),
    ] {
        assert_eq!(ask(&mock, PATH, json!({}), &body).await.status, 400, "{body}");
    }
}
