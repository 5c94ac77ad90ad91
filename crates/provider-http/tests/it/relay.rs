//! Requests passed on as bytes: what reaches the vendor, what comes back, and what never does.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use penstock_domain::{
    Body, Code, Delta, Dialect, Error, Origin, Passage, Relayed, RelayedHead, Request, RequestId, Tags, Task,
};
use penstock_provider::{Call, Deltas, Provider};
use serde_json::json;

use crate::support::{KEY, LAST_CHUNK, Server, Step, chunk, hasty, http, json_answer, plain, send, vendor};

fn passage(method: &'static str, path: &str) -> Passage {
    Passage { method, path: path.into(), query: None, headers: Vec::new() }
}

async fn relay(vendor: &dyn Provider, passage: Passage, body: &'static [u8]) -> Result<Deltas, Error> {
    let request = Request {
        id: RequestId::new("req_test"),
        origin: Origin::Http,
        task: Task::Relay,
        model: passage.path.as_ref().into(),
        stream: false,
        stream_usage: false,
        max_output_tokens: None,
        choices: 1,
        deadline: None,
        arrived: None,
        hints: Default::default(),
        tags: Tags::default(),
        residency: None,
        priority: None,
        resume: Default::default(),
        body: Body::relayed(Dialect::OpenAi, Bytes::from_static(body), passage),
    };
    let call = Call { request: Arc::new(request), model: "files".into(), credential: 0, deadline: None };
    vendor.relay().expect("the vendor relays").relay(call).await
}

struct Back {
    head: RelayedHead,
    bytes: Vec<u8>,
    failed: Option<Error>,
}

async fn read(mut deltas: Deltas) -> Back {
    let Some(Delta::Relayed(Relayed::Head(head))) = deltas.next().await else { panic!("no head first") };
    let mut back = Back { head: *head, bytes: Vec::new(), failed: None };
    while let Some(delta) = deltas.next().await {
        assert!(back.failed.is_none(), "a delta after Failed: {delta:?}");
        match delta {
            Delta::Relayed(Relayed::Bytes(bytes)) => back.bytes.extend_from_slice(&bytes),
            Delta::Failed(error) => back.failed = Some(error),
            other => panic!("{other:?}"),
        }
    }
    back
}

#[tokio::test]
async fn everything_arrives_as_it_was_sent_with_our_credential() {
    let mut server = Server::always(vec![send(json_answer("200 OK", "{}"))]).await;
    let body = b"--b\r\n\r\n\0\x01\r\n--b--";
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        let headers = vec![
            ("content-type", Bytes::from_static(b"multipart/form-data; boundary=b")),
            ("openai-beta", Bytes::from_static(b"assistants=v2")),
        ];
        let query = Some("limit=1&after=x%20y".into());
        let passage = Passage { query, headers, ..passage(method, "/files/a%C3%BC") };
        read(relay(&*plain(&server), passage, body).await.expect("an answer")).await;
        let seen = server.seen().await;
        assert_eq!(seen.line(), format!("{method} /v1/files/a%C3%BC?limit=1&after=x%20y HTTP/1.1"));
        assert_eq!(seen.body.as_bytes(), body);
        assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {KEY}")));
        assert_eq!(seen.header("content-type"), Some("multipart/form-data; boundary=b"));
        assert_eq!(seen.header("openai-beta"), Some("assistants=v2"));
        assert_eq!((seen.header("accept"), seen.header("accept-encoding")), (Some("*/*"), Some("identity")));
    }
    read(relay(&*plain(&server), passage("GET", "/files"), b"").await.expect("an answer")).await;
    assert_eq!(server.seen().await.header("content-type"), None, "absent stays absent");
}

#[tokio::test]
async fn what_the_operator_set_for_the_vendor_wins_over_the_asker() {
    let mut server = Server::always(vec![send(json_answer("200 OK", "{}"))]).await;
    let settings = json!({"base_url": server.base, "api_key": KEY, "headers": {"openai-beta": "ours"}});
    let vendor = vendor("openai", settings);
    let headers = vec![("openai-beta", Bytes::from_static(b"theirs"))];
    read(relay(&*vendor, Passage { headers, ..passage("GET", "/files") }, b"").await.expect("an answer"))
        .await;
    assert_eq!(server.seen().await.header("openai-beta"), Some("ours"));
}

#[tokio::test]
async fn status_listed_headers_and_every_byte_come_back() {
    let bytes: Vec<u8> = (0..=255).collect();
    let headers = "content-type: audio/mpeg\r\ncontent-disposition: attachment\r\nset-cookie: a=b\r\n\
                   x-ratelimit-remaining-requests: 3\r\nopenai-organization: acme\r\nlocation: https://evil.example/\r\n";
    for status in ["200 OK", "201 Created", "400 Bad Request", "404 Not Found", "409 Conflict"] {
        let server = Server::always(vec![send(http(status, headers, &bytes))]).await;
        let back = read(relay(&*plain(&server), passage("GET", "/files/f"), b"").await.expect(status)).await;
        assert_eq!(format!("{}", back.head.status), status[..3]);
        let known = [("content-type", "audio/mpeg"), ("content-disposition", "attachment")];
        assert_eq!(
            back.head.headers,
            known.map(|(name, value)| (name, Bytes::from_static(value.as_bytes())))
        );
        assert_eq!((back.head.length, back.bytes.as_slice()), (Some(256), bytes.as_slice()));
        assert!(back.failed.is_none());
    }
}

#[tokio::test]
async fn what_is_about_the_operators_account_is_told_as_ours() {
    let words = format!(r#"{{"error":{{"message":"bad key {KEY}","type":"x","code":"x","param":null}}}}"#);
    for (status, code) in [
        ("401 Unauthorized", Code::UpstreamAuth),
        ("403 Forbidden", Code::UpstreamAuth),
        ("429 Too Many Requests", Code::UpstreamRateLimited),
        ("500 Oops", Code::UpstreamError),
        ("503 Oops", Code::UpstreamError),
        ("302 Found", Code::UpstreamBadResponse),
    ] {
        let server = Server::always(vec![send(json_answer(status, &words))]).await;
        let error = relay(&*plain(&server), passage("GET", "/files"), b"").await.err().expect(status);
        assert_eq!(error.code(), code, "{status}");
        assert!(!format!("{error} {error:?}").contains(KEY), "{error:?}");
    }
}

#[tokio::test]
async fn no_path_leads_out_of_the_address() {
    let server = Server::always(vec![send(json_answer("200 OK", "{}"))]).await;
    for path in [
        "",
        "files",
        "/",
        "//evil.example/x",
        "/files/../x",
        "/files/%2E%2e/x",
        "/files/.",
        "/a#b",
        "/a b",
        "/a\r\nb",
    ] {
        let refused = relay(&*plain(&server), passage("GET", path), b"").await.err();
        assert_eq!(refused.map(|error| error.code()), Some(Code::InvalidRequest), "{path:?}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn bytes_come_as_the_vendor_sends_them_and_leaving_ends_the_call() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut server = Server::always(vec![send(head), send(chunk("event: a\n")), Step::Stall]).await;
    let mut deltas = relay(&*plain(&server), passage("GET", "/responses/r"), b"").await.expect("an answer");
    let Some(Delta::Relayed(Relayed::Head(head))) = deltas.next().await else { panic!("no head") };
    assert_eq!(head.length, None);
    let Some(Delta::Relayed(Relayed::Bytes(bytes))) = deltas.next().await else { panic!("no bytes") };
    assert_eq!(bytes, "event: a\n");
    drop(deltas);
    server.gone().await;
}

#[tokio::test]
async fn an_answer_that_breaks_or_falls_silent_fails() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n";
    for (last, code) in [
        (Step::Close, Some(Code::UpstreamStreamCut)),
        (Step::Stall, Some(Code::UpstreamIdleTimeout)),
        (send(LAST_CHUNK), None),
    ] {
        let server = Server::always(vec![send(head), send(chunk("half")), last]).await;
        let vendor = hasty(&server, 200, 100, 2000);
        let back =
            read(relay(&*vendor, passage("GET", "/files/f/content"), b"").await.expect("a head")).await;
        assert_eq!((back.bytes.as_slice(), back.failed.map(|error| error.code())), (&b"half"[..], code));
    }
}

#[tokio::test]
async fn only_vendors_of_this_api_relay() {
    for (kind, settings, relays) in [
        ("openai", json!({"api_key": KEY}), true),
        ("openai_compatible", json!({"base_url": "http://127.0.0.1:1/v1"}), true),
        ("anthropic", json!({"api_key": KEY}), false),
        ("gemini", json!({"api_key": KEY}), false),
        ("azure_openai", json!({"base_url": "https://x.openai.azure.com", "api_key": KEY}), false),
    ] {
        assert_eq!(vendor(kind, settings).relay().is_some(), relays, "{kind}");
    }
}
