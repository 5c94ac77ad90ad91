//! OpenAI's responses behind askers of that dialect: bytes pass where the vendor has it, and are translated where not.

use std::sync::Arc;

use bytes::Bytes;
use penstock_dialect::{DecodeLimits, responses};
use penstock_domain::{Code, Delta, FinishReason, Origin, RequestId, Task};
use penstock_provider::{Call, Provider};
use penstock_provider_http::{Naming, PRESETS};
use serde_json::json;

use crate::support::{
    Answer, CHAT_ASK, CHAT_EVENTS, CHAT_WHOLE, KEY, MESSAGE_WHOLE, Server, Step, call, events_answer, http,
    json_answer, read, send, vendor,
};

const ASK: &str = r#"{ "x_unknown":[1,  2], "model":"large","store":true,"input":"hi"}"#;
const STREAM_ASK: &str = r#"{"model":"large","stream":true,"input":"hi","penstock":{"tags":{"a":"b"}}}"#;
const WHOLE: &str = r#"{"id":"resp_1","object":"response","status":"completed","model":"vendor-model-1","output":[{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"hello","annotations":[]}]}],"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":1},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":5}}"#;
const EVENTS: &[&str] = &[
    "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"model\":\"vendor-model-1\",\"status\":\"in_progress\"}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"hello\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":2,\"total_tokens\":5}}}\n\n",
];

fn asks(body: &str) -> Call {
    let decoded = responses::request::decode(
        Task::Chat,
        Bytes::copy_from_slice(body.as_bytes()),
        &DecodeLimits::default(),
    );
    let request = decoded.expect("a request").into_request(RequestId::new("req_1"), Origin::Http, None);
    Call { request: Arc::new(request), ..call(penstock_domain::Task::Chat, CHAT_ASK) }
}

async fn through(provider: &dyn Provider, body: &str) -> Answer {
    read(provider.chat().expect("chats").chat(asks(body)).await.expect("an answer")).await
}

fn openai(server: &Server) -> Arc<dyn Provider> {
    vendor("openai", json!({"base_url": server.base, "api_key": KEY}))
}

#[tokio::test]
async fn vendors_that_have_the_path_get_the_bytes_and_nothing_is_kept_there() {
    let mut server = Server::always(vec![send(json_answer("200 OK", WHOLE))]).await;
    let answer = through(&*openai(&server), ASK).await;
    assert_eq!(answer.body(), WHOLE);
    let Some(Delta::Whole(whole)) = answer.deltas.first() else { panic!("{:?}", answer.deltas) };
    let usage = whole.notes.usage.expect("usage");
    assert_eq!((usage.input, usage.cached_input, usage.output), (3, Some(1), 2));
    assert_eq!(whole.notes.version.as_deref(), Some("vendor-model-1"));
    let seen = server.seen().await;
    assert_eq!(seen.line(), "POST /v1/responses HTTP/1.1");
    assert_eq!(seen.body, ASK.replace("large", "vendor-model").replace("true", "false"));
}

#[tokio::test]
async fn events_pass_byte_for_byte_and_no_wish_of_chats_is_added() {
    let mut server = Server::always(vec![send(events_answer(EVENTS))]).await;
    let answer = through(&*openai(&server), STREAM_ASK).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert_eq!(answer.body(), EVENTS.concat());
    let notes = answer.deltas.iter().filter_map(|delta| match delta {
        Delta::Raw(raw) => raw.notes.finish,
        _ => None,
    });
    assert_eq!(notes.last(), Some(FinishReason::Stop));
    let seen = server.seen().await;
    assert_eq!(seen.body, r#"{"model":"vendor-model","store":false,"stream":true,"input":"hi"}"#);
}

#[tokio::test]
async fn a_stream_without_its_end_is_cut() {
    let server = Server::always(vec![send(events_answer(&EVENTS[..2])), Step::Close]).await;
    let answer = through(&*openai(&server), STREAM_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamStreamCut));
    assert_eq!(answer.body(), EVENTS[..2].concat());
}

#[tokio::test]
async fn every_preset_with_the_path_is_asked_there_and_every_other_in_its_own_dialect() {
    let mut server = Server::start(|_, seen| {
        let body = match seen.line() {
            line if line.contains("/responses") => WHOLE,
            line if line.contains("/messages") => MESSAGE_WHOLE,
            _ => CHAT_WHOLE,
        };
        vec![send(json_answer("200 OK", body))]
    })
    .await;
    for preset in PRESETS.iter().filter(|preset| !preset.chat.is_some_and(|path| path.contains("{model}"))) {
        let provider = vendor(preset.kind, json!({"base_url": server.base, "api_key": KEY}));
        through(&*provider, ASK).await;
        let line = server.seen().await.line().to_owned();
        let own = preset.responses.filter(|_| matches!(preset.naming, Naming::Body));
        let path = own.or(preset.chat).expect("a path");
        assert!(line.contains(path), "{}: {line}", preset.kind);
    }
}

#[tokio::test]
async fn azure_has_it_at_its_newer_address() {
    let mut server = Server::always(vec![send(json_answer("200 OK", WHOLE))]).await;
    let newer = server.base.replace("/v1", "/openai/v1");
    through(&*vendor("azure_openai", json!({"base_url": newer, "api_key": KEY})), ASK).await;
    assert_eq!(server.seen().await.line(), "POST /openai/v1/responses HTTP/1.1");
}

#[tokio::test]
async fn a_vendor_of_chats_answers_in_chunks_that_are_read() {
    let server = Server::always(vec![send(events_answer(CHAT_EVENTS))]).await;
    let provider = vendor("openai_compatible", json!({"base_url": server.base}));
    let answer = through(&*provider, STREAM_ASK).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert!(answer.deltas.iter().any(|delta| matches!(delta, Delta::Text { .. })), "{:?}", answer.deltas);
}

#[tokio::test]
async fn a_refusal_is_the_callers_or_ours_as_at_chats() {
    let body = r#"{"error":{"message":"Unsupported parameter","type":"invalid_request_error","param":"reasoning.effort","code":"unsupported_parameter"}}"#;
    let server =
        Server::always(vec![send(http("400 Bad Request", "content-type: application/json\r\n", body))]).await;
    let provider = openai(&server);
    let Err(error) = provider.chat().expect("chats").chat(asks(ASK)).await else { panic!("an answer") };
    assert_eq!((error.code(), error.param()), (Code::UpstreamRejected, Some("reasoning.effort")));
}

#[test]
fn openai_counts_at_its_own_address_alone() {
    let at = |settings| vendor("openai", settings).count().is_some();
    assert!(at(json!({"api_key": KEY})), "the path exists there");
    assert!(
        !at(json!({"api_key": KEY, "base_url": "http://127.0.0.1:9/v1"})),
        "nobody knows: it is estimated"
    );
}
