use super::*;

const CHAT: Scope = Scope::new("chat", "invoke");
const EMBED: Scope = Scope::new("embeddings", "invoke");
const MODELS: Scope = Scope::new("models", "read");
const KEYS: Scope = Scope::new("admin", "keys");
const READ: Scope = Scope::new("admin", "read");

fn set(text: &str) -> ScopeSet {
    ScopeSet::parse(text.split(' ').filter(|scope| !scope.is_empty())).expect("valid scopes")
}

/// granted, asked, object, allowed, reached
const MATRIX: &[(&str, Scope, Option<&str>, bool, bool)] = &[
    ("", CHAT, None, false, false),
    ("", CHAT, Some("large"), false, false),
    ("*", CHAT, None, true, true),
    ("*", KEYS, None, true, true),
    ("*:*", READ, None, true, true),
    ("*:*:*", CHAT, Some("large"), true, true),
    ("chat:*", CHAT, None, true, true),
    ("chat:*", CHAT, Some("large"), true, true),
    ("chat:*", EMBED, None, false, false),
    ("chat:*", KEYS, None, false, false),
    ("chat:invoke", CHAT, None, true, true),
    ("chat:invoke", CHAT, Some("large"), true, true),
    ("chat:invoke:*", CHAT, Some("large"), true, true),
    ("chat:invoke:*", CHAT, None, true, true),
    ("chat:invoke:large", CHAT, Some("large"), true, true),
    ("chat:invoke:large", CHAT, Some("Large"), false, true),
    ("chat:invoke:large", CHAT, Some("larger"), false, true),
    ("chat:invoke:large", CHAT, Some("larg"), false, true),
    ("chat:invoke:large", CHAT, Some(""), false, true),
    ("chat:invoke:large", CHAT, None, false, true),
    ("chat:*:large", CHAT, Some("large"), true, true),
    ("chat:*:large", CHAT, Some("small"), false, true),
    ("chat:invoke:llama3:8b", CHAT, Some("llama3:8b"), true, true),
    ("chat:invoke:llama3:8b", CHAT, Some("llama3"), false, true),
    ("chat:invoke:openai/gpt-5", CHAT, Some("openai/gpt-5"), true, true),
    ("*:read", MODELS, None, true, true),
    ("*:read", READ, None, true, true),
    ("*:read", KEYS, None, false, false),
    ("*:invoke", EMBED, None, true, true),
    ("admin:read", KEYS, None, false, false),
    ("admin:keys", KEYS, None, true, true),
    ("admin:keys", READ, None, false, false),
    ("admin:*", READ, None, true, true),
    ("admin:*", CHAT, None, false, false),
    ("embeddings:invoke chat:invoke:small", CHAT, Some("small"), true, true),
    ("embeddings:invoke chat:invoke:small", EMBED, Some("minilm"), true, true),
    ("embeddings:invoke chat:invoke:small", CHAT, Some("large"), false, true),
];

#[test]
fn scopes_allow_exactly_what_the_matrix_says() {
    for (granted, asked, object, allowed, reached) in MATRIX {
        let set = set(granted);
        assert_eq!(set.allows(*asked, *object), *allowed, "[{granted}] for {asked} of {object:?}");
        assert_eq!(set.reaches(*asked), *reached, "[{granted}] reaching {asked}");
        assert!(!allowed || set.reaches(*asked), "allowed without being reached: [{granted}] {asked}");
    }
}

#[test]
fn scopes_are_written_as_they_are_read() {
    for text in ["*", "chat:*", "chat:invoke", "chat:invoke:a:b/c", "*:read", "*:*:kb", "admin:keys"] {
        let once = set(text);
        assert_eq!(once.to_vec(), [text]);
        assert_eq!(ScopeSet::parse(once.to_vec()).expect("its own text"), once);
    }
    assert_eq!(set("chat:* chat:* *:*").to_vec(), ["chat:*", "*"], "a repeated grant is kept once");
}

#[test]
fn what_grants_nothing_known_is_refused_with_a_suggestion() {
    for (bad, hint) in [
        ("", "form"),
        ("chat", "form"),
        ("chat:", "form"),
        (":invoke", "form"),
        ("chta:*", "did you mean `chat`"),
        ("chat:invok", "did you mean `invoke`"),
        ("zzz:*", "known are"),
        ("*:zzz", "known are"),
        ("chat:keys", "known are invoke"),
        ("chat:invoke:", "one whole name"),
        ("chat:invoke:gpt-*", "models list"),
        ("chat:invoke:a b", "one whole name"),
        ("chat:invoke:a\u{3000}b", "one whole name"),
        ("Chat:*", "did you mean `chat`"),
        ("chat:*\n", "known are"),
        ("**", "form"),
    ] {
        let problems = ScopeSet::parse([bad]).expect_err(bad);
        assert!(problems[0].contains(hint), "{bad:?}: {problems:?}");
        assert!(!problems[0].contains('\n'), "control characters reach the log: {problems:?}");
    }
    assert!(ScopeSet::parse([format!("chat:invoke:{}", "x".repeat(300))]).is_err());
    assert!(ScopeSet::parse(vec!["chat:*"; 65]).is_err());
    let all = ScopeSet::parse(["chta:*", "chat:*", "nope"]).expect_err("two are bad");
    assert_eq!(all.len(), 2, "all problems at once: {all:?}");
}

#[test]
fn only_who_holds_an_admin_right_may_hand_it_out() {
    for (held, granted, beyond) in [
        ("admin:keys", "chat:* embeddings:*", None),
        ("admin:keys", "admin:keys", None),
        ("admin:keys", "admin:read", Some("admin:read")),
        ("admin:keys", "*", Some("admin:read")),
        ("admin:keys", "*:read", Some("admin:read")),
        ("admin:read", "*:keys:x", Some("admin:keys")),
        ("admin:keys:x", "admin:keys", Some("admin:keys")),
        ("admin:*", "*", None),
        ("*", "*", None),
    ] {
        let found = set(held).admin_beyond(&set(granted)).map(|scope| scope.to_string());
        assert_eq!(found.as_deref(), beyond, "[{held}] hands out [{granted}]");
    }
}
