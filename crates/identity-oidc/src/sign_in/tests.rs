use penstock_config::{DurationText, TokenAlgorithm};
use serde_json::json;

use super::*;
use crate::jwk;
use crate::tests::forge::Signer;

const ISSUER: &str = "https://id.example.com";

fn keeper() -> Arc<OidcDoorkeeper> {
    let login = AdminLogin {
        issuer: ISSUER.into(),
        client_id: "penstock".into(),
        client_secret: None,
        redirect_uri: None,
        scopes: vec!["openid".into()],
        role_claim: "realm.groups".into(),
        roles: Default::default(),
        max_session: DurationText(Duration::from_secs(3600)),
        idle: DurationText(Duration::from_secs(600)),
        algorithms: vec![TokenAlgorithm::Rs256],
        ca_file: None,
    };
    OidcDoorkeeper::new(login, "https://gateway.example.com/admin/callback".into())
}

fn ask() -> Ask {
    Ask { state: "s".into(), nonce: "n".into(), verifier: Secret::new("v") }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "penstock", "sub": "alice", "nonce": "n", "exp": now() + 300, "iat": now(),
        "email": "alice@example.com", "realm": {"groups": ["staff", "admins"]}, "sid": "s1",
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
        value => claims[name] = value,
    }
    claims
}

/// Who signs in with this token.
fn shown(signer: &Signer, header: &Value, claims: &Value) -> Result<Person, &'static str> {
    let keeper = keeper();
    let set = json!({"keys": [signer.jwk()]}).to_string();
    let keys = jwk::read(set.as_bytes()).expect("keys");
    let told = keeper.proved(&signer.sign_as(header, claims), &keys, &[None, Some("jwt")])?;
    person(&keeper.login, &told, &ask())
}

#[test]
fn an_id_token_for_this_sign_in_says_who_came() {
    let signer = Signer::rsa("RS256");
    let person = shown(&signer, &json!({"alg": "RS256", "kid": signer.kid}), &claims()).expect("good");
    let roles = vec!["staff".to_owned(), "admins".to_owned()];
    let (name, sid) = ("alice@example.com".to_owned(), Some("s1".to_owned()));
    assert_eq!(person, Person { subject: "alice".into(), name, roles, sid });
}

#[test]
fn id_tokens_that_were_not_made_for_this_sign_in_are_refused() {
    let (signer, other) = (Signer::rsa("RS256"), Signer::p256());
    let header = json!({"alg": "RS256", "kid": signer.kid, "typ": "JWT"});
    assert!(shown(&signer, &header, &claims()).is_ok());
    for (what, claims) in [
        ("another nonce", with("nonce", json!("m"))),
        ("no nonce", with("nonce", Value::Null)),
        ("another client", with("aud", json!("other"))),
        ("two clients and no party", with("aud", json!(["penstock", "other"]))),
        ("another party", with("azp", json!("other"))),
        ("another issuer", with("iss", json!("https://evil.example"))),
        ("no end", with("exp", Value::Null)),
        ("an end long ago", with("exp", json!(now() - 120))),
        ("from the future", with("iat", json!(now() + 600))),
        ("nobody", with("sub", Value::Null)),
        ("nobody's name", with("sub", json!(""))),
    ] {
        assert!(shown(&signer, &header, &claims).is_err(), "{what}");
    }
    for (what, header) in [
        ("an access token", json!({"alg": "RS256", "kid": signer.kid, "typ": "at+jwt"})),
        ("a logout token", json!({"alg": "RS256", "kid": signer.kid, "typ": "logout+jwt"})),
        ("an unknown key", json!({"alg": "RS256", "kid": "other"})),
        ("no algorithm", json!({"alg": "none", "kid": signer.kid})),
        ("an algorithm nobody configured", json!({"alg": "RS512", "kid": signer.kid})),
    ] {
        assert!(shown(&signer, &header, &claims()).is_err(), "{what}");
    }
    let strange = json!({"alg": "ES256", "kid": other.kid});
    assert!(shown(&other, &strange, &claims()).is_err(), "another algorithm than configured");
}

#[test]
fn only_a_fresh_logout_token_ends_sessions() {
    let told = |edit: fn(&mut Map<String, Value>)| {
        let mut claims = json!({"sub": "alice", "sid": "s1", "iat": now(), "events": {LOGOUT: {}}});
        edit(claims.as_object_mut().expect("an object"));
        ending(ISSUER, claims.as_object().expect("an object"))
    };
    let expected =
        Ending::AtIssuer { issuer: ISSUER.into(), sid: Some("s1".into()), subject: Some("alice".into()) };
    assert_eq!(told(|_| {}), Ok(expected));
    let edits: [fn(&mut Map<String, Value>); 6] = [
        |claims| drop(claims.insert("nonce".into(), json!("n"))),
        |claims| drop(claims.remove("events")),
        |claims| drop(claims.insert("events".into(), json!({"other": {}}))),
        |claims| drop(claims.insert("iat".into(), json!(now() - 3600))),
        |claims| drop(claims.remove("iat")),
        |claims| {
            claims.remove("sid");
            claims.remove("sub");
        },
    ];
    for (index, edit) in edits.into_iter().enumerate() {
        assert!(told(edit).is_err(), "edit {index}");
    }
}
