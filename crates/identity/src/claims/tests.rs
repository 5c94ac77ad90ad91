use penstock_config::TokenAlgorithm;

use super::*;
use crate::Scope;

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn settings() -> OidcIssuer {
    OidcIssuer {
        issuer: "https://id.example.com".into(),
        audience: "penstock".into(),
        scope_claim: "scope".into(),
        team_claim: Some("team".into()),
        roles_claim: Some("roles".into()),
        roles: BTreeMap::new(),
        scopes: Vec::new(),
        models: Vec::new(),
        algorithms: vec![TokenAlgorithm::Rs256],
        token_type: penstock_config::TokenType::AccessToken,
        jwks_url: None,
        ca_file: None,
        introspection: None,
    }
}

fn claims() -> Claims {
    Claims {
        issuer: "https://id.example.com".into(),
        subject: Some("alice".into()),
        audience: vec!["other".into(), "penstock".into()],
        expires: Some(NOW + 300),
        not_before: Some(NOW),
        issued: Some(NOW),
        identifies: false,
        scopes: vec!["openid".into(), "chat:invoke".into()],
        roles: Vec::new(),
        team: Some("support".into()),
        asked: None,
    }
}

fn caller(claims: &Claims) -> Result<Caller, Error> {
    Rules::read(&settings()).expect("sound").caller(claims, Limits::default(), now())
}

#[test]
fn a_sound_token_becomes_a_caller_with_its_own_rights() {
    let caller = caller(&claims()).expect("sound");
    assert_eq!(caller.key_id.as_str(), "jwt:https://id.example.com:alice");
    assert_eq!((caller.team.as_deref(), &*caller.name), (Some("support"), "alice"));
    assert_eq!(caller.scopes.to_vec(), ["chat:invoke"]);
    assert_eq!(caller.source, KeySource::Token);
}

#[test]
fn each_missing_or_wrong_claim_alone_is_refused() {
    type Edit = (&'static str, fn(&mut Claims), Code);
    let edits: [Edit; 14] = [
        ("other audience", |c| c.audience = vec!["other".into()], Code::InvalidToken),
        ("no audience", |c| c.audience.clear(), Code::InvalidToken),
        ("longer audience", |c| c.audience = vec!["penstock2".into()], Code::InvalidToken),
        ("capital audience", |c| c.audience = vec!["Penstock".into()], Code::InvalidToken),
        ("no expiry", |c| c.expires = None, Code::InvalidToken),
        ("expired", |c| c.expires = Some(NOW - 60), Code::ExpiredToken),
        ("expired for ever", |c| c.expires = Some(0), Code::ExpiredToken),
        ("not yet", |c| c.not_before = Some(NOW + 61), Code::InvalidToken),
        ("from the future", |c| c.issued = Some(NOW + 61), Code::InvalidToken),
        ("no subject", |c| c.subject = None, Code::InvalidToken),
        ("empty subject", |c| c.subject = Some(String::new()), Code::InvalidToken),
        ("an ID token", |c| c.identifies = true, Code::InvalidToken),
        ("a team that is no name", |c| c.team = Some("a b".into()), Code::InvalidToken),
        ("an empty team", |c| c.team = Some(String::new()), Code::InvalidToken),
    ];
    for (name, edit, code) in edits {
        let mut bad = claims();
        edit(&mut bad);
        assert_eq!(caller(&bad).expect_err(name).code(), code, "{name}");
    }
}

#[test]
fn clocks_may_be_a_minute_apart_and_no_more() {
    let edits: [fn(&mut Claims); 3] =
        [|c| c.expires = Some(NOW - 59), |c| c.not_before = Some(NOW + 60), |c| c.issued = Some(NOW + 60)];
    for edit in edits {
        let mut late = claims();
        edit(&mut late);
        assert!(caller(&late).is_ok(), "{late:?}");
    }
}

#[test]
fn roles_come_from_their_own_claim_alone() {
    let read = Scope::new("admin", "read");
    let keys = Scope::new("admin", "keys");
    let with = |scopes: &[&str], roles: &[&str]| {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        caller(&Claims { scopes: list(scopes), roles: list(roles), ..claims() }).expect("sound").scopes
    };
    assert!(with(&[], &["viewer"]).allows(read, None));
    assert!(!with(&[], &["viewer"]).allows(keys, None));
    assert!(with(&[], &["operator", "unknown"]).allows(keys, None));
    assert!(with(&["role:admin", "*", "viewer"], &[]).is_empty(), "what a scope claim says gives no role");
    let mapped = OidcIssuer { roles: [("ops".to_owned(), "operator".to_owned())].into(), ..settings() };
    let rules = Rules::read(&mapped).expect("sound");
    let of = |role: &str| {
        let claims = Claims { roles: vec![role.to_owned()], ..claims() };
        rules.caller(&claims, Limits::default(), now()).expect("sound").scopes.allows(keys, None)
    };
    assert!(of("ops"));
    assert!(!of("operator"), "with a map of its own, names outside it say nothing");
}

#[test]
fn no_two_subjects_share_a_key_id() {
    let long = |end: &str| format!("{}{end}", "x".repeat(200));
    let subjects = ["a", "a b", "a:b", "a\nb", "ä", "~", "", &long("1"), &long("2")];
    let mut ids: Vec<String> = subjects.iter().map(|s| key_id("https://a", s).to_string()).collect();
    ids.extend(subjects.iter().map(|s| key_id("https://b", s).to_string()));
    let digest = ids[7].rsplit(':').next().expect("a part").to_owned();
    ids.push(key_id("https://a", &digest).to_string());
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "{ids:?}");
    assert!(ids.iter().all(|id| id.len() <= 256 && id.bytes().all(|byte| byte.is_ascii_graphic())));
}

#[test]
fn a_section_that_would_not_hold_is_refused_member_by_member() {
    let bad = OidcIssuer {
        issuer: "http://id.example.com".into(),
        jwks_url: Some("https://user@id.example.com/keys".into()),
        scopes: vec!["chta:*".into()],
        models: vec!["a b".into()],
        roles: [("x".to_owned(), "root".to_owned())].into(),
        ..settings()
    };
    let members: Vec<String> =
        Rules::read(&bad).err().expect("five").into_iter().map(|(member, _)| member).collect();
    assert_eq!(members, ["issuer", "jwks_url", "scopes", "models", "roles.x"]);
    for address in
        ["http://localhost:9", "http://127.0.0.1:9/x", "http://[::1]:9", "https://id.example.com/realms/a"]
    {
        assert_eq!(address_problem(address), None, "{address}");
    }
    for address in [
        "http://localhost.evil.com",
        "http://127.0.0.1.evil.com",
        "https://",
        "https:///x",
        "ftp://a",
        "https://a?b",
        "http://10.0.0.1",
        "https://a b",
    ] {
        assert!(address_problem(address).is_some(), "{address}");
    }
}
