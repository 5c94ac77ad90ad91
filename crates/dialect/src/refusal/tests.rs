use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use penstock_domain::{Blame, Code, Retry};

use super::*;
use crate::refusal::table::Row;

fn of(status: u16, body: &str) -> Error {
    Refusal { status, body: body.as_bytes(), ..Refusal::default() }.meaning()
}

fn waiting(status: u16, wait: Duration, body: &str) -> Error {
    Refusal { status, wait: Some(wait), body: body.as_bytes(), ..Refusal::default() }.meaning()
}

#[test]
fn a_status_has_a_meaning() {
    let body = r#"{"error":{"message":"no","type":"x","code":null}}"#;
    for (status, code) in [
        (400, Code::UpstreamRejected),
        (401, Code::UpstreamAuth),
        (402, Code::UpstreamQuotaExceeded),
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
    assert_eq!(waiting(529, wait, "").retry(), Retry::After(wait));
}

#[test]
fn a_wait_is_kept() {
    let wait = Duration::from_millis(1500);
    for status in [429, 503] {
        assert_eq!(waiting(status, wait, "{}").retry(), Retry::After(wait));
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
    assert_eq!(of(429, quota).code(), Code::UpstreamQuotaExceeded);
    let wait = waiting(429, Duration::from_secs(1), quota);
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
        (r#"{"error":{"code":"insufficient_quota"}}"#, Code::UpstreamQuotaExceeded),
        ("garbage", Code::UpstreamError),
    ] {
        assert_eq!(in_band(body.as_bytes()).code(), code, "{body}");
    }
}

#[test]
fn a_wait_is_read_in_all_its_spellings() {
    for (text, milliseconds) in [
        ("1.2s", Some(1_200)),
        ("6m0s", Some(360_000)),
        ("12ms", Some(12)),
        ("1h30m", Some(5_400_000)),
        ("20 seconds. Visit 3 pages", Some(20_000)),
        ("9.816s. Visit https://", Some(9_816)),
        ("7", Some(7_000)),
        ("1d2h3m4s", Some(86_400_000)),
        ("99999999999999999999h", Some(86_400_000)),
        ("soon", None),
        ("", None),
        ("-1s", None),
        ("1.2.3s", None),
    ] {
        assert_eq!(wait_of(text).map(|w| w.as_millis()), milliseconds, "{text:?}");
    }
    for (text, milliseconds) in [
        ("Rate limit reached. Please try again in 174ms. Visit", Some(174)),
        ("Please retry after 6 seconds. Contact us", Some(6_000)),
        ("Please retry in 34.074824224s.", Some(34_074)),
        ("Please try again later.", None),
    ] {
        assert_eq!(wait::in_message(text).map(|w| w.as_millis()), milliseconds, "{text:?}");
    }
}

#[test]
fn the_wait_nearest_to_the_request_is_told() {
    let body = r#"{"error":{"message":"Please try again in 2s.","code":"rate_limit_exceeded"}}"#;
    let refusal = Refusal { status: 429, reset: Some(Duration::from_secs(300)), ..Refusal::default() };
    let retry = |refusal: Refusal<'_>| refusal.meaning().retry();
    let all = Refusal { wait: Some(Duration::from_secs(1)), body: body.as_bytes(), ..refusal };
    assert_eq!(retry(all), Retry::After(Duration::from_secs(1)));
    assert_eq!(retry(Refusal { wait: None, ..all }), Retry::After(Duration::from_secs(2)));
    assert_eq!(retry(refusal), Retry::After(Duration::from_secs(300)));
    // A reset of a limit says nothing about an outage.
    assert_eq!(retry(Refusal { status: 503, ..refusal }), Retry::Maybe);
}

#[test]
fn a_kind_that_a_header_tells_counts_as_a_word() {
    let body = br#"{"message":"no"}"#;
    let kinds = [
        ("ServiceQuotaExceededException", Code::UpstreamRateLimited),
        ("ExpiredTokenException", Code::UpstreamAuth),
        ("ValidationException", Code::UpstreamRejected),
    ];
    for (kind, code) in kinds {
        let refusal = Refusal { status: 400, kind: Some(kind), body, ..Refusal::default() };
        assert_eq!(refusal.meaning().code(), code, "{kind}");
    }
}

#[test]
fn what_is_read_of_a_body_is_bounded() {
    let reasons = vec![serde_json::json!({"reason": "x".repeat(100)}); 1000];
    let body = serde_json::json!({"error": {"message": "m", "details": reasons}}).to_string();
    // Cut where it is too long, it is no JSON any more; the status alone speaks.
    assert_eq!(of(429, &body).code(), Code::UpstreamRateLimited);
    let few = serde_json::json!({"error": {"message": "m", "details": reasons[..200]}}).to_string();
    assert_eq!(read(few.as_bytes()).words.len(), 32);
    let long = serde_json::json!({"error": {"code": "c".repeat(129), "type": "t"}}).to_string();
    assert_eq!(read(long.as_bytes()).words, ["t"]);
}

#[test]
fn every_row_can_be_reached_and_every_status_has_one() {
    for status in 300..600 {
        let error = of(status, r#"{"error":{"message":"x"}}"#);
        assert!(!error.say().is_empty(), "{status}");
    }
    for (at, row) in ROWS.iter().enumerate() {
        let status = match row.status {
            [] => 400,
            [digit, ..] if *digit < 10 => digit * 100,
            [status, ..] => *status,
        };
        let said = Said {
            words: row.word.first().map(|word| word.trim_start_matches('*').to_owned()).into_iter().collect(),
            json: true,
            ..Said::default()
        };
        let message = row.says.first().copied().unwrap_or_default();
        // The very last one is for what has no status of its own.
        let status = if at + 1 == ROWS.len() { 405 } else { status };
        let first = ROWS.iter().position(|row| row.fits(status, &said, message));
        assert_eq!(first, Some(at), "{} {:?} {:?} {:?}", row.vendor, row.status, row.word, row.says);
    }
}

/// The rows as the page of the docs shows them.
fn page() -> String {
    let status = |row: &Row| match row.status {
        [] => "any".to_owned(),
        some => some
            .iter()
            .map(|status| if *status < 10 { format!("{status}xx") } else { status.to_string() })
            .collect::<Vec<_>>()
            .join(", "),
    };
    let list = |texts: &[&str]| {
        let code = |text: &&str| match text.trim_start_matches('*') {
            text if text.contains('`') => format!("`` {text} ``"),
            text => format!("`{}`", text.trim_end()),
        };
        texts.iter().map(code).collect::<Vec<_>>().join(", ")
    };
    let mut page = String::from(
        "| who | status | the vendor's code or type | its message says | our code | remedy |\n|---|---|---|---|---|---|\n",
    );
    for row in ROWS {
        let remedy = format!("{:?}", row.remedy).to_lowercase();
        let (word, says) = (list(row.word), list(row.says));
        let code = row.code;
        let link = format!("[{code}](../errors/{code}.md)");
        writeln!(page, "| {} | {} | {word} | {says} | {link} | {remedy} |", row.vendor, status(row)).unwrap();
    }
    page
}

#[test]
fn the_page_of_vendor_errors_shows_this_very_table() {
    let docs = include_str!("../../../../docs/reference/vendor-errors.md");
    let page = page();
    assert!(docs.contains(&page), "put this into docs/reference/vendor-errors.md:\n{page}");
}
