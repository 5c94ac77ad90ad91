//! Vendors that refuse, redirect, or are not there.

use std::time::Duration;

use penstock_domain::{Blame, Code, Retry};
use serde_json::json;

use crate::support::{
    CHAT_ASK, KEY, STREAM_ASK, Server, Step, chat_through, http, json_answer, plain, send, vendor,
};

#[tokio::test]
async fn a_refused_credential_is_ours_to_mend_and_says_nothing_of_the_vendors_text() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let text = r#"{"error":{"message":"Incorrect API key provided: sk-ab***yz","type":"invalid_request_error","code":"invalid_api_key"}}"#;
        let server = Server::always(vec![send(json_answer(status, text))]).await;
        for ask in [CHAT_ASK, STREAM_ASK] {
            let error = chat_through(&*plain(&server), ask).await.failed.expect("an error");
            assert_eq!(error.code(), Code::UpstreamAuth, "{status}");
            assert_eq!(error.blame(), Blame::Gateway);
            assert!(!error.to_string().contains("sk-ab") && !error.say().contains("Incorrect"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_rate_limit_carries_its_wait_in_each_of_its_spellings() {
    let cases = [
        ("retry-after: 20\r\n", 20_000),
        ("retry-after-ms: 1250\r\nretry-after: 2\r\n", 1_250),
        ("date: Wed, 21 Oct 2026 07:28:00 GMT\r\nretry-after: Wed, 21 Oct 2026 07:28:30 GMT\r\n", 30_000),
    ];
    let body = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
    for (headers, wait) in cases {
        let headers = format!("content-type: application/json\r\n{headers}");
        let server = Server::always(vec![send(http("429 Too Many Requests", &headers, body))]).await;
        let error = chat_through(&*plain(&server), CHAT_ASK).await.failed.expect("an error");
        assert_eq!(error.code(), Code::UpstreamRateLimited, "{headers}");
        assert_eq!(error.retry(), Retry::After(Duration::from_millis(wait)), "{headers}");
    }
}

#[tokio::test]
async fn an_error_status_is_understood_whatever_its_body_is() {
    let cases: Vec<Vec<Step>> = vec![
        vec![send(http("502 Bad Gateway", "content-type: text/html\r\n", "<html>nginx</html>"))],
        vec![send(http("503 Service Unavailable", "", ""))],
        vec![send(http("500 Oops", "content-type: application/json\r\n", "x".repeat(1 << 20)))],
        vec![send("HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\nshort"), Step::Close],
    ];
    for steps in cases {
        let server = Server::always(steps).await;
        let answer = chat_through(&*plain(&server), STREAM_ASK).await;
        assert_eq!(answer.code(), Some(Code::UpstreamError));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_status_whose_body_never_comes_is_still_that_error() {
    let server =
        Server::always(vec![send("HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\n"), Step::Stall]).await;
    let begun = tokio::time::Instant::now();
    let answer = chat_through(&*plain(&server), CHAT_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamError));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let elsewhere = Server::always(vec![send(json_answer("200 OK", "{}"))]).await;
    for status in
        ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let location = format!("location: {}/steal?token=sentinel-location\r\n", elsewhere.base);
        let server = Server::always(vec![send(http(status, &location, ""))]).await;
        let error = chat_through(&*plain(&server), CHAT_ASK).await.failed.expect("an error");
        assert_eq!(error.code(), Code::UpstreamBadResponse);
        assert!(error.say().contains(&status[..3]), "{error}");
        assert!(!error.say().contains("sentinel-location"), "{error}");
        assert_eq!(server.requests(), 1);
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let base = format!("http://{}/v1", listener.local_addr().expect("address"));
    drop(listener);
    let provider = vendor("openai_compatible", json!({"base_url": base, "api_key": KEY}));
    let answer = chat_through(&*provider, CHAT_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamUnreachable));
    let provider = vendor("openai_compatible", json!({"base_url": "http://nobody.invalid/v1"}));
    assert_eq!(chat_through(&*provider, CHAT_ASK).await.code(), Some(Code::UpstreamUnreachable));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_ends_with_the_connect_time() {
    // Accepts, reads the greeting, and never greets back.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("https://{}/v1", listener.local_addr().expect("address"));
    let authority = crate::tls::authority();
    let settings = json!({"base_url": base, "api_key": KEY, "ca_file": authority.file.path(), "timeouts": {"connect": "300ms"}});
    let begun = tokio::time::Instant::now();
    let answer = chat_through(&*vendor("openai_compatible", settings), CHAT_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamUnreachable));
    assert!(answer.failed.expect("an error").say().contains("300 ms"));
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    drop(listener);
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_bad_response() {
    let server = Server::always(vec![send("SSH-2.0-OpenSSH_9.2\r\n\r\n"), Step::Close]).await;
    let answer = chat_through(&*plain(&server), CHAT_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamBadResponse));
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let server = Server::always(vec![send(huge), Step::Close]).await;
    let answer = chat_through(&*plain(&server), CHAT_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamBadResponse));
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_may_take_longer_than_a_first_token_but_not_longer_than_the_total() {
    let slow =
        vec![Step::Wait(Duration::from_secs(3)), send(json_answer("200 OK", crate::support::CHAT_WHOLE))];
    let server = Server::always(slow).await;
    let answer = chat_through(&*crate::support::hasty(&server, 500, 500, 60_000), CHAT_ASK).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    let answer = chat_through(&*crate::support::hasty(&server, 500, 500, 2_000), CHAT_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamTimeout));
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_bounds_every_phase() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    for steps in [vec![Step::Stall], vec![send(whole), Step::Stall]] {
        let server = Server::always(steps).await;
        let begun = tokio::time::Instant::now();
        let mut call = crate::support::call(penstock_domain::Task::Chat, CHAT_ASK);
        call.deadline = Some(begun.into_std() + Duration::from_millis(400));
        let provider = plain(&server);
        let Err(error) = provider.chat().expect("chats").chat(call).await else { panic!("an answer came") };
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    }
}
