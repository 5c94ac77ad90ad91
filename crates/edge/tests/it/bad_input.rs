//! Bad input, each with its status and its stable code.

use penstock_edge::EdgeSettings;
use tokio::io::AsyncWriteExt;

use crate::bench::{Bench, KEY, OLD};
use crate::wire::{Wire, ask, bearer, chat, exchange, post};

const CHAT: &str = "/v1/chat/completions";

async fn refused(bench: &Bench, request: &str, status: u16, code: &str) {
    let answer = exchange(bench.address, request).await;
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{request}");
    let id = answer.header("x-request-id").expect("an id");
    assert!(id.starts_with("req_"));
    assert_eq!(answer.header("request-id"), Some(id));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(!answer.body.contains(KEY), "no answer repeats a key");
}

#[tokio::test]
async fn malformed_bodies_are_400_with_the_reason() {
    let bench = Bench::start().await;
    let deep = format!("{{\"model\":\"plain\",\"messages\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = chat("plain", false).replace("\"stream\"", "\"max_tokens\":2147483648,\"stream\"");
    for (body, code) in [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("not json", "invalid_json"),
        ("{\"model\":\"plain\",\"messages\":[]} trailing", "invalid_json"),
        (deep.as_str(), "json_too_deep"),
        ("[]", "invalid_request"),
        ("{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}", "invalid_request"),
        (huge.as_str(), "invalid_value"),
    ] {
        refused(&bench, &post(CHAT, &bearer(), body), 400, code).await;
    }
}

#[tokio::test]
async fn unknown_models_are_404_and_the_name_is_not_a_path() {
    let bench = Bench::start().await;
    for model in ["nope", "../plain", "plain%2f", "plain#", "plain?x"] {
        refused(&bench, &ask(model, true), 404, "model_not_found").await;
    }
    refused(&bench, &ask("plain\r\nx: y", true), 400, "invalid_value").await;
}

#[tokio::test]
async fn credentials_that_are_missing_wrong_expired_or_at_odds_are_401() {
    let bench = Bench::start().await;
    let body = chat("plain", false);
    for (headers, code) in [
        (String::new(), "missing_api_key"),
        ("authorization: Bearer wrong-key\r\n".to_owned(), "invalid_api_key"),
        (format!("authorization: Basic {KEY}\r\n"), "invalid_api_key"),
        (format!("x-api-key: {OLD}\r\n"), "expired_api_key"),
        (format!("authorization: Bearer {KEY}\r\nx-api-key: other\r\n"), "conflicting_credentials"),
        (format!("api-key: {KEY}\r\nx-api-key: other\r\n"), "conflicting_credentials"),
        (
            format!("authorization: Bearer {KEY}\r\nauthorization: Bearer other\r\n"),
            "conflicting_credentials",
        ),
    ] {
        refused(&bench, &post(CHAT, &headers, &body), 401, code).await;
    }
    let answer = exchange(bench.address, post(CHAT, "", &body)).await;
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
}

#[tokio::test]
async fn every_spelling_of_the_credential_is_equal() {
    let bench = Bench::start().await;
    for headers in [
        bearer(),
        format!("x-api-key: {KEY}\r\n"),
        format!("api-key: {KEY}\r\n"),
        format!("authorization: bearer {KEY}\r\nx-api-key: {KEY}\r\n"),
    ] {
        assert_eq!(exchange(bench.address, post(CHAT, &headers, &chat("whole", false))).await.status, 200);
    }
}

#[tokio::test]
async fn other_media_and_compressed_bodies_are_415() {
    let bench = Bench::start().await;
    let body = chat("plain", false);
    let request = post(CHAT, &bearer(), &body);
    for media in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"] {
        refused(&bench, &request.replace("application/json", media), 415, "unsupported_media_type").await;
    }
    refused(
        &bench,
        &request.replace("content-type: application/json\r\n", ""),
        415,
        "unsupported_media_type",
    )
    .await;
    for coding in ["gzip", "br", "gzip, identity"] {
        let headers = format!("{}content-encoding: {coding}\r\n", bearer());
        refused(&bench, &post(CHAT, &headers, &body), 415, "unsupported_media_type").await;
    }
    let fine = request
        .replace("application/json", "Application/JSON; charset=UTF-8")
        .replace("\"plain\"", "\"whole\"");
    assert_eq!(exchange(bench.address, fine).await.status, 200);
}

#[tokio::test]
async fn an_announced_body_that_is_too_large_is_413_before_it_is_sent() {
    let bench = Bench::set(EdgeSettings { max_body: 1024, ..EdgeSettings::default() }).await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{}content-length: 99999999999\r\n\r\n",
        bearer()
    );
    refused(&bench, &head, 413, "request_too_large").await;
}

#[tokio::test]
async fn a_chunked_body_that_grows_too_large_is_413_and_the_client_can_read_it() {
    let bench = Bench::set(EdgeSettings { max_body: 64 << 10, ..EdgeSettings::default() }).await;
    let mut wire = Wire::open(bench.address).await;
    wire.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{}transfer-encoding: chunked\r\n\r\n",
        bearer()
    ))
    .await;
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    for _ in 0..16 {
        wire.send(&chunk).await;
    }
    let answer = wire.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (413, "request_too_large"));
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn strangers_cannot_upload_large_bodies() {
    let bench = Bench::start().await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        10 << 20
    );
    refused(&bench, &head, 401, "missing_api_key").await;
}

#[tokio::test]
async fn a_truncated_upload_is_incomplete_and_never_reaches_a_provider() {
    let bench = Bench::start().await;
    let request = ask("plain", false);
    let mut wire = Wire::open(bench.address).await;
    wire.send(&request[..request.len() - 5]).await;
    wire.stream.shutdown().await.unwrap();
    let answer = wire.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (400, "incomplete_body"));
    assert_eq!(bench.watch.calls.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(bench.codes(1).await, ["incomplete_body"]);
}

#[tokio::test]
async fn our_own_timeout_header_must_be_a_time() {
    let bench = Bench::start().await;
    let headers = format!("{}x-request-timeout: soon\r\n", bearer());
    refused(&bench, &post(CHAT, &headers, &chat("plain", false)), 400, "invalid_value").await;
}

#[tokio::test]
async fn a_vendor_that_answers_with_garbage_is_502_and_one_that_limits_us_is_429_with_the_wait() {
    let bench = Bench::start().await;
    for stream in [false, true] {
        refused(&bench, &ask("html", stream), 502, "upstream_bad_response").await;
    }
    for stream in [false, true] {
        // Whoever has the time is asked to wait by nobody: the gateway does it. This one has not.
        let headers = format!("{}x-request-timeout: 1s\r\n", bearer());
        let answer = exchange(bench.address, post(CHAT, &headers, &chat("limited", stream))).await;
        assert_eq!((answer.status, answer.code().as_str()), (429, "upstream_rate_limited"));
        assert_eq!(answer.header("retry-after"), Some("2"));
        assert_eq!(answer.header("x-should-retry"), Some("true"));
        let wait: u64 = answer.header("retry-after-ms").and_then(|wait| wait.parse().ok()).expect("a wait");
        // The second is not even sent: the vendor has said how long it wants to be left alone.
        let (asked, provider) = if stream { ("0", None) } else { ("1", Some("vendor")) };
        assert!(if stream { wait < 1_200 } else { wait == 1_200 }, "{wait}");
        assert_eq!(
            (answer.header("penstock-attempts"), answer.header("penstock-provider")),
            (Some(asked), provider)
        );
    }
}

#[tokio::test]
async fn a_deadline_ends_the_wait_for_a_silent_provider_with_504() {
    let bench = Bench::start().await;
    for stream in [false, true] {
        let headers = format!("{}x-request-timeout: 50ms\r\n", bearer());
        refused(&bench, &post(CHAT, &headers, &chat("silent", stream)), 504, "deadline_exceeded").await;
    }
}

#[tokio::test]
async fn a_panic_is_500_is_recorded_once_and_the_next_request_is_fine() {
    let bench = Bench::start().await;
    let mut wire = Wire::open(bench.address).await;
    for stream in [false, true] {
        wire.send(ask("panic", stream)).await;
        let answer = wire.answer().await.expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (500, "internal_error"));
        wire.send(ask("whole", false)).await;
        assert_eq!(wire.answer().await.expect("an answer").status, 200, "on the same connection");
    }
    wire.send(ask("panic-later", false)).await;
    assert_eq!(wire.answer().await.expect("an answer").code(), "internal_error");
    assert_eq!(bench.codes(5).await.len(), 5);
}

#[tokio::test]
async fn refusals_are_recorded_with_their_codes() {
    let bench = Bench::start().await;
    exchange(bench.address, post(CHAT, &bearer(), "{")).await;
    exchange(bench.address, post("/v1/nothing", "", "{}")).await;
    exchange(bench.address, post(CHAT, "", &chat("plain", false))).await;
    assert_eq!(bench.codes(3).await, ["invalid_json", "route_not_found", "missing_api_key"]);
}
