use bytes::Bytes;
use penstock_domain::{Origin, RequestId, Task};

use super::*;
use crate::{DecodeLimits, openai};

fn spliced(body: &str, model: &str, ask_usage: bool) -> String {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let decoded = openai::request::decode(Task::Chat, bytes, &DecodeLimits::default()).unwrap();
    let request = decoded.into_request(RequestId::new("req_1"), Origin::Http, None);
    let out = upstream_body(&request, model, ask_usage);
    serde_json::from_slice::<&serde_json::value::RawValue>(&out).expect("what is spliced is JSON");
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn exchanges_the_model_and_nothing_else() {
    let body =
        "{ \"x\":1e400 ,\n\t\"model\" : \"a\\u0062\" , \"messages\":[ 1 ],\"seed\":  1.50, \"zażółć\": null}";
    assert_eq!(spliced(body, "new \"m\"", true), body.replace("\"a\\u0062\"", "\"new \\\"m\\\"\""));
}

#[test]
fn an_unchanged_body_is_the_same_memory() {
    let bytes = Bytes::from_static(br#"{"model":"a","messages":[1]}"#);
    let decoded = openai::request::decode(Task::Chat, bytes.clone(), &DecodeLimits::default()).unwrap();
    let request = decoded.into_request(RequestId::new("req_1"), Origin::Http, None);
    assert_eq!(upstream_body(&request, "a", true).as_ptr(), bytes.as_ptr());
}

#[test]
fn removes_our_member_wherever_it_stands() {
    for (body, expected) in [
        (r#"{"penstock":{"tags":{}},"model":"a","messages":[1]}"#, r#"{"model":"a","messages":[1]}"#),
        (r#"{"model":"a", "penstock" : {} ,"messages":[1]}"#, r#"{"model":"a" ,"messages":[1]}"#),
        (r#"{"model":"a","messages":[1],"penstock":null}"#, r#"{"model":"a","messages":[1]}"#),
        (
            r#"{"model":"a","messages":[1],"\u0070enstock":{"timeout_ms":5} }"#,
            r#"{"model":"a","messages":[1] }"#,
        ),
        (
            r#"{"model":"a","messages":[{"penstock":"stays"}],"penstock":{}}"#,
            r#"{"model":"a","messages":[{"penstock":"stays"}]}"#,
        ),
    ] {
        assert_eq!(spliced(body, "a", false), expected);
    }
}

#[test]
fn asks_for_usage_when_streaming_and_keeps_other_options() {
    let with = |options: &str| format!(r#"{{"model":"a","stream":true{options},"messages":[1]}}"#);
    let inserted = r#"{"model":"a","stream_options":{"include_usage":true},"stream":true,"messages":[1]}"#;
    assert_eq!(spliced(&with(""), "a", true), inserted);
    assert_eq!(spliced(&with(""), "a", false), with(""));
    for (sent, expected) in [
        ("{}", r#"{"include_usage":true}"#),
        ("null", r#"{"include_usage":true}"#),
        (r#"{"include_usage": false, "x":[]}"#, r#"{"include_usage": true, "x":[]}"#),
        (r#"{"include_usage":null}"#, r#"{"include_usage":true}"#),
        (r#"{ "x": 1 }"#, r#"{"include_usage":true, "x": 1 }"#),
        (r#"{"include_usage":true,"x":1}"#, r#"{"include_usage":true,"x":1}"#),
    ] {
        let option = |o: &str| with(&format!(r#","stream_options":{o}"#));
        assert_eq!(spliced(&option(sent), "a", true), option(expected));
    }
    let plain = r#"{"model":"a","messages":[1]}"#;
    assert_eq!(spliced(plain, "a", true), plain);
}

#[test]
fn all_edits_at_once_do_not_disturb_each_other() {
    let body = r#"{"stream":true,"model":"a","penstock":{},"messages":[1]}"#;
    let expected = r#"{"stream":true,"model":"b","stream_options":{"include_usage":true},"messages":[1]}"#;
    assert_eq!(spliced(body, "b", true), expected);
}

fn bounded(dialect: Dialect, chats: Chats, body: &str) -> String {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let asker = crate::asker(dialect).unwrap();
    let decoded = asker.decode(Task::Chat, bytes, &DecodeLimits::default()).unwrap();
    let mut request = decoded.into_request(RequestId::new("req_1"), Origin::Http, None);
    request.body = request.body.bounded(40);
    let out = upstream_body_for(chats, &request, "a", false);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn a_bound_takes_the_place_of_every_other_one_and_nothing_else_moves() {
    let chat = |body| bounded(Dialect::OpenAi, Chats::OPENAI, body);
    assert_eq!(
        chat(r#"{"model":"a", "max_tokens" : 500 ,"messages":[1],"x":1.50}"#),
        r#"{"model":"a", "max_tokens" : 40 ,"messages":[1],"x":1.50}"#
    );
    assert_eq!(
        chat(r#"{"max_tokens":50,"model":"a","max_completion_tokens":50,"messages":[1]}"#),
        r#"{"max_tokens":40,"model":"a","max_completion_tokens":40,"messages":[1]}"#
    );
    let messages = r#"{"model":"a","max_tokens":500,"messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(bounded(Dialect::Anthropic, Chats::OPENAI, messages), messages.replace("500", "40"));
}

#[test]
fn a_bound_that_nobody_asked_for_takes_the_name_that_the_vendor_knows() {
    let bare = r#"{"model":"a","messages":[1]}"#;
    let with = |name: &str| format!(r#"{{"model":"a","{name}":40,"messages":[1]}}"#);
    assert_eq!(bounded(Dialect::OpenAi, Chats::OPENAI, bare), with("max_completion_tokens"));
    assert_eq!(bounded(Dialect::OpenAi, Chats::COMPATIBLE, bare), with("max_tokens"));
    let responses = bounded(Dialect::Responses, Chats::OPENAI, r#"{"model":"a","input":"hi"}"#);
    let told: serde_json::Value = serde_json::from_str(&responses).unwrap();
    assert_eq!(told["max_output_tokens"], 40, "{responses}");
}
