use penstock_domain::{Origin, RawEvents, RequestId};
use serde_json::{Value, json};

use super::*;
use crate::asker::Encode as _;
use crate::{DecodeLimits, openai::request::decode};

fn request(task: Task, more: &str) -> Request {
    let body = format!(r#"{{"model":"small","prompt":"p","input":"i","messages":[1],"stream":true{more}}}"#);
    let decoded = decode(task, Bytes::from(body), &DecodeLimits::default()).unwrap();
    decoded.into_request(RequestId::new("req_5"), Origin::Http, None)
}

const USAGE: &str = r#","stream_options":{"include_usage":true}"#;

fn text(choice: u32, text: &str) -> Delta {
    Delta::Text { choice, text: text.to_owned(), logprobs: Vec::new() }
}

fn stop(choice: u32) -> Delta {
    Delta::Finished { choice, reason: FinishReason::Stop, stop: None }
}

fn usage() -> Delta {
    Delta::Usage(Usage { input: 5, output: 2, cached_input: Some(1), ..Usage::default() })
}

fn write(request: &Request, deltas: Vec<Delta>) -> String {
    let mut encoder = StreamEncoder::new(request, 7);
    let mut out = BytesMut::new();
    deltas.into_iter().for_each(|delta| encoder.encode(delta, &mut out));
    encoder.finish(&mut out);
    encoder.finish(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// The events as JSON; the end marker as a string.
fn events(text: &str) -> Vec<Value> {
    let data = |event: &str| match event.strip_prefix("data: ").expect("a data line") {
        "[DONE]" => json!("[DONE]"),
        data => serde_json::from_str(data).unwrap(),
    };
    assert!(text.ends_with("\n\n"));
    text.trim_end().split("\n\n").map(data).collect()
}

#[test]
fn a_chat_opens_with_its_role_and_ends_with_usage_and_done() {
    let events = events(&write(&request(Task::Chat, USAGE), vec![text(0, "a\"\n"), stop(0), usage()]));
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(events[1]["choices"][0]["delta"], json!({"content": "a\"\n"}));
    assert_eq!(
        events[2]["choices"][0],
        json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"})
    );
    for event in &events[..3] {
        assert_eq!((&event["id"], &event["object"]), (&json!("chatcmpl-5"), &json!("chat.completion.chunk")));
        assert_eq!((&event["created"], &event["model"]), (&json!(7), &json!("small")));
        assert!(event.as_object().unwrap().contains_key("usage") && event["usage"].is_null());
    }
    assert_eq!(events[3]["choices"], json!([]));
    assert_eq!(events[3]["usage"]["total_tokens"], 7);
    assert_eq!(events[3]["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
    assert_eq!(events[4..], [json!("[DONE]")]);
}

#[test]
fn who_did_not_ask_for_usage_sees_none() {
    let text = write(&request(Task::Chat, ""), vec![text(0, "a"), stop(0), usage()]);
    assert!(!text.contains("usage"), "{text}");
}

#[test]
fn every_choice_opens_with_its_own_role() {
    let request = request(Task::Chat, r#","n":2"#);
    let events =
        events(&write(&request, vec![Delta::Started(Started::default()), text(1, "b"), stop(1), stop(0)]));
    let opened: Vec<&Value> = events
        .iter()
        .filter(|e| e["choices"][0]["delta"]["role"] == "assistant")
        .map(|e| &e["choices"][0]["index"])
        .collect();
    assert_eq!(opened, [0, 1]);
}

#[test]
fn calls_carry_id_and_name_once() {
    let call = |id: Option<&str>, arguments: &str| Delta::ToolCall {
        choice: 0,
        index: 1,
        id: id.map(str::to_owned),
        name: id.map(|_| "f".to_owned()),
        arguments: arguments.to_owned(),
    };
    let events = events(&write(&request(Task::Chat, ""), vec![call(Some("c"), ""), call(None, "{\"a\":1}")]));
    let calls: Vec<&Value> =
        events[1..3].iter().map(|e| &e["choices"][0]["delta"]["tool_calls"][0]).collect();
    let first =
        json!({"index": 1, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}});
    assert_eq!(calls, [&first, &json!({"index": 1, "function": {"arguments": "{\"a\":1}"}})]);
}

#[test]
fn a_completion_streams_text() {
    let events = events(&write(&request(Task::Completion, ""), vec![text(0, "a"), stop(0)]));
    assert_eq!(events[0]["object"], "text_completion");
    assert_eq!(
        events[0]["choices"][0],
        json!({"index": 0, "text": "a", "logprobs": null, "finish_reason": null})
    );
    assert_eq!(events[1]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events.len(), 3);
}

#[test]
fn a_failure_is_one_error_event_without_done_and_the_end() {
    let failed = Delta::Failed(Error::new(Code::UpstreamStreamCut, "cut"));
    let request = request(Task::Chat, USAGE);
    let events = events(&write(&request, vec![text(0, "a"), failed, text(0, "b"), usage()]));
    assert_eq!(events.len(), 3);
    assert_eq!(events[2]["error"]["code"], "upstream_stream_cut");
    assert_eq!(events[2]["error"]["penstock"]["request_id"], "req_5");
}

#[test]
fn raw_events_pass_untouched_and_done_follows() {
    let bytes = Bytes::from_static(b"data: {\"anything\":1}\n\n");
    let raw = RawEvents { dialect: Dialect::OpenAi, bytes, notes: Default::default() };
    let text = write(&request(Task::Chat, ""), vec![Delta::Raw(raw)]);
    assert_eq!(text, "data: {\"anything\":1}\n\ndata: [DONE]\n\n");
}

#[test]
fn a_whole_answer_becomes_a_stream() {
    let body =
        br#"{"id":"c","model":"gpt","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},
        "finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let whole = response::read_whole(Task::Chat, Bytes::from_static(body)).unwrap();
    let events = events(&write(&request(Task::Chat, USAGE), vec![whole]));
    assert_eq!(events[1]["choices"][0]["delta"]["content"], "hi");
    assert_eq!(events.last(), Some(&json!("[DONE]")));
    assert_eq!(events[0]["model"], "gpt");
}
