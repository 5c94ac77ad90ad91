//! The key goes to its host and nowhere else.

use std::error::Error as StdError;

use penstock_domain::Error;
use serde_json::json;

use crate::support::{
    CHAT_ASK, CHAT_EVENTS, EVENTS_HEAD, KEY, STREAM_ASK, Server, Step, chat_through, chunk, hasty, http,
    json_answer, plain, send, vendor,
};

fn everything(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?} {} {:?}", error.say(), error.param());
    let mut cause: Option<&dyn StdError> = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(" {error} {error:?} {error:#?}"));
        cause = error.source();
    }
    text
}

#[tokio::test(start_paused = true)]
async fn no_error_holds_the_key_even_when_the_vendor_sends_it_back() {
    let echo =
        format!(r#"{{"error":{{"message":"bad key {KEY}","type":"x","code":"{KEY}","param":"{KEY}"}}}}"#);
    let location = format!("location: https://evil.example/?k={KEY}\r\n");
    let typed = format!("content-type: {KEY}\r\n");
    let scripts: Vec<Vec<Step>> = vec![
        vec![Step::Close],
        vec![Step::Reset],
        vec![Step::Stall],
        vec![send(format!("{KEY}\r\n\r\n")), Step::Close],
        vec![send(format!("HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n")), Step::Close],
        vec![send(http("302 Found", &location, ""))],
        vec![send(http("200 OK", &typed, KEY))],
        vec![send(json_answer("200 OK", KEY))],
        vec![send(json_answer("200 OK", &echo))],
        vec![send(json_answer("401 Unauthorized", &echo))],
        vec![send(json_answer("403 Forbidden", &echo))],
        vec![send(json_answer("429 Too Many Requests", &echo))],
        vec![send(json_answer("500 Oops", &echo))],
        vec![send(http("503 Oops", "", &echo))],
        vec![send(EVENTS_HEAD), send(chunk(CHAT_EVENTS[1])), Step::Stall],
        vec![send(EVENTS_HEAD), send(chunk(CHAT_EVENTS[1])), Step::Close],
        vec![send(EVENTS_HEAD), send(chunk(format!("data: {KEY}\n\n"))), Step::Close],
        vec![send(EVENTS_HEAD), send(format!("{KEY}\r\n")), Step::Close],
    ];
    for (number, script) in scripts.into_iter().enumerate() {
        let server = Server::always(script).await;
        for ask in [CHAT_ASK, STREAM_ASK] {
            let answer = chat_through(&*hasty(&server, 200, 200, 500), ask).await;
            let error = answer.failed.unwrap_or_else(|| panic!("script {number} gave an answer"));
            let text = everything(&error);
            assert!(!text.contains(KEY), "script {number}: {text}");
        }
    }
}

#[tokio::test]
async fn no_problem_of_the_settings_holds_the_key() {
    let mut registry = penstock_config::Registry::<dyn penstock_provider::Provider, ()>::new();
    penstock_provider_http::register(&mut registry);
    let cases = [
        json!({"base_url": format!("https://{KEY}@example.com"), "api_key": format!("{KEY}\u{7}")}),
        json!({"base_url": "http://example.com", "api_key": KEY}),
        json!({"base_url": format!("https://example.com/?key={KEY}")}),
        json!({"base_url": "https://example.com", "headers": {"authorization": KEY, "x-a": format!("{KEY}\r\nx: y")}}),
    ];
    for settings in cases {
        let section = penstock_config::Section::new("openai_compatible", "vendor", settings);
        let Err(problems) = registry.build(&section, &()) else { panic!("accepted") };
        let text = format!("{problems:?} {}", penstock_config::report(&problems));
        assert!(!text.contains(KEY), "{text}");
    }
}

#[tokio::test]
async fn a_vendor_without_a_key_gets_no_credential() {
    let mut server = Server::always(vec![send(json_answer("200 OK", crate::support::CHAT_WHOLE))]).await;
    let provider = vendor("vllm", json!({"base_url": server.base}));
    chat_through(&*provider, CHAT_ASK).await;
    let seen = server.seen().await;
    assert_eq!((seen.header("authorization"), seen.header("api-key")), (None, None));
}

#[tokio::test]
async fn two_vendors_never_share_a_credential_or_a_pool() {
    let mut server = Server::always(vec![send(json_answer("200 OK", crate::support::CHAT_WHOLE))]).await;
    let first = plain(&server);
    let second = vendor("openai_compatible", json!({"base_url": server.base, "api_key": "sk-other"}));
    for provider in [&first, &second, &first] {
        chat_through(&**provider, CHAT_ASK).await;
    }
    let seen = [server.seen().await, server.seen().await, server.seen().await];
    let keys: Vec<_> = seen.iter().map(|s| s.header("authorization").expect("a key").to_owned()).collect();
    assert_eq!(keys, [format!("Bearer {KEY}"), "Bearer sk-other".to_owned(), format!("Bearer {KEY}")]);
    assert_eq!(seen.map(|s| s.connection), [0, 1, 0]);
}
