use bytes::{BufMut, Bytes, BytesMut};
use penstock_domain::{Code, Content, Delta, Error, FinishReason, Task};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::frame::{FrameDecoder, MAX_FRAME};
use super::{FrameLane, encode, unfold};
use crate::vendor::{Ask, Chats, Lane};
use crate::{Encoded, anthropic, openai};

const CLAUDE: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";

fn header(out: &mut BytesMut, name: &str, value: &str) {
    out.put_u8(name.len() as u8);
    out.put_slice(name.as_bytes());
    out.put_u8(7);
    out.put_u16(value.len() as u16);
    out.put_slice(value.as_bytes());
}

/// A frame as the service writes it.
fn frame(exception: bool, kind: &str, payload: &Value) -> Bytes {
    let mut headers = BytesMut::new();
    header(&mut headers, if exception { ":exception-type" } else { ":event-type" }, kind);
    header(&mut headers, ":content-type", "application/json");
    header(&mut headers, ":message-type", if exception { "exception" } else { "event" });
    let payload = payload.to_string();
    let mut out = BytesMut::new();
    out.put_u32((16 + headers.len() + payload.len()) as u32);
    out.put_u32(headers.len() as u32);
    let prelude = crc32fast::hash(&out);
    out.put_u32(prelude);
    out.put_slice(&headers);
    out.put_slice(payload.as_bytes());
    let whole = crc32fast::hash(&out);
    out.put_u32(whole);
    out.freeze()
}

fn events(events: &[(&str, Value)]) -> Bytes {
    events.iter().flat_map(|(kind, payload)| frame(false, kind, payload)).collect()
}

fn recorded() -> Bytes {
    events(&[
        ("messageStart", json!({"role": "assistant"})),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm."}}}),
        ),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "sig"}}}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("contentBlockDelta", json!({"contentBlockIndex": 1, "delta": {"text": "Two cities: ü"}})),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 1, "delta": {"citation": {
            "title": "Atlas", "sourceContent": [{"text": "Paris"}],
            "location": {"documentPage": {"documentIndex": 0, "start": 3, "end": 4}}}}}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 1})),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "weather"}}}),
        ),
        ("contentBlockDelta", json!({"contentBlockIndex": 2, "delta": {"toolUse": {"input": "{\"city\":"}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 2, "delta": {"toolUse": {"input": "\"Paris\"}"}}})),
        ("contentBlockStop", json!({"contentBlockIndex": 2})),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t2", "name": "time"}}}),
        ),
        ("contentBlockDelta", json!({"contentBlockIndex": 3, "delta": {"toolUse": {"input": "{}"}}})),
        ("contentBlockStop", json!({"contentBlockIndex": 3})),
        ("messageStop", json!({"stopReason": "tool_use"})),
        (
            "metadata",
            json!({"usage": {"inputTokens": 10, "outputTokens": 7, "totalTokens": 17,
            "cacheReadInputTokens": 90, "cacheWriteInputTokens": 5,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 5}]}, "metrics": {"latencyMs": 12}}),
        ),
    ])
}

/// Everything that a lane says about a body that comes in these chunks.
fn read<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Delta> {
    let mut lane = FrameLane::default();
    let mut deltas = Vec::new();
    for chunk in chunks {
        if let Err(error) = lane.push(Bytes::copy_from_slice(chunk)) {
            deltas.extend(std::iter::from_fn(|| lane.next()));
            deltas.push(Delta::Failed(error));
            return deltas;
        }
        deltas.extend(std::iter::from_fn(|| lane.next()));
    }
    deltas.extend(std::iter::from_fn(|| lane.finish()));
    deltas
}

fn failure(deltas: &[Delta]) -> Option<&Error> {
    deltas.iter().find_map(|delta| match delta {
        Delta::Failed(error) => Some(error),
        _ => None,
    })
}

fn asked(dialect: &str, body: &Value) -> Content {
    let bytes = body.to_string();
    match dialect {
        "openai" => openai::request::decode_content(bytes.as_bytes(), Task::Chat),
        _ => anthropic::request::decode_content(bytes.as_bytes(), Task::Chat),
    }
    .unwrap()
}

fn written(task: Task, model: &str, content: &Content) -> Result<(Value, Vec<String>), Error> {
    let ask = Ask { task, model, stream: false, ask_usage: false, max_tokens: 4096, chats: Chats::OPENAI };
    let Encoded { body, dropped } = encode(content.chat().unwrap(), &ask)?;
    Ok((serde_json::from_slice(&body).unwrap(), dropped))
}

/// The body and what was dropped, for review.
fn shown(model: &str, content: &Content) -> String {
    let (body, dropped) = written(Task::Chat, model, content).unwrap();
    format!("{body:#}\ndropped: {dropped:?}")
}

#[test]
fn a_stream_is_read_into_words_of_every_dialect() {
    insta::assert_debug_snapshot!(read([&*recorded()]));
}

#[test]
fn a_stream_cut_at_any_byte_is_never_complete() {
    let body = recorded();
    let last = events(&[("metadata", json!({}))]).len();
    assert!(last > 0);
    let metadata = body.len()
        - frame(
            false,
            "metadata",
            &json!({"usage": {"inputTokens": 10, "outputTokens": 7,
        "totalTokens": 17, "cacheReadInputTokens": 90, "cacheWriteInputTokens": 5,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 5}]}, "metrics": {"latencyMs": 12}}),
        )
        .len();
    for end in 0..body.len() {
        let deltas = read([&body[..end]]);
        // Between the end of the answer and its usage a connection may close: nothing of the answer is missing.
        let complete = end == metadata;
        assert_eq!(failure(&deltas).is_none(), complete, "cut at {end} of {}", body.len());
        if let Some(error) = failure(&deltas) {
            assert_eq!(error.code(), Code::UpstreamStreamCut, "cut at {end}");
        }
    }
}

#[test]
fn a_flipped_bit_is_noticed_before_anything_of_its_frame_is_believed() {
    let body = recorded();
    let whole = format!("{:?}", read([&*body]));
    for at in 0..body.len() {
        let mut wrong = body.to_vec();
        wrong[at] ^= 1;
        let deltas = read([&*wrong]);
        assert!(failure(&deltas).is_some(), "byte {at} was changed and nobody noticed");
        let said = format!("{:?}", &deltas[..deltas.len() - 1]);
        assert!(whole.starts_with(said.trim_end_matches(']')), "byte {at}");
    }
}

#[test]
fn an_exception_ends_the_stream_with_its_meaning() {
    for (kind, code) in [
        ("throttlingException", Code::UpstreamRateLimited),
        ("serviceUnavailableException", Code::UpstreamError),
        ("modelStreamErrorException", Code::UpstreamError),
        ("validationException", Code::UpstreamRejected),
    ] {
        let body: Bytes = [
            frame(false, "messageStart", &json!({"role": "assistant"})),
            frame(true, kind, &json!({"message": "no"})),
        ]
        .concat()
        .into();
        assert_eq!(failure(&read([&*body])).unwrap().code(), code, "{kind}");
    }
}

#[test]
fn a_frame_above_the_bound_is_refused_before_it_is_kept() {
    let mut prelude = BytesMut::new();
    prelude.put_u32(MAX_FRAME as u32 + 1);
    prelude.put_u32(0);
    let checksum = crc32fast::hash(&prelude);
    prelude.put_u32(checksum);
    let mut decoder = FrameDecoder::default();
    decoder.push(&prelude);
    assert!(decoder.next().is_err());
}

#[test]
fn a_whole_answer_and_its_stream_say_the_same() {
    let whole = json!({
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
            {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
            {"citationsContent": {"content": [{"text": "Two cities."}], "citations": [
                {"title": "Atlas", "location": {"web": {"url": "https://example.com/atlas"}}}]}},
            {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Paris"}}},
        ]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 10, "outputTokens": 7, "totalTokens": 17},
        "metrics": {"latencyMs": 12},
    });
    insta::assert_debug_snapshot!(unfold(Task::Chat, whole.to_string().as_bytes()).unwrap());
}

#[test]
fn reasons_to_stop_keep_their_meaning() {
    for (reason, finish) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("tool_use", FinishReason::ToolCalls),
        ("guardrail_intervened", FinishReason::ContentFilter),
        ("content_filtered", FinishReason::ContentFilter),
    ] {
        assert_eq!(super::finish(reason), finish, "{reason}");
    }
}

#[test]
fn an_openai_conversation_becomes_a_converse_body() {
    let content = asked(
        "openai",
        &json!({"model": "m", "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0K"}},
                {"type": "file", "file": {"filename": "report_1.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
            ]},
            {"role": "assistant", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Paris\"}"}},
                {"id": "c2", "type": "function", "function": {"name": "time", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            {"role": "tool", "tool_call_id": "c2", "content": "noon"},
        ], "tools": [{"type": "function", "function": {"name": "weather", "description": "tells it",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}, "strict": true}}],
        "tool_choice": "required", "max_tokens": 100, "temperature": 1.5, "top_p": 0.9, "stop": ["END"], "seed": 7,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}}),
    );
    insta::assert_snapshot!(shown("amazon.nova-pro-v1:0", &content));
}

#[test]
fn an_anthropic_conversation_becomes_a_converse_body_with_its_cache_points_and_signatures() {
    let content = asked(
        "anthropic",
        &json!({"model": "m", "max_tokens": 4000, "top_k": 5,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "tools": [{"name": "weather", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
                {"type": "redacted_thinking", "data": "c2VjcmV0"},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Paris"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [
                {"type": "text", "text": "sunny"}]}]},
        ]}),
    );
    insta::assert_snapshot!(shown(CLAUDE, &content));
}

#[test]
fn tools_that_must_not_be_called_stay_away_unless_earlier_turns_speak_of_them() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let plain = json!([{"role": "user", "content": "hi"}]);
    let content =
        asked("openai", &json!({"model": "m", "messages": plain, "tools": tools, "tool_choice": "none"}));
    let (body, dropped) = written(Task::Chat, CLAUDE, &content).unwrap();
    assert_eq!((body.get("toolConfig"), dropped.len()), (None, 0));
    let called = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "x"}]);
    let content =
        asked("openai", &json!({"model": "m", "messages": called, "tools": tools, "tool_choice": "none"}));
    let (body, dropped) = written(Task::Chat, CLAUDE, &content).unwrap();
    assert!(body.get("toolConfig").is_some());
    assert_eq!(dropped, ["tool_choice"]);
}

#[test]
fn what_converse_cannot_carry_is_refused_and_never_left_out() {
    let cases = [
        json!({"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}),
        json!({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}}),
        json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
    ];
    for part in cases {
        let content =
            asked("openai", &json!({"model": "m", "messages": [{"role": "user", "content": [part]}]}));
        assert_eq!(written(Task::Chat, CLAUDE, &content).unwrap_err().code(), Code::Unsupported, "{part}");
    }
    let two =
        asked("openai", &json!({"model": "m", "n": 2, "messages": [{"role": "user", "content": "hi"}]}));
    assert_eq!(written(Task::Chat, CLAUDE, &two).unwrap_err().param(), Some("n"));
}

#[test]
fn counting_asks_with_what_has_tokens_and_reads_the_number() {
    let content = asked(
        "openai",
        &json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
    );
    let (body, _) = written(Task::CountTokens, CLAUDE, &content).unwrap();
    assert_eq!(
        body,
        json!({"input": {"converse": {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}}})
    );
    let counted = unfold(Task::CountTokens, br#"{"inputTokens": 12}"#).unwrap();
    assert!(matches!(counted[..], [Delta::Counted { input: 12, estimated: false }]), "{counted:?}");
}

#[test]
fn a_200_that_is_no_answer_is_an_error() {
    for body in ["", "<html>", "{}", r#"{"message": "no"}"#, r#"{"output": {}}"#] {
        assert_eq!(
            unfold(Task::Chat, body.as_bytes()).unwrap_err().code(),
            Code::UpstreamBadResponse,
            "{body}"
        );
    }
}

proptest! {
    #[test]
    fn any_chunking_says_the_same(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let body = recorded();
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(body.len())).collect();
        places.extend([0, body.len()]);
        places.sort_unstable();
        let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
        prop_assert_eq!(format!("{:?}", read(chunks)), format!("{:?}", read([&*body])));
    }

    #[test]
    fn no_bytes_break_the_reading(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let deltas = read([&*bytes]);
        prop_assert!(failure(&deltas).is_some());
        let _ = unfold(Task::Chat, &bytes);
    }
}
