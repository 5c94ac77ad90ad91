use super::*;
use crate::presets::PRESETS;

fn vendor(kind: &str, settings: serde_json::Value) -> Vendor {
    let preset = PRESETS.iter().find(|preset| preset.kind == kind).expect("a preset");
    let settings = serde_json::from_value(settings).expect("settings");
    Vendor::build(preset, settings).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn vendors_with_a_known_address_are_asked_there() {
    let cases = [
        ("openai", "https://api.openai.com/v1/chat/completions"),
        ("anthropic", "https://api.anthropic.com/v1/messages"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"),
        ("vllm", "http://127.0.0.1:8000/v1/chat/completions"),
        ("ollama", "http://127.0.0.1:11434/v1/chat/completions"),
        ("groq", "https://api.groq.com/openai/v1/chat/completions"),
        ("mistral", "https://api.mistral.ai/v1/chat/completions"),
        ("openrouter", "https://openrouter.ai/api/v1/chat/completions"),
        ("together", "https://api.together.xyz/v1/chat/completions"),
        ("deepseek", "https://api.deepseek.com/v1/chat/completions"),
    ];
    for (kind, url) in cases {
        let vendor = vendor(kind, serde_json::json!({"api_key": "sk-1"}));
        assert_eq!(vendor.url(Spot::Chat, "m").expect("a URL").to_string(), url);
    }
    assert_eq!(cases.len(), PRESETS.iter().filter(|preset| preset.base_url.is_some()).count());
}

#[test]
fn the_credential_is_put_on_for_its_own_origin_and_no_other() {
    let vendor = vendor("openai", serde_json::json!({"api_key": "sk-1"}));
    let own = vendor.url(Spot::Chat, "m").expect("a URL");
    let request = vendor.dress(&own, Bytes::new(), true, 0).expect("a request");
    assert_eq!(request.headers()["authorization"], "Bearer sk-1");
    for foreign in [
        "http://api.openai.com/v1/chat/completions",
        "https://api.openai.com:8443/v1/chat/completions",
        "https://api.openai.com.evil.example/v1/chat/completions",
    ] {
        let foreign: Uri = foreign.parse().expect("a URL");
        let error = vendor.dress(&foreign, Bytes::new(), true, 0).expect_err("another host");
        assert_eq!(error.code(), Code::InternalError);
    }
}

#[test]
fn an_ability_that_the_vendor_lacks_is_not_offered() {
    let vendor = vendor("deepseek", serde_json::json!({"api_key": "sk-1"}));
    let provider: &dyn Provider = &vendor;
    assert!(provider.chat().is_some() && provider.complete().is_none() && provider.embed().is_none());
    assert_eq!(vendor.url(Spot::Embeddings, "m").expect_err("no path").code(), Code::Unsupported);
}
