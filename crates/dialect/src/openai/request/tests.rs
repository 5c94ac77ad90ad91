use penstock_domain::{Content, Verbosity};

use super::*;
use crate::{Ask, Chats};

fn limits() -> DecodeLimits {
    DecodeLimits::default()
}

fn fault(task: Task, body: &str) -> (Code, String) {
    match decode(task, Bytes::copy_from_slice(body.as_bytes()), &limits()) {
        Ok(_) => panic!("accepted: {body}"),
        Err(error) => {
            assert!(!error.say().ends_with('.') && !error.say().contains('\n'), "{}", error.say());
            (error.code(), error.param().unwrap_or_default().to_owned())
        }
    }
}

fn accepts(task: Task, body: &str) -> Decoded {
    decode(task, Bytes::copy_from_slice(body.as_bytes()), &limits()).unwrap()
}

/// A good chat body with more members.
fn chat(more: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"a"}}]{more}}}"#)
}

#[test]
fn what_is_not_a_json_object_is_refused() {
    for (body, code) in [
        ("", Code::InvalidJson),
        ("  \n", Code::InvalidJson),
        ("{", Code::InvalidJson),
        ("nope", Code::InvalidJson),
        (r#"{"model":"m",}"#, Code::InvalidJson),
        (r#"{"model":"m"} {}"#, Code::InvalidJson),
        ("{\"model\":\"m\"}\0", Code::InvalidJson),
        ("{\"model\":\"a\0b\"}", Code::InvalidJson),
        ("\u{feff}{}", Code::InvalidJson),
        (r#"{"model":"m","x":"\ud800"}"#, Code::InvalidJson),
        (r#"{"model":'m'}"#, Code::InvalidJson),
        (r#"{"model":"m","x":NaN}"#, Code::InvalidJson),
        (r#"{"model":"m","x":01}"#, Code::InvalidJson),
        ("[]", Code::InvalidRequest),
        ("null", Code::InvalidRequest),
        ("\"text\"", Code::InvalidRequest),
        ("5", Code::InvalidRequest),
    ] {
        assert_eq!(fault(Task::Chat, body).0, code, "{body:?}");
    }
    let bytes = Bytes::from_static(b"{\"model\":\"\xFF\"}");
    assert_eq!(decode(Task::Chat, bytes, &limits()).unwrap_err().code(), Code::InvalidJson);
}

#[test]
fn a_depth_bomb_is_refused_before_any_parser_sees_it() {
    let bomb = chat(&format!(r#","x":{}{}"#, "[".repeat(10_000), "]".repeat(10_000)));
    assert_eq!(fault(Task::Chat, &bomb).0, Code::JsonTooDeep);
    let bytes = Bytes::from(bomb);
    assert_eq!(decode_content(&bytes, Task::Chat).unwrap_err().code(), Code::JsonTooDeep);
    accepts(Task::Chat, &chat(&format!(r#","x":{}{}"#, "[".repeat(127), "]".repeat(127))));
    assert_eq!(
        fault(Task::Chat, &chat(&format!(r#","x":{}{}"#, "[".repeat(128), "]".repeat(128)))).0,
        Code::JsonTooDeep
    );
}

#[test]
fn every_wrong_member_is_named() {
    use Code::{InvalidRequest, InvalidValue};
    for (more, code, param) in [
        (r#","stream":"true""#, InvalidRequest, "stream"),
        (r#","stream":1"#, InvalidRequest, "stream"),
        (r#","stream_options":[]"#, InvalidRequest, "stream_options"),
        (r#","stream":true,"stream_options":[]"#, InvalidRequest, "stream_options"),
        (
            r#","stream":true,"stream_options":{"include_usage":1}"#,
            InvalidRequest,
            "stream_options.include_usage",
        ),
        (r#","n":0"#, InvalidValue, "n"),
        (r#","n":129"#, InvalidValue, "n"),
        (r#","n":1.5"#, InvalidValue, "n"),
        (r#","n":"1""#, InvalidRequest, "n"),
        (r#","max_tokens":-1"#, InvalidValue, "max_tokens"),
        (r#","max_tokens":2147483648"#, InvalidValue, "max_tokens"),
        (r#","max_tokens":1e3"#, InvalidValue, "max_tokens"),
        (r#","max_completion_tokens":99999999999999999999999"#, InvalidValue, "max_completion_tokens"),
        (r#","max_tokens":1,"max_completion_tokens":2"#, InvalidRequest, "max_completion_tokens"),
        (r#","temperature":2.1"#, InvalidValue, "temperature"),
        (r#","temperature":-0.1"#, InvalidValue, "temperature"),
        (r#","temperature":1e999"#, InvalidValue, "temperature"),
        (r#","temperature":"hot""#, InvalidRequest, "temperature"),
        (r#","top_p":1.01"#, InvalidValue, "top_p"),
        (r#","presence_penalty":-2.5"#, InvalidValue, "presence_penalty"),
        (r#","frequency_penalty":3"#, InvalidValue, "frequency_penalty"),
        (r#","stop":["a","b","c","d","e"]"#, InvalidValue, "stop"),
        (r#","stop":["a",1]"#, InvalidRequest, "stop[1]"),
        (r#","stop":{}"#, InvalidRequest, "stop"),
        (r#","tools":{}"#, InvalidRequest, "tools"),
        (r#","top_logprobs":2"#, InvalidRequest, "top_logprobs"),
        (r#","logprobs":true,"top_logprobs":21"#, InvalidValue, "top_logprobs"),
        (r#","logprobs":3"#, InvalidRequest, "logprobs"),
        (r#","n":1,"n":2"#, InvalidRequest, "n"),
        (r#","strange":1,"str\u0061nge":1"#, InvalidRequest, "strange"),
        (r#","messages":[1]"#, InvalidRequest, "messages"),
        (r#","penstock":5"#, InvalidRequest, "penstock"),
        (r#","penstock":{"timeout":5}"#, InvalidRequest, "penstock.timeout"),
        (r#","penstock":{"timeout_ms":0}"#, InvalidValue, "penstock.timeout_ms"),
        (r#","penstock":{"tags":{"a":1}}"#, InvalidRequest, "penstock.tags.a"),
        (r#","penstock":{"tags":{"a":"b\n"}}"#, InvalidValue, "penstock.tags.a"),
    ] {
        assert_eq!(fault(Task::Chat, &chat(more)), (code, param.to_owned()), "{more}");
    }
}

#[test]
fn a_model_is_a_short_name() {
    for (model, code) in [
        (r#""""#, Code::InvalidRequest),
        ("null", Code::InvalidRequest),
        ("7", Code::InvalidRequest),
        (r#""a\u0000b""#, Code::InvalidValue),
    ] {
        let body = format!(r#"{{"model":{model},"messages":[1]}}"#);
        assert_eq!(fault(Task::Chat, &body), (code, "model".to_owned()), "{model}");
    }
    let long = format!(r#"{{"model":"{}","messages":[1]}}"#, "x".repeat(257));
    assert_eq!(fault(Task::Chat, &long), (Code::InvalidValue, "model".to_owned()));
    assert_eq!(fault(Task::Chat, r#"{"messages":[1]}"#), (Code::InvalidRequest, "model".to_owned()));
}

#[test]
fn the_members_that_make_a_task_must_be_there() {
    for (task, body, param) in [
        (Task::Chat, r#"{"model":"m"}"#, "messages"),
        (Task::Chat, r#"{"model":"m","messages":[ ]}"#, "messages"),
        (Task::Chat, r#"{"model":"m","messages":"hi"}"#, "messages"),
        (Task::Completion, r#"{"model":"m"}"#, "prompt"),
        (Task::Completion, r#"{"model":"m","prompt":[]}"#, "prompt"),
        (Task::Completion, r#"{"model":"m","prompt":5}"#, "prompt"),
        (Task::Embedding, r#"{"model":"m"}"#, "input"),
        (Task::Embedding, r#"{"model":"m","input":[]}"#, "input"),
        (Task::Embedding, r#"{"model":"m","input":{}}"#, "input"),
    ] {
        assert_eq!(fault(task, body), (Code::InvalidRequest, param.to_owned()), "{body}");
    }
    let empty = r#"{"model":"m","input":""}"#;
    assert_eq!(fault(Task::Embedding, empty), (Code::InvalidValue, "input".to_owned()));
    let format = r#"{"model":"m","input":"a","encoding_format":"hex"}"#;
    assert_eq!(fault(Task::Embedding, format), (Code::InvalidValue, "encoding_format".to_owned()));
    let best = r#"{"model":"m","prompt":"a","n":3,"best_of":2}"#;
    assert_eq!(fault(Task::Completion, best), (Code::InvalidValue, "best_of".to_owned()));
}

#[test]
fn null_is_absent_and_unknown_members_are_left_alone() {
    let more = r#","stream":null,"stream_options":null,"n":null,"max_tokens":null,"temperature":null,"stop":null,
        "penstock":null,"huge":1e400,"x":{"y":[null]}"#;
    let decoded = accepts(Task::Chat, &chat(more));
    assert_eq!((decoded.stream, decoded.stream_usage, decoded.choices), (false, false, 1));
    assert_eq!((decoded.max_output_tokens, decoded.penstock), (None, None));
    decoded.body.content().unwrap();
}

#[test]
fn what_stages_read_is_picked_out() {
    let more = r#","stream":true,"stream_options":{"include_usage":true},"n":3,"max_tokens":5,"max_completion_tokens":5,
        "penstock":{"timeout_ms":1500,"tags":{"team":"a b"}}"#;
    let decoded = accepts(Task::Chat, &chat(more));
    assert!(decoded.stream && decoded.stream_usage);
    assert_eq!((&*decoded.model, decoded.choices, decoded.max_output_tokens), ("m", 3, Some(5)));
    let penstock = decoded.penstock.unwrap();
    assert_eq!(penstock.timeout, Some(Duration::from_millis(1500)));
    assert_eq!(penstock.tags["team"], "a b");
}

#[test]
fn a_misspelt_member_of_ours_gets_a_suggestion() {
    let body = Bytes::from(chat(r#","penstock":{"timeout_mss":5}"#));
    let error = decode(Task::Chat, body, &limits()).unwrap_err();
    assert!(error.say().contains("did you mean `timeout_ms`?"), "{}", error.say());
}

#[test]
fn content_errors_carry_the_path_of_the_member() {
    use Code::{InvalidRequest, InvalidValue, Unsupported};
    for (messages, code, param) in [
        ("1", InvalidRequest, "messages[0]"),
        ("{}", InvalidRequest, "messages[0].role"),
        (r#"{"role":"robot","content":"a"}"#, InvalidValue, "messages[0].role"),
        (r#"{"role":"user"}"#, InvalidRequest, "messages[0].content"),
        (r#"{"role":"user","content":null}"#, InvalidRequest, "messages[0].content"),
        (r#"{"role":"user","content":5}"#, InvalidRequest, "messages[0].content"),
        (
            r#"{"role":"user","content":"a"},{"role":"user","content":[{"text":"a"}]}"#,
            InvalidRequest,
            "messages[1].content[0].type",
        ),
        (r#"{"role":"user","content":[{"type":"text"}]}"#, InvalidRequest, "messages[0].content[0].text"),
        (r#"{"role":"user","content":[{"type":"video"}]}"#, InvalidValue, "messages[0].content[0].type"),
        (
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}"#,
            InvalidValue,
            "messages[0].content[0].image_url.url",
        ),
        (r#"{"role":"tool","content":"a"}"#, InvalidRequest, "messages[0].tool_call_id"),
        (r#"{"role":"assistant"}"#, InvalidRequest, "messages[0].content"),
        (
            r#"{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f"}}]}"#,
            InvalidRequest,
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            r#"{"role":"assistant","function_call":{"name":"f"}}"#,
            InvalidRequest,
            "messages[0].function_call.arguments",
        ),
        (
            r#"{"role":"assistant","reasoning_details":[{}]}"#,
            InvalidRequest,
            "messages[0].reasoning_details[0].type",
        ),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{messages}]}}"#);
        let error = decode_content(body.as_bytes(), Task::Chat).unwrap_err();
        assert_eq!((error.code(), error.param()), (code, Some(param)), "{messages}");
    }
    for (more, code, param) in [
        (r#","tools":[{"type":"web_search"}]"#, Unsupported, "tools[0].type"),
        (
            r#","tools":[{"type":"function","function":{"name":"a b"}}]"#,
            InvalidValue,
            "tools[0].function.name",
        ),
        (
            r#","tools":[{"type":"function","function":{"name":"a","parameters":[]}}]"#,
            InvalidRequest,
            "tools[0].function.parameters",
        ),
        (r#","tool_choice":"any""#, InvalidValue, "tool_choice"),
        (r#","response_format":{"type":"xml"}"#, InvalidValue, "response_format.type"),
        (r#","response_format":{"type":"json_schema"}"#, InvalidRequest, "response_format.json_schema"),
        (r#","logit_bias":{"a":1}"#, InvalidValue, "logit_bias.a"),
        (r#","functions":[{}]"#, InvalidRequest, "functions[0].name"),
        (r#","reasoning_effort":"huge""#, InvalidValue, "reasoning_effort"),
    ] {
        let error = decode_content(chat(more).as_bytes(), Task::Chat).unwrap_err();
        assert_eq!((error.code(), error.param()), (code, Some(param)), "{more}");
    }
}

#[test]
fn a_million_tools_cost_their_bytes_and_not_more() {
    let tools = chat(&format!(r#","tools":[{}{{}}]"#, "{},".repeat(1_000_000)));
    let decoded = accepts(Task::Chat, &tools);
    let error = decoded.body.content().unwrap_err();
    assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some("tools")));
}

#[test]
fn too_many_members_are_refused() {
    let many: String = (0..300).map(|i| format!(r#","x{i}":0"#)).collect();
    assert_eq!(fault(Task::Chat, &chat(&many)).0, Code::InvalidRequest);
}

#[test]
fn decoding_the_body_we_encode_gives_the_same_conversation() {
    let body = include_bytes!("../../../tests/fixtures/requests/chat_everything.json");
    let Content::Chat(mut first) = decode_content(body, Task::Chat).unwrap() else { panic!("no chat") };
    assert_eq!(std::mem::take(&mut first.unsaid), ["unknown_member"]);
    // No vendor takes both what is OpenAI's alone and what others added: one that takes everything.
    let (verbosity, cache_key) = (first.verbosity.take(), first.cache_key.take());
    assert_eq!((verbosity, cache_key.as_deref()), (Some(Verbosity::Low), Some("docs-1")));
    for stream in [false, true] {
        let chats = Chats { max_completion_tokens: stream, ..Chats::COMPATIBLE };
        let ask = Ask { task: Task::Chat, model: "m", stream, ask_usage: true, max_tokens: 9, chats };
        let encoded = crate::openai::chat::encode_body(&first, &ask).body;
        assert_eq!(decode(Task::Chat, encoded.clone(), &limits()).unwrap().stream_usage, stream);
        assert_eq!(decode_content(&encoded, Task::Chat).unwrap(), Content::Chat(first.clone()));
    }
}

#[test]
fn a_debug_print_of_a_body_shows_no_prompt() {
    let decoded = accepts(Task::Chat, r#"{"model":"m","messages":[{"role":"user","content":"private"}]}"#);
    assert!(!format!("{decoded:?}").contains("private"));
}

#[test]
fn a_vendor_is_told_only_what_it_takes_and_the_rest_is_named() {
    let body =
        br#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":7,"top_k":3,"min_p":0.1,
        "seed":5,"logit_bias":{"9":1},"logprobs":true,"user":"u","verbosity":"high","prompt_cache_key":"k","service_tier":"flex"}"#;
    let Content::Chat(chat) = decode_content(body, Task::Chat).unwrap() else { panic!("no chat") };
    let own = ["prompt_cache_key", "service_tier", "verbosity"];
    let newer = ["model", "messages", "max_completion_tokens", "seed"];
    let tokens = ["logit_bias", "logprobs"];
    for (chats, sent, lost) in [
        (
            Chats::OPENAI,
            [&newer[..], &tokens, &["safety_identifier", "verbosity", "prompt_cache_key", "service_tier"]]
                .concat(),
            vec!["min_p", "top_k"],
        ),
        (
            Chats::DATED,
            [&newer[..], &tokens, &["user"]].concat(),
            [&["min_p"], &own[..2], &["top_k"], &own[2..]].concat(),
        ),
        (
            Chats::GROQ,
            [&newer[..], &["user"]].concat(),
            [&tokens[..], &["min_p"], &own[..2], &["top_k"], &own[2..]].concat(),
        ),
        (
            Chats::COMPATIBLE,
            [&["model", "messages", "min_p", "max_tokens", "top_k", "seed"], &tokens[..], &["user"]].concat(),
            own.to_vec(),
        ),
        (
            Chats::MISTRAL,
            vec!["model", "messages", "max_tokens", "random_seed"],
            [&tokens[..], &["min_p"], &own[..2], &["top_k", "user"], &own[2..]].concat(),
        ),
    ] {
        let ask = Ask { task: Task::Chat, model: "m", stream: false, ask_usage: true, max_tokens: 9, chats };
        let encoded = crate::openai::chat::encode_body(&chat, &ask);
        let text = String::from_utf8(encoded.body.to_vec()).unwrap();
        let members = json::object_of(&text, &Path::ROOT).unwrap();
        let names: Vec<&str> = members.0.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!((names, encoded.dropped), (sent, lost.iter().map(|name| (*name).to_owned()).collect()));
    }
}
