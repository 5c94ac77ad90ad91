//! The relay from outside: what passes, what does not, and what of it goes on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use penstock_domain::Task;
use penstock_edge::EdgeSettings;

use crate::bench::{ASKS, Bench, FILES, KEY, POOR, SOME_MODELS};
use crate::wire::{Answer, Wire, bearer, exchange, plain, post};

const PATHS: &[&str] = &["/files/*", "/models/*", "/responses/*", "/organization/users"];

async fn relaying() -> Bench {
    Bench::relaying(EdgeSettings::default(), PATHS).await
}

async fn asked(bench: &Bench, method: &str, path: &str, key: &str) -> Answer {
    exchange(bench.address, plain(method, path, key)).await
}

#[tokio::test]
async fn method_path_query_and_listed_headers_go_on_and_no_others() {
    let bench = relaying().await;
    let headers = format!(
        "{}x-api-key: {KEY}\r\ncookie: session=1\r\naccept: audio/mpeg\r\nopenai-beta: x=v2\r\nopenai-organization: o\r\n\
         idempotency-key: i\r\nx-forwarded-for: 10.0.0.1\r\nte: trailers\r\nx-stainless-lang: python\r\n",
        bearer()
    );
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        let request = post("/v1/files/a%C3%BC?limit=1&after=x%20y", &headers, "")
            .replacen("POST", method, 1)
            .replacen("application/json", "multipart/form-data; boundary=b", 1);
        let answer = exchange(bench.address, request).await;
        assert_eq!(answer.status, 200, "{method}: {}", answer.body);
        // The vendor's key is made from the asker's, so that two of them never meet there.
        let body = match answer.body.split_once("idempotency-key=penstock-") {
            Some((before, _)) => format!("{before}idempotency-key=KEY"),
            None => answer.body.clone(),
        };
        assert_eq!(
            body,
            format!(
                "{method} /files/a%C3%BC limit=1&after=x%20y accept=audio/mpeg,content-type=multipart/form-data; boundary=b,\
                 openai-beta=x=v2{}",
                if method == "POST" { ",idempotency-key=KEY" } else { "" }
            )
        );
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("penstock-provider"), Some("vendor"));
        assert!(answer.header("content-security-policy").is_some_and(|policy| policy.contains("sandbox")));
    }
    assert_eq!(bench.codes(5).await, ["ok"; 5]);
}

#[tokio::test]
async fn a_body_goes_on_as_bytes_and_within_the_bounds_of_any_other() {
    let settings = EdgeSettings { max_body: 1000, ..EdgeSettings::default() };
    let bench = Bench::relaying(settings, PATHS).await;
    let body = "--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n\u{0}\u{1}\r\n--b--\r\n";
    let answer = exchange(bench.address, post("/v1/files", &bearer(), body)).await;
    assert_eq!((answer.status, &bench.watch.body.lock().unwrap()[..]), (200, body.as_bytes()));
    let answer = exchange(bench.address, post("/v1/files", &bearer(), &"x".repeat(1001))).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "request_too_large"));
    let packed = format!("{}content-encoding: gzip\r\n", bearer());
    assert_eq!(exchange(bench.address, post("/v1/files", &packed, "x")).await.status, 415);
    assert_eq!(bench.watch.calls.load(Ordering::SeqCst), 1);
    assert_eq!(bench.codes(3).await, ["ok", "request_too_large", "unsupported_media_type"]);
}

#[tokio::test]
async fn a_path_outside_the_setting_and_a_crooked_one_go_nowhere() {
    let bench = relaying().await;
    for path in [
        "/v1/batches",
        "/v1/organization/users/u",
        "/v1/organization",
        "/v1/filesystem",
        "/v1/files/../organization/users/u",
        "/v1/files/%2e%2e/batches",
        "/v1/files/..%2fbatches",
        "/v1/files//x",
        "/v1/files/%252e",
        "/v1/files/",
        "/files/x",
        "/v1/messages/batches",
    ] {
        let answer = asked(&bench, "GET", path, KEY).await;
        assert!(matches!(answer.status, 400 | 404), "{path} gave {}", answer.status);
    }
    for method in ["HEAD", "OPTIONS", "TRACE", "PROPFIND"] {
        let request = plain(method, "/v1/files/x", KEY);
        let mut wire = Wire::open(bench.address).await;
        wire.send(request.replacen("content-length: 0", "connection: close", 1)).await;
        assert!(!wire.rest().await.starts_with("HTTP/1.1 2"), "{method}");
    }
    assert_eq!(bench.watch.calls.load(Ordering::SeqCst), 0, "no provider heard of it");
    let off = Bench::start().await;
    let answer = asked(&off, "GET", "/v1/files", KEY).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "route_not_found"));
}

#[tokio::test]
async fn a_key_needs_the_scope_for_these_objects_and_every_model() {
    let bench = relaying().await;
    for (key, path, status) in [
        ("no such key, only text", "/v1/files", 401),
        (POOR, "/v1/files", 403),
        (ASKS, "/v1/files", 403),
        (SOME_MODELS, "/v1/files", 403),
        (FILES, "/v1/organization/users", 403),
        (FILES, "/v1/files/f", 200),
        (KEY, "/v1/organization/users", 200),
    ] {
        let answer = asked(&bench, "GET", path, key).await;
        assert_eq!(answer.status, status, "{key} {path}: {}", answer.body);
        assert!(status == 200 || answer.body.starts_with("{\"error\""), "{}", answer.body);
    }
    assert_eq!(bench.watch.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn every_relayed_request_leaves_one_record_that_says_how_it_ended() {
    let bench = relaying().await;
    for (path, status) in [("/v1/files/f", 200), ("/v1/files/missing", 404), ("/v1/files/barred", 502)] {
        assert_eq!(asked(&bench, "GET", path, KEY).await.status, status, "{path}");
    }
    assert_eq!(bench.codes(3).await, ["ok", "upstream_rejected", "upstream_auth"]);
    let records = bench.kept.records();
    assert!(records.iter().all(|record| record.task == Some(Task::Relay) && record.key.is_some()));
    assert_eq!(records[1].asked.as_deref(), Some("/files/missing"));
    assert_eq!(records[1].provider.as_deref(), Some("vendor"));
}

#[tokio::test]
async fn an_object_that_is_not_ours_is_asked_for_at_the_vendor_by_those_who_may() {
    let bench = relaying().await;
    for path in
        ["/v1/models/no-such", "/v1/responses/resp_no_such", "/v1/responses/resp_no_such/input_items?limit=0"]
    {
        let answer = asked(&bench, "GET", path, KEY).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.body.starts_with("GET /"), "{}", answer.body);
    }
    assert!(
        asked(&bench, "GET", "/v1/models/raw", KEY).await.body.contains("\"id\":\"raw\""),
        "ours stays ours"
    );
    assert_eq!(asked(&bench, "GET", "/v1/models/no-such", SOME_MODELS).await.status, 404);
    assert_eq!(bench.watch.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_response_that_leans_on_the_vendor_is_made_there() {
    let bench = relaying().await;
    let body = r#"{"prompt": {"id": "pmpt_1"}, "input": "hi"}"#;
    let answer = exchange(bench.address, post("/v1/responses", &bearer(), body)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(&bench.watch.body.lock().unwrap()[..], body.as_bytes());
    let may_not = exchange(bench.address, post("/v1/responses", &bearer().replace(KEY, ASKS), body)).await;
    assert_eq!((may_not.status, may_not.code().as_str()), (400, "invalid_request"));
    assert_eq!(bench.codes(2).await, ["ok", "invalid_request"]);
}

#[tokio::test]
async fn an_answer_streams_and_a_client_who_leaves_cancels_it() {
    let bench = relaying().await;
    let mut wire = Wire::open(bench.address).await;
    wire.send(plain("GET", "/v1/files/endless", KEY)).await;
    wire.until("first").await;
    drop(wire);
    tokio::time::timeout(Duration::from_secs(5), bench.watch.gone.notified()).await.expect("the call ends");
    assert_eq!(bench.codes(1).await, ["cancelled"]);
}

#[tokio::test]
async fn half_an_answer_is_never_taken_for_a_whole_one() {
    let bench = relaying().await;
    let mut wire = Wire::open(bench.address).await;
    wire.send(plain("GET", "/v1/files/cut", KEY)).await;
    let all = wire.rest().await;
    // The connection broke: what came of it is shorter than it said, whether its head was still sent or not.
    assert!(all.is_empty() || (all.contains("content-length: 10\r\n") && all.ends_with("12345")), "{all}");
    assert_eq!(bench.codes(1).await, ["upstream_stream_cut"]);
}

#[tokio::test]
async fn the_end_of_the_grace_ends_a_relayed_answer() {
    let bench = relaying().await;
    let mut wire = Wire::open(bench.address).await;
    wire.send(plain("GET", "/v1/files/endless", KEY)).await;
    wire.until("first").await;
    bench.drain.begin();
    bench.drain.end();
    let all = wire.rest().await;
    assert!(!all.ends_with("0\r\n\r\n"), "it must not look complete: {all}");
}
