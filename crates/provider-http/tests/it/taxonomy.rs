//! What vendors' errors mean: every file of `tests/fixtures/errors`, sent by a server to a provider of its kind.
//!
//! A file holds a list of `{name, status, headers?, body | events, code, remedy, wait_ms?}`. `body` is JSON, or a string
//! that goes out as it is; `events` are data of a stream that began with a 200.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use penstock_domain::{Blame, Code, Error, Remedy, Retry};
use penstock_provider::Provider;
use serde_json::{Map, Value, json};

use crate::support::{
    CHAT_ASK, KEY, STREAM_ASK, Server, chat_through, events_answer, http, message_through, send, vendor,
};

const MESSAGE_STREAM_ASK: &str =
    r#"{"model":"large","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// The folders, and the kinds of providers that their vendors are reached by.
const VENDORS: [(&str, &str); 16] = [
    ("openai", "openai"),
    ("azure_openai", "azure_openai"),
    ("groq", "groq"),
    ("mistral", "mistral"),
    ("openrouter", "openrouter"),
    ("together", "together"),
    ("deepseek", "deepseek"),
    ("xai", "openai_compatible"),
    ("vllm", "vllm"),
    ("llamacpp", "llamacpp"),
    ("ollama", "ollama"),
    ("tgi", "tgi"),
    ("anthropic", "anthropic"),
    ("gemini", "gemini"),
    ("bedrock", "bedrock"),
    ("proxies", "openai_compatible"),
];

fn cases(folder: &Path) -> Vec<(String, Value)> {
    let mut cases = Vec::new();
    for file in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let file = file.expect("an entry").path();
        let text = std::fs::read_to_string(&file).expect("a file");
        let list: Vec<Value> =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(!list.is_empty(), "{}", file.display());
        cases.extend(list.into_iter().map(|case| (format!("{}: {}", file.display(), case["name"]), case)));
    }
    cases
}

fn provider(kind: &str, server: &Server) -> Arc<dyn Provider> {
    let mut settings = json!({"base_url": server.base, "api_key": KEY});
    if kind == "bedrock" {
        settings["region"] = json!("eu-central-1");
    }
    vendor(kind, settings)
}

fn answer(case: &Value) -> Vec<u8> {
    if let Some(events) = case["events"].as_array() {
        let events: Vec<String> = events
            .iter()
            .map(|data| match data["type"].as_str() {
                Some(name) => format!("event: {name}\ndata: {data}\n\n"),
                None => format!("data: {data}\n\n"),
            })
            .collect();
        return events_answer(&events.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let body = match &case["body"] {
        Value::String(text) => text.clone(),
        body => body.to_string(),
    };
    let none = Map::new();
    let headers = case["headers"].as_object().unwrap_or(&none);
    let kind = if case["body"].is_string() { "text/html" } else { "application/json" };
    let mut lines = format!("content-type: {kind}\r\n");
    for (name, value) in headers {
        lines.push_str(&format!("{name}: {}\r\n", value.as_str().expect("a header is a text")));
    }
    http(&format!("{} Whatever", case["status"]), &lines, body)
}

fn check(name: &str, case: &Value, error: &Error) {
    let remedy = format!("{:?}", error.remedy()).to_lowercase();
    let found = (error.code().name(), remedy.as_str());
    let expected = (case["code"].as_str().expect("a code"), case["remedy"].as_str().expect("a remedy"));
    assert_eq!(found, expected, "{name}: {error}");
    let wait = match error.retry() {
        Retry::After(wait) => Some(u64::try_from(wait.as_millis()).expect("a wait")),
        Retry::Maybe | Retry::Never => None,
    };
    assert_eq!(wait, case["wait_ms"].as_u64(), "{name}: {:?}", error.retry());
    // What the vendor says about the operator's account is nobody's business.
    let theirs =
        matches!(error.code(), Code::UpstreamRejected | Code::ContextLengthExceeded | Code::ContentFiltered);
    let message = case.pointer("/body/error/message").or_else(|| case.pointer("/body/message"));
    if let (Some(message), false) = (message.and_then(Value::as_str), theirs) {
        assert!(!error.say().contains(message), "{name}: {}", error.say());
    }
    assert_eq!(error.blame() == Blame::Client, theirs, "{name}");
    assert!(!error.say().contains("org-"), "{name}: {}", error.say());
}

#[tokio::test]
async fn every_vendors_errors_mean_what_their_fixtures_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/errors");
    let mut seen = BTreeSet::new();
    let mut count = 0;
    for (folder, kind) in VENDORS {
        for (name, case) in cases(&root.join(folder)) {
            let server = Server::always(vec![send(answer(&case))]).await;
            let provider = provider(kind, &server);
            let asks: &[&str] =
                if case["events"].is_array() { &[STREAM_ASK] } else { &[CHAT_ASK, STREAM_ASK] };
            for ask in asks {
                let failed = chat_through(&*provider, ask).await.failed;
                check(&name, &case, &failed.unwrap_or_else(|| panic!("{name}: an answer")));
            }
            if kind == "anthropic" {
                let failed = message_through(&*provider, MESSAGE_STREAM_ASK).await.failed;
                check(&name, &case, &failed.unwrap_or_else(|| panic!("{name}: an answer")));
            }
            seen.insert(case["remedy"].as_str().expect("a remedy").to_owned());
            count += 1;
        }
    }
    let folders = std::fs::read_dir(&root).expect("the fixtures").count();
    assert_eq!(folders, VENDORS.len(), "a folder that nobody reads");
    assert!(count >= 100, "{count} cases");
    let remedies =
        [Remedy::None, Remedy::Other, Remedy::Cool, Remedy::Retire, Remedy::Larger, Remedy::Filtered];
    for remedy in remedies {
        let name = format!("{remedy:?}").to_lowercase();
        assert!(seen.contains(&name), "no fixture for {name}");
    }
}
