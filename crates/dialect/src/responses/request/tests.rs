use penstock_domain::{Conversation, Part};
use penstock_domain::{Effort, Logprobs, Origin, RequestId, Role, Thinking, ToolChoice};

use super::*;
use crate::splice::upstream_body;

fn decoded(body: &str) -> Result<Decoded, Error> {
    decode(Task::Chat, Bytes::copy_from_slice(body.as_bytes()), &DecodeLimits::default())
}

fn read(body: &str) -> Conversation {
    match decode_content(body.as_bytes(), Task::Chat).unwrap() {
        Content::Chat(conversation) => conversation,
        other => panic!("{other:?}"),
    }
}

fn unsaid(body: &str) -> Vec<String> {
    read(body).unsaid
}

#[test]
fn the_head_is_read_without_the_rest() {
    let decoded = decoded(
        r#"{"model":"m","input":[{"future":1}],"stream":true,"max_output_tokens":9,"penstock":{"tags":{"a":"b"}}}"#,
    )
    .unwrap();
    assert_eq!((&*decoded.model, decoded.stream, decoded.stream_usage), ("m", true, true));
    assert_eq!((decoded.max_output_tokens, decoded.choices), (Some(9), 1));
    assert_eq!(decoded.penstock.unwrap().tags.len(), 1);
    assert_eq!(decoded.body.dialect(), Dialect::Responses);
}

#[test]
fn what_is_wrong_is_named() {
    for (body, code, param) in [
        (r#"{"input":"x"}"#, "invalid_request", "model"),
        (r#"{"model":"m"}"#, "invalid_request", "input"),
        (r#"{"model":"m","input":[]}"#, "invalid_request", "input"),
        (r#"{"model":"m","input":7}"#, "invalid_request", "input"),
        (r#"{"model":"m","input":"x","temperature":3}"#, "invalid_value", "temperature"),
        (r#"{"model":"m","input":"x","top_logprobs":21}"#, "invalid_value", "top_logprobs"),
        (r#"{"model":"m","input":"x","max_output_tokens":0}"#, "invalid_value", "max_output_tokens"),
        (r#"{"model":"m","input":"x","store":1}"#, "invalid_request", "store"),
        (r#"{"model":"m","input":"x","stream_options":[]}"#, "invalid_request", "stream_options"),
        (r#"{"model":"m","input":"x","tools":{}}"#, "invalid_request", "tools"),
        (r#"{"model":"m","input":"x","background":true}"#, "unsupported", "background"),
        (r#"{"model":"m","input":"x","conversation":"conv_1"}"#, "unsupported", "conversation"),
    ] {
        let error = decoded(body).unwrap_err();
        assert_eq!((error.code().name(), error.param()), (code, Some(param)), "{body}");
    }
    for (body, code, param) in [
        (r#"{"model":"m","input":[{"role":"robot","content":"x"}]}"#, "invalid_value", "input[0].role"),
        (r#"{"model":"m","input":[{"role":"user"}]}"#, "invalid_request", "input[0].content"),
        (
            r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":"ftp://x"}]}]}"#,
            "invalid_value",
            "input[0].content[0].image_url",
        ),
        (r#"{"model":"m","input":[{"type":"item_reference","id":"msg_1"}]}"#, "unsupported", "input[0]"),
        (r#"{"model":"m","previous_response_id":"resp_1"}"#, "unsupported", "previous_response_id"),
        (r#"{"model":"m","prompt":{"id":"p"}}"#, "unsupported", "prompt"),
        (r#"{"model":"m","input":"x","reasoning":{"effort":"huge"}}"#, "invalid_value", "reasoning.effort"),
        (
            r#"{"model":"m","input":"x","text":{"format":{"type":"xml"}}}"#,
            "invalid_value",
            "text.format.type",
        ),
        (r#"{"model":"m","input":"x","tools":[{"type":"function"}]}"#, "invalid_request", "tools[0].name"),
    ] {
        let error = decode_content(body.as_bytes(), Task::Chat).unwrap_err();
        assert_eq!((error.code().name(), error.param()), (code, Some(param)), "{body}");
    }
}

#[test]
fn what_the_model_said_in_a_row_is_one_turn() {
    let conversation = read(
        r#"{"model":"m","instructions":"be brief","input":[
            {"role":"user","content":"hi"},
            {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"gAAA"},
            {"type":"message","role":"assistant","content":[{"type":"output_text","text":"let me look","annotations":[]}]},
            {"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},
            {"type":"function_call","call_id":"c2","name":"g","arguments":"{\"a\": 1}"},
            {"type":"function_call_output","call_id":"c1","output":"one"},
            {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"two"}]}
        ]}"#,
    );
    let roles: Vec<Role> = conversation.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Tool]);
    let said = &conversation.messages[2].parts;
    assert_eq!(said[0], Part::Reasoning("hm".to_owned()));
    assert_eq!(said[1], Part::Sealed("rs_1:gAAA".to_owned()));
    assert_eq!(said[2], Part::Text("let me look".to_owned()));
    assert!(matches!((&said[3], &said[4]), (Part::ToolCall(_), Part::ToolCall(_))));
}

#[test]
fn settings_become_their_words() {
    let conversation = read(
        r#"{"model":"m","input":"x","reasoning":{"effort":"high","summary":"auto"},"top_logprobs":3,
            "include":["message.output_text.logprobs","reasoning.encrypted_content"],"safety_identifier":"u",
            "tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"}]},
            "tools":[{"type":"function","name":"f"},{"type":"function","name":"g"}],
            "metadata":{"a":"b"},"store":true,"truncation":"disabled","service_tier":"auto"}"#,
    );
    assert_eq!(conversation.thinking, Some(Thinking::Effort(Effort::High)));
    assert_eq!(conversation.sampling.logprobs, Logprobs::Top(3));
    assert_eq!(conversation.user.as_deref(), Some("u"));
    assert_eq!(conversation.tool_choice, Some(ToolChoice::Required));
    assert_eq!(conversation.tools.len(), 1);
    assert_eq!(conversation.unsaid, Vec::<String>::new());
}

#[test]
fn what_only_its_vendor_can_do_is_named() {
    let names = unsaid(
        r#"{"model":"m","input":[{"role":"user","content":"x"},{"type":"web_search_call","id":"ws_1"}],
            "tools":[{"type":"web_search"},{"type":"function","name":"f","defer_loading":true}],
            "tool_choice":{"type":"web_search"},"include":["web_search_call.action.sources"],
            "text":{"verbosity":"low"},"reasoning":{"context":"all_turns"},"prompt_cache_key":"k",
            "truncation":"auto","service_tier":"flex","max_tool_calls":3,"future":1}"#,
    );
    let expected = [
        "future",
        "include",
        "input.web_search_call",
        "max_tool_calls",
        "reasoning.context",
        "tool_choice",
        "tools.defer_loading",
        "tools.web_search",
        "truncation",
    ];
    assert_eq!(names, expected);
}

#[test]
fn custom_tools_become_functions_of_one_text_and_back() {
    let conversation = read(
        r#"{"model":"m","input":[{"type":"custom_tool_call","call_id":"c","name":"patch","input":"a\nb"},
            {"type":"custom_tool_call_output","call_id":"c","output":"done"}],
            "tools":[{"type":"custom","name":"patch","description":"edits","format":{"type":"grammar","syntax":"lark","definition":"start: x"}}]}"#,
    );
    let tool = &conversation.tools[0];
    assert!(tool.description.as_deref().unwrap().ends_with("start: x"));
    assert!(tool.parameters.as_ref().unwrap().as_str().contains("\"input\""));
    let Part::ToolCall(call) = &conversation.messages[0].parts[0] else { panic!("no call") };
    assert_eq!(input_of(&call.arguments), "a\nb");
    assert_eq!(input_of("no json"), "no json");
    assert_eq!(conversation.unsaid, ["tools.format"]);
}

#[test]
fn a_forwarded_body_keeps_its_bytes_but_for_ours_and_store() {
    let forward = |body: &str| {
        let request = decoded(body).unwrap().into_request(RequestId::new("req_1"), Origin::Http, None);
        String::from_utf8(upstream_body(&request, "v", true).to_vec()).unwrap()
    };
    assert_eq!(
        forward(r#"{ "model":"m","stream":true,"penstock":{}, "input" : "x","future":[1.0] }"#),
        r#"{ "model":"v","store":false,"stream":true, "input" : "x","future":[1.0] }"#,
    );
    assert_eq!(
        forward(r#"{"store":true,"model":"m","input":"x"}"#),
        r#"{"store":false,"model":"v","input":"x"}"#
    );
    let already = r#"{"store": false,"model":"v","input":"x"}"#;
    assert_eq!(forward(already), already);
}
