use std::error::Error as _;
use std::time::Duration;

use penstock_domain::{Blame, Code, Retry};
use serde_json::{Value, json};

use super::*;

fn of(status: u16, body: &str) -> Error {
    vendor_error(status, None, body.as_bytes())
}

#[test]
fn a_body_has_the_four_members_and_ours() {
    let error = Error::new(Code::InvalidValue, "`n` must be \"small\"").with_param("n");
    let body: Value = serde_json::from_slice(&error_body(&error, &RequestId::new("req_7"))).unwrap();
    let expected = json!({"error": {
        "message": "`n` must be \"small\"", "type": "invalid_request_error", "param": "n", "code": "invalid_value",
        "penstock": {"request_id": "req_7", "docs_url": "/docs/errors/invalid_value"},
    }});
    assert_eq!(body, expected);
}

#[test]
fn every_code_has_a_body_with_a_type() {
    for &code in Code::ALL {
        let body: Value =
            serde_json::from_slice(&error_body(&Error::new(code, "x"), &RequestId::new("r"))).unwrap();
        assert!(body["error"]["type"].as_str().unwrap().ends_with("_error"), "{code}");
        assert!(body["error"]["param"].is_null());
    }
}

#[test]
fn a_status_has_a_meaning() {
    let body = r#"{"error":{"message":"no","type":"x","code":null}}"#;
    for (status, code) in [
        (400, Code::UpstreamRejected),
        (401, Code::UpstreamAuth),
        (402, Code::UpstreamAuth),
        (403, Code::UpstreamAuth),
        (404, Code::UpstreamRejected),
        (405, Code::UpstreamBadResponse),
        (408, Code::UpstreamTimeout),
        (409, Code::UpstreamError),
        (413, Code::UpstreamRejected),
        (422, Code::UpstreamRejected),
        (429, Code::UpstreamRateLimited),
        (500, Code::UpstreamError),
        (503, Code::UpstreamError),
        (504, Code::UpstreamTimeout),
        (529, Code::Overloaded),
        (302, Code::UpstreamBadResponse),
    ] {
        assert_eq!(of(status, body).code(), code, "{status}");
    }
}

#[test]
fn an_overloaded_vendor_is_told_from_a_broken_one() {
    let anthropic = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let openai = r#"{"error":{"message":"The engine is currently overloaded, please try again later"}}"#;
    for (status, body) in [(529, anthropic), (529, "{}"), (503, openai)] {
        let error = of(status, body);
        assert_eq!((error.code(), error.retry()), (Code::Overloaded, Retry::Maybe), "{status} {body}");
    }
    assert_eq!(of(503, r#"{"error":{"message":"maintenance"}}"#).code(), Code::UpstreamError);
    let wait = Duration::from_secs(7);
    assert_eq!(vendor_error(529, Some(wait), b"").retry(), Retry::After(wait));
}

#[test]
fn a_wait_is_kept() {
    let wait = Duration::from_millis(1500);
    for status in [429, 503] {
        assert_eq!(vendor_error(status, Some(wait), b"{}").retry(), Retry::After(wait));
    }
    assert_eq!(of(429, "{}").retry(), Retry::Maybe);
    assert_eq!(of(401, "{}").retry(), Retry::Never);
}

#[test]
fn a_refused_credential_of_ours_shows_nothing_of_the_vendors_text() {
    let body =
        r#"{"error":{"message":"Incorrect API key provided: sk-abcdefgh1234.","code":"invalid_api_key"}}"#;
    for status in [400, 401, 403] {
        let error = of(status, body);
        assert_eq!((error.code(), error.blame()), (Code::UpstreamAuth, Blame::Gateway));
        assert!(!error.say().contains("Incorrect") && !error.say().contains("sk-abc"), "{}", error.say());
        let source = error.source().unwrap().to_string();
        assert!(source.contains("Incorrect") && !source.contains("abcdefgh"), "{source}");
    }
}

#[test]
fn the_vendors_judgement_of_the_callers_input_is_shown_bounded() {
    let error = of(400, r#"{"error":{"message":"bad\u0007 role\n!","param":"messages[0].role"}}"#);
    assert_eq!(error.say(), "the provider rejected the request: bad  role !");
    assert_eq!(error.param(), Some("messages[0].role"));
    let long = format!(r#"{{"message":"{}"}}"#, "é".repeat(5000));
    assert!(of(422, &long).say().chars().count() < 700);
    assert_eq!(
        of(422, r#"{"detail":[{"loc":["body"]}]}"#).say(),
        r#"the provider rejected the request: [{"loc":["body"]}]"#
    );
}

#[test]
fn context_and_quota_are_recognised() {
    let long = r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#;
    assert_eq!(of(400, long).code(), Code::ContextLengthExceeded);
    let vllm = r#"{"object":"error","message":"This model's maximum context length is 10","code":400}"#;
    assert_eq!(of(400, vllm).code(), Code::ContextLengthExceeded);
    let quota = r#"{"error":{"message":"pay","code":"insufficient_quota"}}"#;
    assert_eq!(of(429, quota).code(), Code::UpstreamAuth);
    let wait = vendor_error(429, Some(Duration::from_secs(1)), quota.as_bytes());
    assert_eq!(wait.code(), Code::UpstreamRateLimited);
}

#[test]
fn html_is_never_the_callers_fault() {
    for status in [400, 404, 502] {
        let error = of(status, "<html><body>Bad gateway sk-secretsecret</body></html>");
        assert_ne!(error.blame(), Blame::Client, "{status}");
        assert!(!error.say().contains("html"));
        assert!(!error.source().unwrap().to_string().contains("secretsecret"));
    }
}

#[test]
fn an_error_inside_a_200_is_read_by_its_own_words() {
    for (body, code) in [
        (r#"{"error":{"message":"m","code":502}}"#, Code::UpstreamError),
        (r#"{"error":{"message":"m","code":429}}"#, Code::UpstreamRateLimited),
        (r#"{"error":{"message":"m","type":"invalid_request_error"}}"#, Code::UpstreamRejected),
        (r#"{"error":{"message":"m","type":"server_error"}}"#, Code::UpstreamError),
        (r#"{"error":"boom"}"#, Code::UpstreamError),
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Code::Overloaded),
        (r#"{"error":{"code":"insufficient_quota"}}"#, Code::UpstreamAuth),
        ("garbage", Code::UpstreamError),
    ] {
        assert_eq!(in_band_error(body.as_bytes()).code(), code, "{body}");
    }
}
