use serde_json::{Value, json};

use super::*;

fn items(list: &[Value]) -> Vec<Json> {
    list.iter().map(|item| Json::from_valid(item.to_string())).collect()
}

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn the_head_says_what_a_request_says_about_state() {
    let body = br#"{"model":"m","input":"hi","store":false,"previous_response_id":"resp_1","conversation":{"id":"conv_1"}}"#;
    let said = Head {
        store: Some(false),
        previous_response_id: Some("resp_1".to_owned()),
        conversation: Some("conv_1".to_owned()),
        background: false,
    };
    assert_eq!(head(body).unwrap(), said);
    let nulls = br#"{"store":null,"previous_response_id":null,"conversation":null,"background":null}"#;
    assert_eq!(head(nulls).unwrap(), Head::default());
    assert_eq!(head(br#"{"store":"yes"}"#).unwrap_err().param(), Some("store"));
}

#[test]
fn a_merged_body_says_everything_itself_and_keeps_the_rest() {
    let earlier = items(&[
        json!({"type": "message", "role": "user", "id": "msg_1", "content": "one"}),
        json!({"type": "reasoning", "id": "rs_1", "summary": []}),
        json!({"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "x"}),
        json!({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}),
    ]);
    let body = br#"{"model":"m", "previous_response_id":"resp_1","temperature":0.70,"input":"two","future":{"a":1.0}}"#;
    let merged = merge(body, &earlier).unwrap();
    let text = std::str::from_utf8(&merged).unwrap();
    assert!(text.contains(r#""temperature":0.70"#) && text.contains(r#""future":{"a":1.0}"#), "{text}");
    let merged = value(&merged);
    assert_eq!(merged.get("previous_response_id"), None);
    let expected = json!([
        {"type": "message", "role": "user", "content": "one"},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "two"}]},
    ]);
    assert_eq!(merged["input"], expected);
}

#[test]
fn a_conversation_is_bounded() {
    let one = Json::from_valid(r#"{"role":"user","content":"x"}"#);
    let many = vec![one; MAX_ITEMS];
    assert_eq!(merge(br#"{"input":"y"}"#, &many).unwrap_err().param(), Some("input"));
}

#[test]
fn references_are_found_and_replaced() {
    let body =
        br#"{"input":[{"type":"item_reference","id":"msg_1"},{"id":"fc_1"},{"role":"user","content":"x"}]}"#;
    assert_eq!(references(body).unwrap(), ["msg_1", "fc_1"]);
    let found = |id: &str| Some(Json::from_valid(format!(r#"{{"type":"message","id":"{id}"}}"#)));
    let whole = value(&resolve(body, found).unwrap());
    assert_eq!(whole["input"][1], json!({"type": "message"}));
    let error = resolve(body, |_| None).unwrap_err();
    assert_eq!((error.code(), error.param()), (Code::NotFound, Some("input[0]")));
}

#[test]
fn input_items_are_listed_in_full() {
    let body = br#"{"input":[{"role":"user","content":"hi"},{"role":"assistant","content":"ho","id":"msg_7"},
        {"type":"function_call_output","call_id":"c","output":"1"}]}"#;
    let listed = items_of_request(body, "abc").unwrap();
    let ids: Vec<&str> = listed.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["msg_abc_0", "msg_7", "fco_abc_2"]);
    let first = json!({
        "id": "msg_abc_0", "type": "message", "role": "user", "status": "completed",
        "content": [{"type": "input_text", "text": "hi"}],
    });
    assert_eq!(value(listed[0].json.as_str().as_bytes()), first);
    let second = value(listed[1].json.as_str().as_bytes());
    assert_eq!(second["content"][0]["type"], "output_text");
    assert_eq!(items_of_request(br#"{"input":"hi"}"#, "t").unwrap()[0].id, "msg_t_0");
}

#[test]
fn output_items_are_those_of_the_response() {
    let response = br#"{"id":"resp_9","output":[{"type":"message","id":"msg_1"},{"type":"function_call"}]}"#;
    let ids: Vec<String> = output_items(response).unwrap().into_iter().map(|item| item.id).collect();
    assert_eq!(ids, ["msg_1", "fc_9_1"]);
    assert_eq!(response_id(response).as_deref(), Some("resp_9"));
    assert!(output_items(b"{}").is_err() && output_items(b"<html>").is_err());
}

#[test]
fn the_final_response_is_found_in_the_events_and_nowhere_else() {
    let text = br#"event: response.output_text.delta
data: {"type":"response.output_text.delta","delta":"event: response.completed"}

"#;
    assert_eq!(final_response(text), None);
    let end = b"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\"}}\n\n";
    assert_eq!(final_response(&[&text[..], end].concat()).as_deref(), Some(&br#"{"id":"resp_1"}"#[..]));
    assert_eq!(final_response(b"event: error\ndata: {\"type\":\"error\"}\n\n"), None);
}
