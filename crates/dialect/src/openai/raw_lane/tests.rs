use bytes::Bytes;
use penstock_domain::{Code, Delta, FinishReason, Usage};

use super::*;
use crate::sse;
use crate::vendor::Lane as _;

const ROLE: &str =
    r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
const TEXT: &str = r#"{"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#;
const STOP: &str = r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str =
    r#"{"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

fn run(lane: &mut RawLane, chunks: &[&str]) -> (String, Vec<Delta>) {
    let mut deltas = Vec::new();
    for chunk in chunks {
        lane.push(Bytes::copy_from_slice(chunk.as_bytes())).unwrap();
        while let Some(delta) = lane.next() {
            deltas.push(delta);
        }
    }
    while let Some(delta) = lane.finish() {
        deltas.push(delta);
    }
    let bytes =
        deltas.iter().filter_map(|d| if let Delta::Raw(raw) = d { Some(&raw.bytes[..]) } else { None });
    (String::from_utf8(bytes.collect::<Vec<_>>().concat()).unwrap(), deltas)
}

fn chat(chunks: &[&str]) -> (String, Vec<Delta>) {
    run(&mut RawLane::new(Task::Chat, false), chunks)
}

fn failure(deltas: &[Delta]) -> Option<Code> {
    match deltas.last() {
        Some(Delta::Failed(error)) => Some(error.code()),
        _ => None,
    }
}

#[test]
fn events_of_one_chunk_leave_as_one_slice_of_it_without_the_end_marker() {
    let chunk = Bytes::from(format!("{}{}{}data: [DONE]\n\n", event(ROLE), event(TEXT), event(STOP)));
    let mut lane = RawLane::new(Task::Chat, true);
    lane.push(chunk.clone()).unwrap();
    let Some(Delta::Raw(raw)) = lane.next() else { panic!("no raw delta") };
    assert_eq!(raw.bytes.as_ptr(), chunk.as_ptr());
    assert_eq!(raw.bytes.len(), chunk.len() - sse::DONE.len());
    let expected =
        Notes { content: true, events: 3, finish: Some(FinishReason::Stop), text: 2, ..Notes::default() };
    assert_eq!(raw.notes, expected);
    assert!(lane.next().is_none() && lane.finish().is_none());
}

#[test]
fn only_text_reasoning_calls_refusals_and_ends_are_content() {
    let content = |delta: &str| {
        let data = event(&format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#));
        let (_, deltas) = chat(&[&data]);
        deltas[0].is_content()
    };
    for delta in [
        r#"{"role":"assistant"}"#,
        r#"{"role":"assistant","content":"","refusal":null,"tool_calls":[]}"#,
        r#"{"role":"assistant","content":null,"reasoning_content":""}"#,
        "{}",
        "null",
    ] {
        assert!(!content(delta), "{delta}");
    }
    for delta in [
        r#"{"content":"a"}"#,
        r#"{"content":" "}"#,
        r#"{"reasoning_content":"a"}"#,
        r#"{"reasoning":"a"}"#,
        r#"{"refusal":"no"}"#,
        r#"{"tool_calls":[{"index":0}]}"#,
        r#"{"function_call":{"name":"f"}}"#,
    ] {
        assert!(content(delta), "{delta}");
    }
    assert!(chat(&[&event(STOP)]).1[0].is_content());
    let text = event(r#"{"choices":[{"index":0,"text":"a","finish_reason":null}]}"#);
    assert!(run(&mut RawLane::new(Task::Completion, false), &[&text]).1[0].is_content());
}

#[test]
fn usage_is_stripped_from_an_asker_who_did_not_ask() {
    let nulls = event(&TEXT.replace("]}", r#"],"usage":null}"#));
    let first = event(&TEXT.replace("{\"id\"", "{\"usage\" : null, \"id\""));
    let both = event(&STOP.replace("]}", r#"], "usage": {"prompt_tokens":1,"completion_tokens":1}}"#));
    let mut lane = RawLane::new(Task::Chat, true);
    let (text, deltas) = run(&mut lane, &[&format!("{nulls}{first}{both}{}data: [DONE]\n\n", event(USAGE))]);
    assert_eq!(text, [event(TEXT), event(TEXT).replace("{\"id\"", "{ \"id\""), event(STOP)].concat());
    let Delta::Raw(raw) = &deltas[0] else { panic!("raw first") };
    assert_eq!(raw.notes.usage.map(|u| u.total()), Some(2));
    let expected = Usage { input: 3, output: 2, ..Usage::default() };
    assert!(matches!(&deltas[1..], [Delta::Usage(usage)] if *usage == expected), "{deltas:?}");
}

#[test]
fn usage_stays_for_an_asker_who_asked() {
    let all = format!("{}{}{}data: [DONE]\n\n", event(TEXT), event(STOP), event(USAGE));
    let (text, deltas) = chat(&[&all]);
    assert_eq!(text, all.replace("data: [DONE]\n\n", ""));
    assert!(matches!(&deltas[..], [Delta::Raw(raw)] if raw.notes.usage.is_some_and(|u| u.input == 3)));
}

#[test]
fn malformed_usage_is_nobodys_usage_and_no_failure() {
    for bad in ["{}", "5", r#"{"prompt_tokens":-1,"completion_tokens":1}"#, r#"{"prompt_tokens":"1"}"#] {
        let data = event(&format!(r#"{{"choices":[],"usage":{bad}}}"#));
        let (_, deltas) = chat(&[&event(STOP), &data, "data: [DONE]\n\n"]);
        assert_eq!(failure(&deltas), None, "{bad}");
        assert!(deltas.iter().all(|d| !matches!(d, Delta::Raw(raw) if raw.notes.usage.is_some())));
    }
}

#[test]
fn comments_names_and_foreign_line_ends_are_not_forwarded() {
    let input = format!(": hello\r\n\r\nevent: x\r\ndata:{TEXT}\r\nid: 5\r\n\r\n: mid\n\ndata: {STOP}\n\n");
    let (text, deltas) = chat(&[&input]);
    assert_eq!(text, format!("{}{}", event(TEXT), event(STOP)));
    assert_eq!(deltas.len(), 1, "{deltas:?}");
}

#[test]
fn a_malformed_event_fails_at_its_place_and_is_not_forwarded() {
    for bad in [
        "{\"choices\":[",
        "null",
        "[]",
        "5",
        "hello",
        "{\"choices\":5}",
        "{\"choices\":[{\"delta\":5}]}",
        "{} {}",
    ] {
        let (text, deltas) =
            chat(&[&format!("{}data: {bad}\n\n{}data: [DONE]\n\n", event(TEXT), event(STOP))]);
        assert_eq!(text, event(TEXT), "{bad}");
        assert_eq!(failure(&deltas), Some(Code::UpstreamBadResponse), "{bad}");
    }
}

#[test]
fn an_unknown_kind_of_event_is_skipped() {
    let (text, deltas) = chat(&[&format!("event: ping\ndata: now\n\n{}", event(STOP))]);
    assert_eq!((text, failure(&deltas)), (event(STOP), None));
}

#[test]
fn an_error_inside_a_200_is_mapped() {
    let error = r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#;
    let (text, deltas) = chat(&[&event(error)]);
    assert_eq!((text.as_str(), failure(&deltas)), ("", Some(Code::UpstreamRateLimited)));
    let in_chunk =
        r#"{"error":{"message":"m","code":502},"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}"#;
    assert_eq!(failure(&chat(&[&event(TEXT), &event(in_chunk)]).1), Some(Code::UpstreamError));
    assert_eq!(failure(&chat(&["event: error\ndata: {\"message\":\"x\"}\n\n"]).1), Some(Code::UpstreamError));
}

#[test]
fn only_done_or_the_end_of_every_choice_completes_a_stream() {
    assert_eq!(failure(&chat(&[]).1), Some(Code::UpstreamStreamCut));
    assert_eq!(failure(&chat(&[": only\n\n: comments\n\n"]).1), Some(Code::UpstreamStreamCut));
    assert_eq!(failure(&chat(&["data: [DONE]\n\n"]).1), Some(Code::UpstreamBadResponse));
    assert_eq!(failure(&chat(&[&event(TEXT)]).1), Some(Code::UpstreamStreamCut));
    assert_eq!(failure(&chat(&[&event(TEXT), "data: [DONE]\n\n"]).1), None);
    assert_eq!(failure(&chat(&[&event(STOP)]).1), None);
    let second = event(&TEXT.replace("\"index\":0", "\"index\":1"));
    assert_eq!(failure(&chat(&[&second, &event(STOP)]).1), Some(Code::UpstreamStreamCut));
    let mut two = RawLane::new(Task::Chat, false).expecting(2);
    assert_eq!(failure(&run(&mut two, &[&event(STOP)]).1), Some(Code::UpstreamStreamCut));
}

#[test]
fn a_last_event_without_its_blank_line_counts_only_when_it_is_whole() {
    let (text, deltas) = chat(&[&event(TEXT), &format!("data: {STOP}")]);
    assert_eq!((text, failure(&deltas)), (format!("{}{}", event(TEXT), event(STOP)), None));
    assert_eq!(failure(&chat(&[&event(TEXT), "data: [DONE]"]).1), None);
    let (text, deltas) = chat(&[&event(TEXT), &format!("data: {}", &STOP[..STOP.len() - 1])]);
    assert_eq!((text, failure(&deltas)), (event(TEXT), Some(Code::UpstreamStreamCut)));
    assert_eq!(failure(&chat(&[&event(TEXT), "data: [DONE"]).1), Some(Code::UpstreamStreamCut));
}

#[test]
fn an_event_above_the_bound_is_an_error() {
    let mut lane = RawLane::new(Task::Chat, false);
    let huge = Bytes::from(vec![b'x'; sse::MAX_EVENT + 1]);
    assert_eq!(lane.push(huge).unwrap_err().code(), Code::UpstreamBadResponse);
    assert!(lane.finish().is_none(), "the error was already told");
}
