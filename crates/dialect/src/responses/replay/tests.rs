use super::*;

fn stored() -> Value {
    json!({
        "id": "resp_1", "object": "response", "status": "incomplete", "error": null, "usage": {"total_tokens": 3},
        "incomplete_details": {"reason": "max_output_tokens"}, "completed_at": 7, "metadata": {"a": "b"},
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "so"}],
             "content": [{"type": "reasoning_text", "text": "hm"}], "encrypted_content": "seal"},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "Paris", "annotations": [{"type": "url_citation"}], "logprobs": []},
                {"type": "refusal", "refusal": "no"},
            ]},
            {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{\"a\":1}", "status": "completed"},
            {"type": "custom_tool_call", "id": "ctc_1", "call_id": "d", "name": "g", "input": "ls"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        ],
    })
}

fn read(after: Option<u64>) -> Vec<Value> {
    let bytes = events(stored().to_string().as_bytes(), after).unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    text.split_terminator("\n\n")
        .map(|event| {
            let (kind, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(kind, format!("event: {}", data["type"].as_str().unwrap()));
            data
        })
        .collect()
}

#[test]
fn events_come_in_the_order_of_a_live_stream() {
    let events = read(None);
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap().strip_prefix("response.").unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "created",
            "in_progress",
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "reasoning_text.delta",
            "reasoning_text.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.annotation.added",
            "output_text.done",
            "content_part.done",
            "content_part.added",
            "refusal.delta",
            "refusal.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "output_item.added",
            "custom_tool_call_input.delta",
            "custom_tool_call_input.done",
            "output_item.done",
            "output_item.added",
            "output_item.done",
            "incomplete",
        ]
    );
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
}

#[test]
fn it_begins_with_nothing_and_ends_with_the_response_itself() {
    let events = read(None);
    let first = &events[0]["response"];
    assert_eq!(
        (&first["status"], &first["output"], &first["usage"]),
        (&json!("in_progress"), &json!([]), &Value::Null)
    );
    assert_eq!((&first["id"], &first["metadata"]), (&stored()["id"], &stored()["metadata"]));
    assert_eq!(events.last().unwrap()["response"], stored());
    let added = &events[10]["item"];
    assert_eq!((&added["content"], &added["status"]), (&json!([]), &json!("in_progress")));
    assert_eq!(events[2]["item"].get("encrypted_content"), None);
    assert_eq!(events[9]["item"]["encrypted_content"], "seal");
}

#[test]
fn pieces_add_up_to_the_whole() {
    let said = |kind: &str| {
        let events = read(None);
        let event = events.into_iter().find(|event| event["type"] == kind).unwrap();
        (event["item_id"].clone(), event["delta"].clone())
    };
    assert_eq!(said("response.output_text.delta"), (json!("msg_1"), json!("Paris")));
    assert_eq!(said("response.function_call_arguments.delta"), (json!("fc_1"), json!("{\"a\":1}")));
    assert_eq!(said("response.reasoning_summary_text.delta"), (json!("rs_1"), json!("so")));
}

#[test]
fn whoever_has_seen_some_gets_the_rest() {
    let all = read(None);
    assert_eq!(read(Some(4)), all[5..]);
    assert_eq!(read(Some(u64::MAX)), Vec::<Value>::new());
    assert_eq!(events(b"[]", None).unwrap_err().code(), penstock_domain::Code::UpstreamBadResponse);
    assert!(events(b"{}", None).is_err());
}
