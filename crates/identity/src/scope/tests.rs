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

#[test]
fn each_action_of_each_family_is_granted_alone() {
    let families = [
        "chat",
        "embeddings",
        "models",
        "vector_stores",
        "datasets",
        "jobs",
        "agents",
        "tools",
        "mcp",
        "relay",
        "admin",
    ];
    assert_eq!(KNOWN_SCOPES.iter().map(|(family, _)| *family).collect::<Vec<_>>(), families);
    let all: Vec<Scope> = KNOWN_SCOPES
        .iter()
        .flat_map(|(family, actions)| actions.iter().map(|action| Scope { family, action }))
        .collect();
    for granted in &all {
        let text = granted.to_string();
        for asked in &all {
            // Above all: who reads a vector store or a data set does not write it, nor the other one.
            assert_eq!(set(&text).allows(*asked, None), granted == asked, "{text} for {asked}");
            assert_eq!(set(&text).allows(*asked, Some("kb")), granted == asked, "{text} for {asked} of kb");
            let named = format!("{text}:kb");
            assert_eq!(set(&named).allows(*asked, Some("kb")), granted == asked, "{named} for {asked} of kb");
            assert!(!set(&named).allows(*asked, Some("other")), "{named} for {asked} of another");
        }
    }
}

#[test]
fn roles_cover_what_they_say_and_are_written_as_they_were_given() {
    let audit = Scope::new("admin", "audit");
    for (role, read, keys, audited) in [
        ("role:viewer", true, false, false),
        ("role:operator", true, true, false),
        ("role:auditor", true, false, true),
        ("role:admin", true, true, true),
    ] {
        let set = set(role);
        let found = (set.allows(READ, None), set.allows(KEYS, None), set.allows(audit, None));
        assert_eq!(found, (read, keys, audited), "{role}");
        assert!(!set.allows(CHAT, None), "{role} asks no model");
        assert_eq!(set.to_vec(), [role]);
        assert_eq!(ScopeSet::parse(set.to_vec()).expect("its own text"), set);
    }
    assert_eq!(set("chat:* role:viewer admin:keys").to_vec(), ["chat:*", "role:viewer", "admin:keys"]);
    assert_eq!(
        set("role:viewer").admin_beyond(&set("role:auditor")).map(|s| s.to_string()).as_deref(),
        Some("admin:audit")
    );
    for bad in ["role:", "role:root", "role:*", "role:admin:x", "Role:admin"] {
        assert!(ScopeSet::parse([bad]).is_err(), "{bad}");
    }
}

#[test]
fn scopes_of_other_services_are_passed_over_in_tokens() {
    let words = ["openid", "profile", "chat:invoke", "email", "https://graph.example.com/read", "chat:fly"];
    assert_eq!(ScopeSet::parse_known(words).to_vec(), ["chat:invoke"]);
    let many: Vec<String> = (0..500).map(|n| format!("chat:invoke:m{n}")).collect();
    assert_eq!(ScopeSet::parse_known(many.iter().map(String::as_str)).to_vec().len(), MAX_SCOPES);
}

/// Every scope that contract and routes name, for every object and for one.
fn all() -> Vec<(Scope, String)> {
    let pairs = KNOWN_SCOPES
        .iter()
        .flat_map(|(family, actions)| actions.iter().map(move |action| (*family, *action)));
    let scopes = pairs.map(|(family, action)| Scope { family, action });
    scopes.flat_map(|scope| [(scope, scope.to_string()), (scope, format!("{scope}:kb"))]).collect()
}

#[test]
fn every_scope_of_the_contract_is_read_and_written_as_it_is() {
    for text in [
        "chat:*",
        "chat:invoke:large",
        "embeddings:invoke",
        "vector_stores:read:kb",
        "vector_stores:write:kb",
        "datasets:read",
        "datasets:write",
        "jobs:*",
        "agents:run:helpdesk",
        "tools:call:get_balance",
        "mcp:call:tickets",
        "admin:keys",
        "admin:read",
    ] {
        assert_eq!(ScopeSet::parse([text]).expect(text).to_vec(), [text]);
    }
}

#[test]
fn a_grant_gives_its_own_scope_and_object_and_nothing_else() {
    for (granted, text) in all() {
        let held = ScopeSet::parse([&text]).expect("known");
        let of_all = !text.ends_with(":kb");
        for (asked, _) in all() {
            let same = granted == asked;
            assert_eq!(held.allows(asked, Some("kb")), same, "{text} for {asked}:kb");
            assert_eq!(held.allows(asked, Some("other")), same && of_all, "{text} for {asked}:other");
            assert_eq!(held.allows(asked, None), same && of_all, "{text} for every {asked}");
            assert_eq!(held.reaches(asked), same, "{text} reaches {asked}");
        }
    }
}

#[test]
fn sets_give_what_one_of_their_grants_gives_in_any_order_and_no_more() {
    let all = all();
    // Every pair: what two grants give together is what either gives alone.
    for (_, one) in &all {
        for (_, two) in &all {
            let parse = |texts: &[&String]| ScopeSet::parse(texts).expect("known");
            let (both, turned) = (parse(&[one, two]), parse(&[two, one]));
            for (asked, _) in &all {
                for object in [None, Some("kb"), Some("other")] {
                    let either = parse(&[one]).allows(*asked, object) || parse(&[two]).allows(*asked, object);
                    assert_eq!(both.allows(*asked, object), either, "{one} {two} for {asked} {object:?}");
                    assert_eq!(turned.allows(*asked, object), either, "{two} {one} for {asked} {object:?}");
                }
            }
        }
    }
}
