use penstock_domain::{Origin, RequestId};
use serde_json::{Value, json};

use super::*;
use crate::asker::Fold as _;
use crate::{DecodeLimits, openai::request::decode};

fn fold(task: Task, more: &str, deltas: Vec<Delta>) -> Result<Value, Error> {
    let body = format!(r#"{{"model":"small","prompt":"p","input":"i","messages":[1]{more}}}"#);
    let decoded = decode(task, Bytes::from(body), &DecodeLimits::default()).unwrap();
    let mut folder = Folder::new(&decoded.into_request(RequestId::new("req_5"), Origin::Http, None), 7);
    deltas.into_iter().try_for_each(|delta| folder.push(delta))?;
    Box::new(folder).finish().map(|body| serde_json::from_slice(&body).unwrap())
}

fn text(choice: u32, text: &str) -> Delta {
    Delta::Text { choice, text: text.to_owned(), logprobs: Vec::new() }
}

fn call(index: u32, id: Option<&str>, arguments: &str) -> Delta {
    let (id, name) = (id.map(str::to_owned), id.map(|_| "f".to_owned()));
    Delta::ToolCall { choice: 0, index, id, name, arguments: arguments.to_owned() }
}

#[test]
fn several_choices_calls_and_usage_fold_into_one_completion() {
    let deltas = vec![
        Delta::Started(Started { id: "x".into(), model: "gpt".into() }),
        text(1, "b"),
        call(0, Some("c1"), "{"),
        Delta::Reasoning { choice: 1, text: "hm".into() },
        call(1, Some("c2"), "{}"),
        call(0, None, "}"),
        Delta::Finished { choice: 0, reason: FinishReason::ToolCalls, stop: None },
        Delta::Finished { choice: 1, reason: FinishReason::Length, stop: None },
        Delta::Usage(Usage { input: 1, output: 2, reasoning: Some(1), ..Usage::default() }),
    ];
    let function =
        |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let expected = json!({
        "id": "x", "object": "chat.completion", "created": 7, "model": "gpt",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": null, "refusal": null,
                "tool_calls": [function("c1"), function("c2")]}, "logprobs": null, "finish_reason": "tool_calls"},
            {"index": 1, "message": {"role": "assistant", "content": "b", "refusal": null, "reasoning_content": "hm"},
                "logprobs": null, "finish_reason": "length"},
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3,
            "completion_tokens_details": {"reasoning_tokens": 1}},
    });
    assert_eq!(fold(Task::Chat, "", deltas).unwrap(), expected);
}

#[test]
fn vectors_fold_into_a_list_of_numbers_or_base64() {
    let deltas =
        || vec![Delta::Vectors(vec![vec![0.5, -1.0]]), Delta::Usage(Usage { input: 3, ..Usage::default() })];
    let list = fold(Task::Embedding, "", deltas()).unwrap();
    assert_eq!(list["data"], json!([{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}]));
    assert_eq!(list["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let base64 = fold(Task::Embedding, r#","encoding_format":"base64""#, deltas()).unwrap();
    assert_eq!(base64["data"][0]["embedding"], "AAAAPwAAgL8=");
}

#[test]
fn log_probabilities_of_impossible_tokens_stay_json() {
    let token = TokenLogprob {
        token: "a".into(),
        bytes: vec![97],
        logprob: f32::NEG_INFINITY,
        top: vec![("b".into(), vec![98], -0.5)],
    };
    let delta = || Delta::Text { choice: 0, text: "a".into(), logprobs: vec![token.clone(), token.clone()] };
    let chat = fold(Task::Chat, "", vec![delta()]).unwrap();
    assert_eq!(chat["choices"][0]["logprobs"]["content"][0]["logprob"], -9999.0);
    let completion = fold(Task::Completion, "", vec![delta()]).unwrap();
    assert_eq!(completion["choices"][0]["logprobs"]["text_offset"], json!([0, 1]));
}

#[test]
fn a_failure_or_nothing_is_no_answer() {
    let failed = Delta::Failed(Error::new(Code::UpstreamStreamCut, "cut"));
    assert_eq!(fold(Task::Chat, "", vec![text(0, "a"), failed]).unwrap_err().code(), Code::UpstreamStreamCut);
    for task in [Task::Chat, Task::Completion, Task::Embedding] {
        assert_eq!(fold(task, "", vec![]).unwrap_err().code(), Code::UpstreamBadResponse);
    }
}

#[test]
fn an_answer_without_end_is_refused_before_it_fills_the_memory() {
    let deltas = (0..5000).map(|_| text(0, &"x".repeat(16 << 10))).collect();
    assert_eq!(fold(Task::Chat, "", deltas).unwrap_err().code(), Code::UpstreamBadResponse);
}

#[test]
fn a_vendors_whole_body_passes_untouched_with_its_notes() {
    let body = Bytes::from_static(
        br#"{ "x": 1.50, "choices":[{"message":{"content":"a"},"finish_reason":"length"}],
            "usage":{"prompt_tokens":2,"completion_tokens":1}}"#,
    );
    let Delta::Whole(whole) = read_whole(Task::Chat, body.clone()).unwrap() else { panic!("not whole") };
    assert_eq!(whole.bytes.as_ptr(), body.as_ptr());
    assert_eq!(whole.notes.finish, Some(FinishReason::Length));
    assert_eq!(whole.notes.usage.map(|u| u.total()), Some(3));
}

#[test]
fn a_200_that_is_no_answer_is_an_error() {
    for (task, body, code) in [
        (Task::Chat, "", Code::UpstreamBadResponse),
        (Task::Chat, "<html>502</html>", Code::UpstreamBadResponse),
        (Task::Chat, "null", Code::UpstreamBadResponse),
        (Task::Chat, "[]", Code::UpstreamBadResponse),
        (Task::Chat, "{}", Code::UpstreamBadResponse),
        (Task::Chat, r#"{"choices":[]}"#, Code::UpstreamBadResponse),
        (Task::Chat, r#"{"choices":[{}]}"#, Code::UpstreamBadResponse),
        (Task::Chat, r#"{"choices":[{"message":null}]}"#, Code::UpstreamBadResponse),
        (Task::Chat, r#"{"choices":[{"message":{"content":"a"}}]"#, Code::UpstreamBadResponse),
        (Task::Chat, "\u{1f}\u{8b}\u{8}", Code::UpstreamBadResponse),
        (Task::Chat, r#"{"error":{"message":"m","type":"server_error"}}"#, Code::UpstreamError),
        (Task::Chat, r#"{"error":{"message":"m","code":401}}"#, Code::UpstreamAuth),
        (Task::Completion, r#"{"choices":[{"text":null}]}"#, Code::UpstreamBadResponse),
        (Task::Embedding, r#"{"data":[]}"#, Code::UpstreamBadResponse),
        (Task::Embedding, r#"{"data":{}}"#, Code::UpstreamBadResponse),
    ] {
        let error = read_whole(task, Bytes::from(body)).unwrap_err();
        assert_eq!(error.code(), code, "{body}");
    }
    assert!(
        read_whole(Task::Chat, Bytes::from_static(br#"{"error":null,"choices":[{"message":{}}]}"#)).is_ok()
    );
    assert!(read_whole(Task::Embedding, Bytes::from_static(br#"{"data":[{"embedding":[1]}]}"#)).is_ok());
}

#[test]
fn a_folded_answer_unfolds_into_what_it_was_made_of() {
    let deltas = || {
        vec![
            Delta::Started(Started { id: "x".into(), model: "m".into() }),
            text(0, "a"),
            call(0, Some("c"), "{}"),
        ]
    };
    let body = fold(Task::Chat, "", deltas()).unwrap().to_string();
    let unfolded = unfold(Task::Chat, body.as_bytes()).unwrap();
    let shown = |deltas: &[Delta]| deltas.iter().map(|d| format!("{d:?}")).collect::<Vec<_>>();
    let finished = Delta::Finished { choice: 0, reason: FinishReason::Stop, stop: None };
    assert_eq!(shown(&unfolded), shown(&[deltas(), vec![finished]].concat()));
}
