//! Requests that nobody should send.

use serde_json::json;

use crate::support::*;

fn post(path: &str, header: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: m\r\nconnection: close\r\n{header}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

#[tokio::test]
async fn an_unknown_directive_is_named_with_a_suggestion_wherever_it_stood() {
    let mock = plain().await;
    let answer = whole(&mock, json!({"latancy_ms": 3})).await;
    assert_eq!(answer.status, 400);
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "there is no mock directive `latancy_ms`; did you mean `latency_ms`?");
    let mut body = question(false);
    body["mock"] = json!({"texd": "a"});
    let answer = raw(mock.addr(), &request(MESSAGES, None, &body)).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["type"].clone()),
        (400, json!("invalid_request_error"))
    );
    assert!(answer.text().contains("did you mean `text`?"));
    assert_eq!(mock.stats().by_path[CHAT][&400], 1);
}

#[tokio::test]
async fn bodies_that_are_not_requests_are_refused_in_the_dialect_of_the_path() {
    let mock = plain().await;
    let deep = format!(r#"{{"model":"m","messages":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for body in ["", "{", "[]", "null", "\u{feff}{}", r#"{"model": 3, "messages": []}"#, deep.as_str()] {
        for path in [CHAT, MESSAGES, "/v1/completions", "/v1/embeddings"] {
            let answer = raw(mock.addr(), &post(path, "", body)).await;
            assert_eq!(answer.status, 400, "{path} {}", &body[..body.len().min(40)]);
            assert!(answer.json()["error"]["message"].is_string());
            assert_eq!(answer.json()["type"] == "error", path == MESSAGES);
        }
    }
    assert_eq!(mock.stats().in_flight, 0);
    assert_eq!(whole(&mock, json!({})).await.status, 200, "and it still answers");
}

#[tokio::test]
async fn a_giant_script_is_refused_in_the_header_and_in_the_body() {
    let mock = plain().await;
    let giant = format!(r#"{{"text":"{}"}}"#, "x".repeat(70_000));
    let body = question(false).to_string();
    let header = raw(mock.addr(), &post(CHAT, &format!("x-mock-script: {giant}\r\n"), &body)).await;
    assert_eq!(header.status, 400);
    assert!(header.text().contains("at most 65536"), "{}", header.text());
    let member = format!(r#"{},"mock":{giant}}}"#, body.trim_end_matches('}').to_owned() + "}]");
    let member = member.replace("}]}]", "}]");
    let answer = raw(mock.addr(), &post(CHAT, "", &member)).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let monster = format!("x-mock-script: {}\r\n", "x".repeat(600_000));
    let refused = raw_or_reset(&mock, &post(CHAT, &monster, &body)).await;
    assert!(refused == 431 || refused == 0, "{refused}");
    assert_eq!(whole(&mock, json!({})).await.status, 200, "and it still answers");
}

/// The status, or 0 when the server hung up before it had read everything.
async fn raw_or_reset(mock: &penstock_provider_mock::MockHandle, bytes: &[u8]) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(mock.addr()).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut head = [0; 12];
    match stream.read_exact(&mut head).await {
        Ok(_) => std::str::from_utf8(&head[9..]).unwrap().parse().unwrap(),
        Err(_) => 0,
    }
}

#[tokio::test]
async fn unknown_paths_and_truncated_bodies_are_refused() {
    let mock = plain().await;
    assert_eq!(raw(mock.addr(), &post("/nowhere", "", "{}")).await.status, 404);
    assert_eq!(mock.stats().by_path["other"][&404], 1);
    let mut client =
        open(mock.addr(), b"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\ncontent-length: 99\r\n\r\n{")
            .await;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(mock.stats().in_flight, 0);
    assert_eq!(whole(&mock, json!({})).await.status, 200, "and it still answers");
}
