use bytes::{Bytes, BytesMut};
use penstock_domain::{
    Code, Content, Delta, Error, FinishReason, Origin, Part, Request, RequestId, Role, Task, ToolChoice,
    Usage,
};
use serde_json::{Value, json};

use super::*;
use crate::asker::{Encode as _, Fold as _};
use crate::sse::{Frame, MAX_EVENT, SseDecoder};
use crate::{Ask, Chats, DecodeLimits};

fn decode(body: &Value) -> Result<Request, Error> {
    let decoded = request::decode(Task::Chat, Bytes::from(body.to_string()), &DecodeLimits::default())?;
    Ok(decoded.into_request(RequestId::new("req_9"), Origin::Http, None))
}

fn simple() -> Value {
    json!({"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]})
}

fn answer() -> Vec<Delta> {
    let call = |id: Option<&str>, arguments: &str| Delta::ToolCall {
        choice: 0,
        index: 0,
        id: id.map(str::to_owned),
        name: id.map(|_| "f".to_owned()),
        arguments: arguments.to_owned(),
    };
    vec![
        Delta::Started(Started { id: "msg_1".into(), model: "claude".into() }),
        Delta::Reasoning { choice: 0, text: "hm".into() },
        Delta::Text { choice: 0, text: "He".into(), logprobs: vec![] },
        Delta::Text { choice: 0, text: "llo".into(), logprobs: vec![] },
        call(Some("t1"), "{\"a\""),
        call(None, ":1}"),
        Delta::Finished { choice: 0, reason: FinishReason::ToolCalls, stop: None },
        Delta::Usage(Usage { input: 10, output: 4, cached_input: Some(3), ..Usage::default() }),
    ]
}

fn events(bytes: BytesMut) -> Vec<(String, Value)> {
    let mut decoder = SseDecoder::new(MAX_EVENT);
    decoder.push(bytes.freeze()).unwrap();
    let mut all = Vec::new();
    while let Some(Frame::Event(event)) = decoder.next() {
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        let name = String::from_utf8(event.event.unwrap().to_vec()).unwrap();
        assert_eq!(data["type"], name);
        all.push((name, data));
    }
    all
}

#[test]
fn a_request_becomes_a_conversation() {
    let body = json!({
        "model": "m", "max_tokens": 100, "system": [{"type": "text", "text": "be brief"}], "stop_sequences": ["X"],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "text", "text": "and"},
                {"type": "tool_result", "tool_use_id": "t1", "content": "7"},
            ]},
        ],
    });
    let request = decode(&body).unwrap();
    assert_eq!((request.max_output_tokens, request.stream), (Some(100), false));
    let Content::Chat(chat) = request.body.content().unwrap() else { panic!("no chat") };
    let roles: Vec<Role> = chat.messages.iter().map(|m| m.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::User]);
    assert!(matches!(&chat.messages[2].parts[..], [Part::ToolCall(call)] if call.arguments == r#"{"a":1}"#));
    assert!(matches!(&chat.messages[3].parts[..], [Part::ToolResult { call_id, .. }] if call_id == "t1"));
    assert_eq!(chat.tool_choice, Some(ToolChoice::Required));
    assert_eq!(chat.parallel_tool_calls, Some(false));
    assert_eq!(chat.sampling.stop, ["X"]);
}

#[test]
fn a_wrong_request_names_the_member_at_fault() {
    let with = |name: &str, value: Value| {
        let mut body = simple();
        body[name] = value;
        let error = decode(&body).and_then(|r| r.body.content().map(|_| ())).unwrap_err();
        (error.code(), error.param().unwrap_or_default().to_owned())
    };
    let invalid = |param: &str| (Code::InvalidRequest, param.to_owned());
    assert_eq!(with("model", json!(null)), invalid("model"));
    assert_eq!(with("max_tokens", json!(null)), invalid("max_tokens"));
    assert_eq!(with("max_tokens", json!(-1)), (Code::InvalidValue, "max_tokens".into()));
    assert_eq!(with("messages", json!([])), invalid("messages"));
    assert_eq!(with("messages", json!([{"role": "user"}])), invalid("messages[0].content"));
    assert_eq!(
        with("messages", json!([{"role": "x", "content": ""}])),
        (Code::InvalidValue, "messages[0].role".into())
    );
    let odd = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "odd"}]}]);
    assert_eq!(with("messages", odd), (Code::Unsupported, "messages[0].content[1].type".into()));
    assert_eq!(with("temperature", json!(1.5)), (Code::InvalidValue, "temperature".into()));
}

#[test]
fn deltas_become_message_events_with_blocks_in_order() {
    let mut encoder = stream::StreamEncoder::new(&decode(&simple()).unwrap());
    let mut out = BytesMut::new();
    answer().into_iter().for_each(|delta| encoder.encode(delta, &mut out));
    encoder.finish(&mut out);
    encoder.finish(&mut out);
    let events = events(out);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.trim_start_matches("content_block_")).collect();
    let expected = [
        "message_start",
        "start",
        "delta",
        "stop",
        "start",
        "delta",
        "delta",
        "stop",
        "start",
        "delta",
        "delta",
        "stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expected);
    let indices: Vec<u64> = events.iter().filter_map(|(_, data)| data["index"].as_u64()).collect();
    assert_eq!(indices, [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    let (_, last) = &events[events.len() - 2];
    assert_eq!(last["delta"]["stop_reason"], "tool_use");
    assert_eq!(last["usage"]["input_tokens"], 7, "cached input is not part of Anthropic's input");
}

#[test]
fn a_failure_is_an_error_event_and_no_message_stop() {
    let mut encoder = stream::StreamEncoder::new(&decode(&simple()).unwrap());
    let mut out = BytesMut::new();
    encoder.encode(answer().swap_remove(0), &mut out);
    encoder.encode(Delta::Failed(Error::new(Code::UpstreamStreamCut, "cut")), &mut out);
    encoder.encode(answer().swap_remove(2), &mut out);
    encoder.finish(&mut out);
    let events = events(out);
    assert_eq!(events.len(), 2);
    let error = &events[1].1;
    assert_eq!((&error["error"]["type"], &error["request_id"]), (&json!("api_error"), &json!("req_9")));
    assert!(encoder.failed());
}

#[test]
fn mixed_pieces_of_two_calls_fail_instead_of_being_mixed_up() {
    let mut encoder = stream::StreamEncoder::new(&decode(&simple()).unwrap());
    let mut out = BytesMut::new();
    let piece = |index, id: Option<&str>| Delta::ToolCall {
        choice: 0,
        index,
        id: id.map(str::to_owned),
        name: id.map(|_| "f".to_owned()),
        arguments: "{".to_owned(),
    };
    for delta in [piece(0, Some("a")), piece(1, Some("b")), piece(0, None)] {
        encoder.encode(delta, &mut out);
    }
    encoder.finish(&mut out);
    assert!(encoder.failed());
    let events = events(out);
    let (name, last) = events.last().unwrap();
    assert_eq!((name.as_str(), &last["error"]["code"]), ("error", &json!("upstream_bad_response")));
}

#[test]
fn a_signature_closes_the_reasoning_that_it_signs() {
    let reasoning = |text: &str| Delta::Reasoning { choice: 0, text: text.into() };
    let signature = |text: &str| Delta::Signature { choice: 0, text: text.into() };
    let mut folder = response::Folder::new(&decode(&simple()).unwrap());
    let mut encoder = stream::StreamEncoder::new(&decode(&simple()).unwrap());
    let mut out = BytesMut::new();
    for delta in [reasoning("a"), reasoning("b"), signature("s1"), reasoning("c"), signature("s2")] {
        encoder.encode(delta.clone(), &mut out);
        folder.push(delta).unwrap();
    }
    let message: Value = serde_json::from_slice(&Box::new(folder).finish().unwrap()).unwrap();
    let expected = json!([
        {"type": "thinking", "thinking": "ab", "signature": "s1"},
        {"type": "thinking", "thinking": "c", "signature": "s2"},
    ]);
    assert_eq!(message["content"], expected);
    let starts = events(out).into_iter().filter(|(name, _)| name == "content_block_start").count();
    assert_eq!(starts, 2);
}

#[test]
fn usage_is_told_without_what_the_cache_read_or_wrote() {
    let told = usage(&Usage {
        input: 10,
        output: 4,
        cached_input: Some(3),
        cache_write: Some(2),
        reasoning: Some(1),
        ..Usage::default()
    });
    assert_eq!((&told["input_tokens"], &told["cache_creation_input_tokens"]), (&json!(5), &json!(2)));
    assert_eq!(told["output_tokens_details"]["thinking_tokens"], 1);
    let unknown = usage(&Usage { input: 1, output: 1, ..Usage::default() });
    assert_eq!(
        (&unknown["cache_read_input_tokens"], unknown.get("output_tokens_details")),
        (&Value::Null, None)
    );
}

#[test]
fn deltas_fold_into_one_message() {
    let mut folder = response::Folder::new(&decode(&simple()).unwrap());
    answer().into_iter().for_each(|delta| folder.push(delta).unwrap());
    let message: Value = serde_json::from_slice(&Box::new(folder).finish().unwrap()).unwrap();
    let expected = json!([
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
    ]);
    assert_eq!(message["content"], expected);
    assert_eq!(message["stop_reason"], "tool_use");
    let empty = Box::new(response::Folder::new(&decode(&simple()).unwrap())).finish();
    assert_eq!(empty.unwrap_err().code(), Code::UpstreamBadResponse);
}

#[test]
fn a_refusal_has_its_own_stop_reason_whole_and_streamed() {
    let refusal = || {
        [
            Delta::Refusal { choice: 0, text: "I will not".into() },
            Delta::Finished { choice: 0, reason: FinishReason::Stop, stop: None },
        ]
    };
    let request = decode(&simple()).unwrap();
    let mut folder = response::Folder::new(&request);
    refusal().into_iter().for_each(|delta| folder.push(delta).unwrap());
    let message: Value = serde_json::from_slice(&Box::new(folder).finish().unwrap()).unwrap();
    assert_eq!(message["stop_reason"], "refusal");
    let (mut encoder, mut out) = (stream::StreamEncoder::new(&request), BytesMut::new());
    refusal().into_iter().for_each(|delta| encoder.encode(delta, &mut out));
    encoder.finish(&mut out);
    let reasons: Vec<_> = events(out).into_iter().filter(|(name, _)| name == "message_delta").collect();
    assert_eq!(reasons[0].1["delta"]["stop_reason"], "refusal");
}

#[test]
fn a_tool_never_runs_without_the_arguments_that_were_lost() {
    let folded = |arguments: &str| {
        let mut folder = response::Folder::new(&decode(&simple()).unwrap());
        let call = Delta::ToolCall {
            choice: 0,
            index: 0,
            id: Some("t1".into()),
            name: Some("f".into()),
            arguments: arguments.into(),
        };
        folder.push(call).unwrap();
        Box::new(folder).finish()
    };
    for broken in ["{not json", "[1]", "{\"a\":"] {
        assert_eq!(folded(broken).unwrap_err().code(), Code::UpstreamBadResponse, "{broken}");
    }
    assert!(folded("").is_ok(), "a call without arguments is a call with an empty object");
}

#[test]
fn media_that_openai_cannot_address_is_named_and_never_sent_as_something_else() {
    let source = |source: Value| json!({"type": "image", "source": source});
    let document = json!({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}});
    let image = source(json!({"type": "file", "file_id": "file_1"}));
    let kept = source(json!({"type": "url", "url": "https://example.com/a.png"}));
    let mut body = simple();
    body["messages"] = json!([{"role": "user", "content": [image, document, kept]}]);
    let request = decode(&body).unwrap();
    let Content::Chat(conversation) = request.body.content().unwrap() else { panic!("a chat") };
    let chats = Chats::OPENAI;
    let ask = Ask { task: Task::Chat, model: "m", stream: false, ask_usage: false, max_tokens: 9, chats };
    let encoded = crate::openai::chat::encode_body(conversation, &ask);
    let sent: Value = serde_json::from_slice(&encoded.body).unwrap();
    let expected = json!([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]);
    assert_eq!(sent["messages"][0]["content"], expected);
    assert_eq!(encoded.dropped, ["messages.document.url", "messages.image.file_id"]);
}

fn piece(index: u32, id: Option<&str>, arguments: &str) -> Delta {
    let (id, name) = (id.map(str::to_owned), id.map(|id| format!("{id}_tool")));
    Delta::ToolCall { choice: 0, index, id, name, arguments: arguments.to_owned() }
}

/// The events of a stream of these deltas.
fn streamed(deltas: impl IntoIterator<Item = Delta>) -> Vec<(String, Value)> {
    let mut encoder = stream::StreamEncoder::new(&decode(&simple()).unwrap());
    let mut out = BytesMut::new();
    deltas.into_iter().for_each(|delta| encoder.encode(delta, &mut out));
    encoder.finish(&mut out);
    events(out)
}

#[test]
fn mixed_pieces_of_parallel_calls_become_one_block_after_the_other() {
    let told = streamed([
        piece(0, Some("a"), "{\"x\":"),
        piece(1, Some("b"), ""),
        piece(1, None, "{\"y\":"),
        piece(2, Some("c"), "{}"),
        piece(0, None, "1}"),
        piece(1, None, "2}"),
        Delta::Finished { choice: 0, reason: FinishReason::ToolCalls, stop: None },
    ]);
    let (mut open, mut calls) = (None, Vec::new());
    for (name, data) in &told {
        match name.as_str() {
            "content_block_start" => {
                assert_eq!(open.replace(data["index"].as_u64()), None, "blocks never overlap");
                calls.push((data["content_block"]["id"].as_str().unwrap_or_default(), String::new()));
            }
            "content_block_delta" => {
                assert_eq!(open, Some(data["index"].as_u64()));
                calls.last_mut().unwrap().1.push_str(data["delta"]["partial_json"].as_str().unwrap());
            }
            "content_block_stop" => assert_eq!(open.take(), Some(data["index"].as_u64())),
            _ => {}
        }
    }
    let expected =
        [("a", "{\"x\":1}"), ("b", "{\"y\":2}"), ("c", "{}")].map(|(id, text)| (id, text.to_owned()));
    assert_eq!(calls, expected);
    assert_eq!(told.last().unwrap().0, "message_stop");
}

#[test]
fn a_call_that_follows_a_finished_one_does_not_wait() {
    let mut encoder = stream::StreamEncoder::new(&decode(&simple()).unwrap());
    let mut out = BytesMut::new();
    encoder.encode(piece(0, Some("a"), "{\"x\":\"}\"}"), &mut out);
    encoder.encode(piece(1, Some("b"), "{"), &mut out);
    let told = events(out);
    assert_eq!(told.last().unwrap().1["delta"]["partial_json"], "{");
    assert_eq!(told.iter().filter(|(name, _)| name == "content_block_start").count(), 2);
}

#[test]
fn more_mixed_pieces_than_may_wait_fail_the_stream_once() {
    let endless = (0..40).map(|_| piece(1, None, &"x".repeat(64 << 10)));
    let told = streamed([piece(0, Some("a"), "{"), piece(1, Some("b"), "{")].into_iter().chain(endless));
    let (name, data) = told.last().unwrap();
    assert_eq!((name.as_str(), &data["error"]["code"]), ("error", &json!("upstream_bad_response")));
    assert!(told.iter().filter(|(name, _)| name == "error").count() == 1);
    let late = streamed([piece(0, Some("a"), "{}"), piece(1, Some("b"), "{}"), piece(0, None, "{}")]);
    assert_eq!(late.last().unwrap().0, "error", "what a finished call goes on with");
}

#[test]
fn bytes_that_are_no_text_are_refused_where_nobody_reads_them_too() {
    let event = b"event: ping\ndata: {\"type\":\"ping\",\"x\":\"\xff\"}\n\n";
    let mut lane = raw_lane::RawLane::new();
    crate::Lane::push(&mut lane, Bytes::from_static(event)).unwrap();
    let Some(Delta::Failed(error)) = crate::Lane::next(&mut lane) else { panic!("not refused") };
    assert_eq!(error.code(), Code::UpstreamBadResponse);
    let whole = b"{\"type\":\"message\",\"content\":[],\"x\":\"\xff\"}";
    assert!(reader::read_whole(Bytes::from_static(whole)).is_err());
    assert!(reader::counted(Bytes::from_static(b"{\"input_tokens\":1,\"x\":\"\xff\"}"), true).is_err());
}

#[test]
fn the_region_that_is_asked_for_is_kept_here_too_and_goes_on_as_it_is() {
    let regions = |members: &str| {
        let body = format!(
            r#"{{"model":"m","max_tokens":5,"messages":[{{"role":"user","content":"hi"}}]{members}}}"#
        );
        let bytes = Bytes::from(body.clone());
        let decoded = request::decode(Task::Chat, bytes, &DecodeLimits::default()).map_err(|e| e.code())?;
        assert_eq!(decoded.body.bytes(), &body, "the vendor reads it too");
        let residency = decoded.penstock.and_then(|options| options.residency);
        Ok(residency.map(|all| all.iter().map(|one| one.to_string()).collect::<Vec<_>>()))
    };
    let named = |names: &[&str]| Ok(Some(names.iter().map(|name| (*name).to_owned()).collect()));
    assert_eq!(regions(""), Ok(None));
    assert_eq!(regions(r#","inference_geo":"global""#), Ok(None));
    assert_eq!(regions(r#","inference_geo":"us""#), named(&["us"]));
    let both = |geo: &str, allowed: &str| {
        regions(&format!(r#","inference_geo":"{geo}","penstock":{{"residency":{allowed}}}"#))
    };
    assert_eq!(both("eu", r#"["eu-west","us"]"#), named(&["eu-west"]));
    assert_eq!(both("eu-west", r#"["eu","us"]"#), named(&["eu-west"]));
    assert_eq!(both("eu", r#"["us"]"#), Err(Code::InvalidValue));
}
