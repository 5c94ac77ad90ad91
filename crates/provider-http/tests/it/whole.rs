//! Answers in one piece, and what goes out to get them.

use penstock_domain::{Code, Delta};
use serde_json::json;

use crate::support::{
    CHAT_ASK, CHAT_EVENTS, CHAT_WHOLE, KEY, STREAM_ASK, Server, chat, chat_through, events_answer, http,
    json_answer, plain, read, send, vendor,
};

#[tokio::test]
async fn the_request_is_the_askers_bytes_with_our_model_and_nothing_of_ours() {
    let mut server = Server::always(vec![send(json_answer("200 OK", CHAT_WHOLE))]).await;
    let body = r#"{ "x_unknown" : {"a":[1,  2]}, "model":"large", "penstock":{"tags":{"a":"b"}}, "messages":[{"role":"user","content":"h\u00e9"}],"seed":9007199254740993 }"#;
    chat_through(&*plain(&server), body).await;
    let seen = server.seen().await;
    assert!(seen.body.contains(r#""x_unknown" : {"a":[1,  2]}"#), "{}", seen.body);
    assert!(
        seen.body.contains(r#""content":"h\u00e9""#) && seen.body.contains("9007199254740993"),
        "{}",
        seen.body
    );
    assert_eq!(seen.json()["model"], "vendor-model");
    assert!(seen.json().get("penstock").is_none(), "{}", seen.body);
}

#[tokio::test]
async fn a_request_carries_our_headers_the_configured_ones_and_no_others() {
    let mut server = Server::always(vec![send(json_answer("200 OK", CHAT_WHOLE))]).await;
    let headers = json!({"OpenAI-Organization": "org-1", "x-extra": "a b"});
    let provider =
        vendor("openai_compatible", json!({"base_url": server.base, "api_key": KEY, "headers": headers}));
    chat_through(&*provider, CHAT_ASK).await;
    let seen = server.seen().await;
    let mut names: Vec<String> =
        seen.head.lines().skip(1).filter_map(|l| Some(l.split_once(':')?.0.to_ascii_lowercase())).collect();
    names.sort();
    let expected = [
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "openai-organization",
        "user-agent",
        "x-extra",
    ];
    assert_eq!(names, expected);
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert!(seen.header("user-agent").is_some_and(|agent| agent.starts_with("penstock/")));
    assert_eq!(seen.header("openai-organization"), Some("org-1"));
}

#[tokio::test]
async fn a_whole_answer_reaches_the_asker_byte_for_byte_with_its_usage() {
    let server = Server::always(vec![send(json_answer("200 OK", CHAT_WHOLE))]).await;
    let answer = chat_through(&*plain(&server), CHAT_ASK).await;
    assert_eq!(answer.body(), CHAT_WHOLE);
    let Some(Delta::Whole(whole)) = answer.deltas.first() else { panic!("{:?}", answer.deltas) };
    let usage = whole.notes.usage.expect("usage is picked out");
    assert_eq!((usage.input, usage.output), (7, 2));
}

#[tokio::test]
async fn a_whole_answer_in_many_pieces_is_put_together() {
    let mut pieces =
        vec![send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")];
    pieces.extend(CHAT_WHOLE.as_bytes().chunks(7).map(|piece| send(crate::support::chunk(piece))));
    pieces.push(send(crate::support::LAST_CHUNK));
    let server = Server::always(pieces).await;
    let answer = chat_through(&*plain(&server), CHAT_ASK).await;
    assert_eq!(answer.body(), CHAT_WHOLE);
}

#[tokio::test]
async fn an_answer_of_the_wrong_kind_is_an_error_and_never_an_answer() {
    let html = "<html><body>502 sk-vendor-secret</body></html>";
    let bad = |status, headers, body: &str| http(status, headers, body);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("html", bad("200 OK", "content-type: text/html\r\n", html)),
        ("no type", bad("200 OK", "", html)),
        ("garbage as json", json_answer("200 OK", "\u{1}\u{2}garbage")),
        ("html as json", json_answer("200 OK", html)),
        ("empty", json_answer("200 OK", "")),
        ("truncated json", json_answer("200 OK", &CHAT_WHOLE[..CHAT_WHOLE.len() - 9])),
        ("json that is no answer", json_answer("200 OK", "[1,2,3]")),
        ("no content", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        (
            "gzip",
            bad("200 OK", "content-type: application/json\r\ncontent-encoding: gzip\r\n", "\u{1f}garbage"),
        ),
        ("events instead of json", events_answer(CHAT_EVENTS)),
        (
            "announced too large",
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n{"
                .to_vec(),
        ),
    ];
    for (name, bytes) in cases {
        let server = Server::always(vec![send(bytes)]).await;
        let answer = chat_through(&*plain(&server), CHAT_ASK).await;
        assert_eq!(answer.code(), Some(Code::UpstreamBadResponse), "{name}: {:?}", answer.deltas);
        let say = answer.failed.expect("an error").say().to_owned();
        assert!(!say.contains("secret") && !say.contains("html>"), "{name}: {say}");
    }
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_an_error() {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        CHAT_WHOLE.len() + 1
    );
    let server = Server::always(vec![send(head), send(CHAT_WHOLE), crate::support::Step::Close]).await;
    let answer = chat_through(&*plain(&server), CHAT_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamStreamCut));
}

#[tokio::test]
async fn an_error_inside_a_200_is_an_error() {
    let inside =
        r#"{"error":{"message":"the engine is overloaded","type":"server_error","code":null,"param":null}}"#;
    let server = Server::always(vec![send(json_answer("200 OK", inside))]).await;
    for ask in [CHAT_ASK, STREAM_ASK] {
        let answer = chat_through(&*plain(&server), ask).await;
        assert!(answer.failed.is_some(), "{ask}: {:?}", answer.deltas);
        assert!(answer.bytes.is_empty() && answer.text.is_empty());
    }
}

#[tokio::test]
async fn a_json_answer_to_a_streaming_ask_becomes_events_for_the_asker() {
    let server = Server::always(vec![send(json_answer("200 OK", CHAT_WHOLE))]).await;
    let answer = read(chat(&*plain(&server), STREAM_ASK).await.expect("an answer")).await;
    assert_eq!(answer.text, "hello");
    assert!(answer.deltas.iter().any(|delta| matches!(delta, Delta::Finished { .. })), "{:?}", answer.deltas);
    assert!(!answer.deltas.iter().any(|delta| matches!(delta, Delta::Whole(_))), "a body is no event");
}

#[tokio::test]
async fn completions_and_embeddings_come_back_whole() {
    use crate::support::{COMPLETION_WHOLE, EMBEDDING_WHOLE, call};
    use penstock_domain::Task;
    let server = Server::start(|_, seen| {
        let body = if seen.line().contains("embeddings") { EMBEDDING_WHOLE } else { COMPLETION_WHOLE };
        vec![send(json_answer("200 OK", body))]
    })
    .await;
    let provider = plain(&server);
    let complete =
        provider.complete().expect("able").complete(call(Task::Completion, r#"{"model":"l","prompt":"hi"}"#));
    assert_eq!(read(complete.await.expect("an answer")).await.body(), COMPLETION_WHOLE);
    let embed =
        provider.embed().expect("able").embed(call(Task::Embedding, r#"{"model":"l","input":["hi"]}"#));
    assert_eq!(read(embed.await.expect("an answer")).await.body(), EMBEDDING_WHOLE);
}

#[tokio::test]
async fn an_answer_that_does_not_name_its_type_is_taken_for_what_was_asked() {
    let server = Server::start(|n, _| match n {
        0 => vec![send(http("200 OK", "", CHAT_WHOLE))],
        _ => vec![send(http("200 OK", "", CHAT_EVENTS.concat()))],
    })
    .await;
    let provider = plain(&server);
    assert_eq!(chat_through(&*provider, CHAT_ASK).await.body(), CHAT_WHOLE);
    let answer = chat_through(&*provider, STREAM_ASK).await;
    assert!(answer.failed.is_none() && answer.body().contains("héllo"), "{answer:?}");
}
