use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::presets::PRESETS;

fn preset(kind: &str) -> &'static Preset {
    PRESETS.iter().find(|preset| preset.kind == kind).expect("a preset")
}

fn check(kind: &str, settings: Value) -> Result<Checked, Vec<Problem>> {
    let settings: Settings = serde_json::from_value(settings).expect("the shape is right");
    settings.check(preset(kind))
}

fn problems(kind: &str, settings: Value) -> Vec<Problem> {
    check(kind, settings).err().unwrap_or_default()
}

fn paths(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.path.as_str()).collect()
}

#[test]
fn a_known_vendor_needs_a_key_and_nothing_else() {
    for preset in PRESETS {
        let mut settings = json!({"api_key": "sk-1"});
        if preset.base_url.is_none() {
            settings["base_url"] = json!(preset.example);
        }
        assert!(check(preset.kind, settings).is_ok(), "{}", preset.kind);
    }
}

#[test]
fn a_missing_key_names_the_variable_that_mends_it() {
    let found = problems("openai", json!({}));
    assert_eq!(paths(&found), ["api_key"]);
    assert!(
        found[0].hint.as_ref().is_some_and(|hint| hint.contains("api_key: ${OPENAI_API_KEY}")),
        "{found:?}"
    );
    assert!(check("vllm", json!({})).is_ok(), "a server of one's own may have no key");
}

#[test]
fn all_problems_come_at_once() {
    let found = problems(
        "openai_compatible",
        json!({
            "api_key": "two words",
            "headers": {"Host": "evil", "authorization": "x", "Transfer-Encoding": "chunked", "content-length": "1", "x y": "z", "x-ok": "fine", "x-bad": "a\r\nb"},
            "timeouts": {"connect": "0s", "idle": "0ms"},
            "max_concurrency": 0,
            "api_version": "1",
            "deployments": {"a": "b"},
        }),
    );
    let expected = [
        "base_url",
        "headers.Host",
        "headers.Transfer-Encoding",
        "headers.authorization",
        "headers.content-length",
        "headers",
        "headers.x-bad",
        "api_key",
        "timeouts.connect",
        "timeouts.idle",
        "max_concurrency",
        "api_version",
        "deployments",
    ];
    let mut expected = expected.to_vec();
    let mut found = paths(&found);
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_key_over_plain_http_to_a_public_host_is_refused() {
    let found =
        problems("openai_compatible", json!({"base_url": "http://api.example.com/v1", "api_key": "sk-1"}));
    assert_eq!(paths(&found), ["base_url"]);
    for fine in [
        json!({"base_url": "http://api.example.com/v1"}),
        json!({"base_url": "https://api.example.com/v1", "api_key": "sk-1"}),
        json!({"base_url": "http://vllm:8000/v1", "api_key": "sk-1"}),
        json!({"base_url": "http://10.0.0.7:8000/v1", "api_key": "sk-1"}),
        json!({"base_url": "http://api.example.com/v1", "api_key": "sk-1", "trust": "internal"}),
    ] {
        assert!(check("openai_compatible", fine.clone()).is_ok(), "{fine}");
    }
}

#[test]
fn a_key_from_a_file_may_end_with_a_line_break() {
    let checked = check("openai", json!({"api_key": "sk-1\n"})).unwrap_or_else(|p| panic!("{p:?}"));
    let (name, value) = checked.keys.header(0).expect("a credential").expect("a key");
    assert_eq!((name.as_str(), value.to_str().expect("text")), ("authorization", "Bearer sk-1"));
    assert!(value.is_sensitive() && !format!("{value:?}").contains("sk-1"));
}

#[test]
fn a_vendor_has_as_many_credentials_as_different_keys() {
    let checked =
        check("anthropic", json!({"api_keys": ["a", "b", "c"]})).unwrap_or_else(|p| panic!("{p:?}"));
    assert_eq!(checked.keys.count(), 3);
    let key = |credential| checked.keys.header(credential).ok().flatten();
    assert_eq!(key(1).expect("a key"), (HeaderName::from_static("x-api-key"), HeaderValue::from_static("b")));
    // Never another key in place of one that is not there.
    assert_eq!(checked.keys.header(3).expect_err("no such key").code(), penstock_domain::Code::InternalError);
    let none = check("vllm", json!({})).unwrap_or_else(|p| panic!("{p:?}"));
    assert_eq!((none.keys.count(), none.keys.header(0).expect("fine")), (1, None));
    let many: Vec<String> = (0..65).map(|n| format!("k{n}")).collect();
    for (wrong, at) in [
        (json!({"api_key": "a", "api_keys": ["b"]}), "api_keys"),
        (json!({"api_keys": []}), "api_keys"),
        (json!({"api_keys": many}), "api_keys"),
        (json!({"api_keys": ["a", "b", "a\n"]}), "api_keys[2]"),
        (json!({"api_keys": ["a", ""]}), "api_keys[1]"),
    ] {
        assert_eq!(paths(&problems("openai", wrong.clone())), [at], "{wrong}");
    }
    let exposed = json!({"base_url": "http://api.example.com/v1", "api_keys": ["a", "b"]});
    assert_eq!(paths(&problems("openai_compatible", exposed)), ["base_url"]);
}

#[test]
fn an_empty_key_is_a_problem() {
    assert_eq!(paths(&problems("openai", json!({"api_key": " \n"}))), ["api_key"]);
    assert_eq!(paths(&problems("vllm", json!({"api_key": ""}))), ["api_key"]);
}

#[test]
fn time_outs_have_the_usual_defaults_and_a_longest_value() {
    let checked = check("vllm", json!({"timeouts": {"idle": "5s", "total": "9999999d"}}))
        .unwrap_or_else(|p| panic!("{p:?}"));
    assert_eq!(checked.timeouts.connect, Timeouts::default().connect);
    assert_eq!(checked.timeouts.idle, Duration::from_secs(5));
    assert_eq!(checked.timeouts.total, Duration::from_secs(86_400));
}

#[test]
fn unknown_settings_are_refused_and_all_known_ones_are_described() {
    for wrong in [json!({"base_uri": "x"}), json!({"timeouts": {"read": "1s"}}), json!({"trust": "yes"})] {
        assert!(serde_json::from_value::<Settings>(wrong.clone()).is_err(), "{wrong}");
    }
    let schema = penstock_config::schema_of::<Settings>();
    assert_eq!(schema["additionalProperties"], json!(false));
    for (name, property) in schema["properties"].as_object().expect("properties") {
        assert!(
            property["description"].as_str().is_some_and(|text| text.len() > 20),
            "{name} has no description"
        );
    }
}

#[test]
fn headers_that_differ_in_capitals_are_the_same_header() {
    let found = problems("vllm", json!({"headers": {"X-A": "1", "x-a": "2"}}));
    assert_eq!(paths(&found), ["headers.x-a"]);
}

#[test]
fn azure_wants_an_address_and_names_that_fit_into_a_path() {
    let found = problems(
        "azure_openai",
        json!({"api_key": "k", "api_version": "..", "deployments": {"gpt": "../x"}}),
    );
    assert_eq!(paths(&found), ["base_url", "api_version"]);
    let found = problems(
        "azure_openai",
        json!({"api_key": "k", "base_url": "https://r.openai.azure.com", "deployments": {"gpt": "../x"}}),
    );
    assert_eq!(paths(&found), ["deployments.gpt"]);
}
