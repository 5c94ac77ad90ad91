//! Tokens that are good, and the forgeries of RFC 8725 and of published failures.

pub(crate) mod forge;
mod forgeries;
mod served;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use penstock_config::{TokenAlgorithm, TokenType};
use penstock_domain::Code;
use serde_json::{Value, json};

use super::*;
use forge::{Signer, b64, join};
use forgeries::{Cast, header};

const ISSUER: &str = "https://id.example.com";

pub(crate) fn settings(issuer: &str) -> OidcIssuer {
    OidcIssuer {
        issuer: issuer.into(),
        audience: "penstock".into(),
        scope_claim: "scope".into(),
        team_claim: Some("org.team".into()),
        roles_claim: Some("realm_access.roles".into()),
        roles: Default::default(),
        scopes: Vec::new(),
        models: Vec::new(),
        algorithms: vec![TokenAlgorithm::Rs256, TokenAlgorithm::Es256],
        token_type: TokenType::AccessToken,
        jwks_url: None,
        ca_file: None,
        introspection: None,
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "penstock", "sub": "alice", "exp": 1_800_000_300, "iat": 1_800_000_000,
        "client_id": "app", "jti": "1", "scope": "openid chat:invoke",
        "org": {"team": "support"}, "realm_access": {"roles": ["viewer"]},
    })
}

/// One issuer whose keys are these.
fn issuers(settings: OidcIssuer, signers: &[&Signer]) -> Issuers {
    let revision: Arc<AtomicU64> = Arc::default();
    let issuer = Issuer::new(settings, Arc::clone(&revision));
    let set = json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()});
    issuer.take(Some(jwk::read(set.to_string().as_bytes()).expect("keys")));
    Issuers { issuers: vec![Arc::new(issuer)], revision }
}

fn refused(issuers: &Issuers, token: &str) -> Code {
    issuers.prove(token).expect_err(token).code()
}

#[test]
fn good_tokens_of_every_algorithm_are_proved_and_say_what_they_say() {
    for signer in [
        Signer::rsa("RS256"),
        Signer::rsa("RS512"),
        Signer::rsa("PS384"),
        Signer::p256(),
        Signer::p384(),
        Signer::ed25519(),
    ] {
        let alg: TokenAlgorithm = serde_json::from_value(signer.alg.into()).expect("known");
        let issuers = issuers(OidcIssuer { algorithms: vec![alg], ..settings(ISSUER) }, &[&signer]);
        let found =
            issuers.prove(&signer.sign(&claims())).unwrap_or_else(|error| panic!("{}: {error}", signer.alg));
        assert_eq!(found.subject.as_deref(), Some("alice"));
        assert_eq!(found.audience, ["penstock"]);
        assert_eq!(found.expires, Some(1_800_000_300));
        assert_eq!(found.scopes, ["openid", "chat:invoke"]);
        assert_eq!((found.team.as_deref(), found.roles), (Some("support"), vec!["viewer".to_owned()]));
    }
}

#[test]
fn the_classic_forgeries_are_refused() {
    let cast = Cast::new();
    let issuers = issuers(settings(ISSUER), &[&cast.rsa, &cast.ec]);
    assert!(issuers.prove(&cast.good).is_ok());
    // An unknown kid first asks for a fetch, once.
    let unknown = cast.rsa.sign_as(&header("RS256", "unknown"), &claims());
    assert_eq!(refused(&issuers, &unknown), Code::IssuerUnavailable);
    issuers.issuers[0].fetched_for_test();
    let forged = [cast.algorithms(), cast.headers(), cast.texts(), cast.contents()].concat();
    for (name, token) in &forged {
        let error = issuers.prove(token).expect_err(name);
        assert_eq!(error.code(), Code::InvalidToken, "{name}: {error}");
        assert!(!error.say().contains("alice") && !error.say().contains("evil"), "{name} is echoed: {error}");
    }
    assert!(forged.len() >= 40);
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn an_issuer_may_be_allowed_to_call_its_access_tokens_jwt() {
    let rsa = Signer::rsa("RS256");
    let issuers = issuers(OidcIssuer { token_type: TokenType::Jwt, ..settings(ISSUER) }, &[&rsa]);
    for typ in [json!("JWT"), json!("at+jwt"), json!("application/at+jwt"), Value::Null] {
        let mut header = json!({"alg": "RS256", "kid": rsa.kid, "typ": typ});
        if header["typ"].is_null() {
            header.as_object_mut().expect("an object").remove("typ");
        }
        assert!(issuers.prove(&rsa.sign_as(&header, &claims())).is_ok(), "{header}");
    }
    let logout = rsa.sign_as(&json!({"alg": "RS256", "kid": rsa.kid, "typ": "logout+jwt"}), &claims());
    assert_eq!(refused(&issuers, &logout), Code::InvalidToken);
    let found = issuers.prove(&rsa.sign(&with("nonce", json!("n")))).expect("the head decides");
    assert!(found.identifies, "ID tokens are told by their own claims");
}

#[test]
fn without_a_key_id_the_only_key_that_fits_counts() {
    let (rsa, ec, other) = (Signer::rsa("RS256"), Signer::p256(), Signer::p256());
    let token = ec.sign_as(&json!({"alg": "ES256", "typ": "at+jwt"}), &claims());
    assert!(issuers(settings(ISSUER), &[&rsa, &ec]).prove(&token).is_ok());
    assert_eq!(refused(&issuers(settings(ISSUER), &[&ec, &other]), &token), Code::InvalidToken);
}

#[test]
fn keys_for_other_uses_prove_nothing() {
    let rsa = Signer::rsa("RS256");
    for (member, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["encrypt"])),
        ("alg", json!("RSA-OAEP")),
        ("alg", json!("HS256")),
        ("kty", json!("oct")),
        ("n", json!("")),
        ("n", json!(b64(&[0xc3; 128]))),
    ] {
        let mut key = rsa.jwk();
        key[member] = value.clone();
        let set = json!({"keys": [key]}).to_string();
        let issuer = Issuer::new(settings(ISSUER), Arc::default());
        issuer.take(jwk::read(set.as_bytes()).ok());
        let all = Issuers { issuers: vec![Arc::new(issuer)], revision: Arc::default() };
        assert!(all.prove(&rsa.sign(&claims())).is_err(), "{member}: {value}");
    }
    assert!(
        jwk::read(b"[]").is_err() && jwk::read(b"{\"keys\": []}").is_err() && jwk::read(b"<html>").is_err()
    );
}

#[test]
fn before_the_keys_are_there_a_token_waits_and_is_not_wrong() {
    let rsa = Signer::rsa("RS256");
    let issuer = Arc::new(Issuer::new(settings(ISSUER), Arc::default()));
    let issuers = Issuers { issuers: vec![issuer], revision: Arc::default() };
    let error = issuers.prove(&rsa.sign(&claims())).expect_err("no keys");
    assert_eq!(error.code(), Code::IssuerUnavailable);
    assert!(matches!(error.retry(), penstock_domain::Retry::After(_)));
    // What no keys could prove is wrong at once.
    assert_eq!(
        refused(&issuers, &join(&json!({"alg": "none", "typ": "at+jwt"}), &claims(), b"x")),
        Code::InvalidToken
    );
}

#[test]
fn the_revision_changes_with_the_keys_and_only_with_them() {
    let (rsa, ec) = (Signer::rsa("RS256"), Signer::p256());
    let issuers = issuers(settings(ISSUER), &[&rsa]);
    let keys = |signer: &Signer| jwk::read(json!({"keys": [signer.jwk()]}).to_string().as_bytes()).ok();
    let before = issuers.revision();
    issuers.issuers[0].take(keys(&rsa));
    assert_eq!(issuers.revision(), before);
    issuers.issuers[0].take(keys(&ec));
    assert_ne!(issuers.revision(), before);
    let before = issuers.revision();
    issuers.issuers[0].take(None);
    assert_ne!(issuers.revision(), before, "withdrawn keys take what they proved along");
    assert!(issuers.revision.load(Ordering::Relaxed) > 0);
}
