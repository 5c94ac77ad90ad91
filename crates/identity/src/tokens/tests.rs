use std::sync::atomic::{AtomicU64, Ordering};

use penstock_config::{OidcIssuer, TokenAlgorithm, TokenType};
use penstock_domain::{Code, Credential, Secret};

use super::*;
use crate::{Claims, KeyRing};

const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + seconds)
}

/// Takes the text between the dots for the subject, and counts how often it was asked.
#[derive(Default)]
struct Believer {
    asked: AtomicU64,
    revision: AtomicU64,
}

impl Prover for Believer {
    fn prove(&self, token: &str) -> Result<Claims, Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let subject = token.split('.').nth(1).map(str::to_owned);
        let issuer =
            if token.ends_with("other") { "https://other.example.com" } else { "https://id.example.com" };
        Ok(Claims {
            issuer: issuer.into(),
            subject,
            audience: vec!["penstock".into()],
            expires: Some(NOW + 300),
            scopes: vec!["chat:invoke".into()],
            ..Claims::default()
        })
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }
}

fn auth(issuers: &[&str]) -> Auth {
    let one = |issuer: &&str| OidcIssuer {
        issuer: (*issuer).into(),
        audience: "penstock".into(),
        scope_claim: "scope".into(),
        team_claim: None,
        roles_claim: None,
        roles: Default::default(),
        scopes: Vec::new(),
        models: Vec::new(),
        algorithms: vec![TokenAlgorithm::Rs256],
        token_type: TokenType::AccessToken,
        jwks_url: None,
        ca_file: None,
        introspection: None,
    };
    Auth { oidc: issuers.iter().map(one).collect(), resource: None, admin_login: None, pepper: None }
}

fn tokens(prover: &Arc<Believer>, issuers: &[&str]) -> Option<Tokens> {
    let prover = Arc::clone(prover) as Arc<dyn Prover>;
    Tokens::new(&auth(issuers), prover, Limits::default(), "http://127.0.0.1:8080").expect("sound")
}

const BOTH: &[&str] = &["https://id.example.com", "https://other.example.com"];

fn ring(prover: &Arc<Believer>) -> KeyRing {
    let ring = KeyRing::new(Pepper::new([7; 32]));
    ring.use_tokens(tokens(prover, BOTH));
    ring
}

fn ask(ring: &KeyRing, token: &str, now: SystemTime) -> Result<Arc<Caller>, Code> {
    ring.authenticate(&Credential::Key(Secret::new(token)), now).map_err(|error| error.code())
}

#[test]
fn the_second_time_a_token_is_known_and_not_proved_again() {
    let prover = Arc::default();
    let ring = ring(&prover);
    let first = ask(&ring, "eyJ.alice.s", at(0)).expect("proved");
    let second = ask(&ring, "eyJ.alice.s", at(1)).expect("known");
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(prover.asked.load(Ordering::Relaxed), 1);
}

#[test]
fn tokens_with_the_same_beginning_are_told_apart() {
    let prover = Arc::default();
    let ring = ring(&prover);
    let same = "a".repeat(2000);
    for end in 0..50 {
        let caller = ask(&ring, &format!("eyJ.{same}{end}.s"), at(0)).expect("proved");
        let again = ask(&ring, &format!("eyJ.{same}{end}.s"), at(0)).expect("known");
        assert!(Arc::ptr_eq(&caller, &again));
    }
    assert_eq!(prover.asked.load(Ordering::Relaxed), 50);
}

#[test]
fn a_known_token_ends_at_its_expiry() {
    let prover = Arc::default();
    let ring = ring(&prover);
    assert!(ask(&ring, "eyJ.alice.s", at(0)).is_ok());
    assert!(ask(&ring, "eyJ.alice.s", at(359)).is_ok(), "within the leeway");
    assert_eq!(ask(&ring, "eyJ.alice.s", at(360)).expect_err("over"), Code::ExpiredToken);
}

#[test]
fn when_the_keys_change_a_known_token_is_proved_again() {
    let prover: Arc<Believer> = Arc::default();
    let ring = ring(&prover);
    assert!(ask(&ring, "eyJ.alice.s", at(0)).is_ok());
    prover.revision.fetch_add(1, Ordering::Relaxed);
    assert!(ask(&ring, "eyJ.alice.s", at(0)).is_ok());
    assert_eq!(prover.asked.load(Ordering::Relaxed), 2);
}

#[test]
fn an_issuer_that_leaves_takes_its_open_answers_along_and_others_stay() {
    let prover = Arc::default();
    let ring = ring(&prover);
    let stays = ask(&ring, "eyJ.alice.s", at(0)).expect("proved");
    let leaves = ask(&ring, "eyJ.alice.other", at(0)).expect("proved");
    ring.use_tokens(tokens(&prover, &BOTH[..1]));
    assert!(!stays.leash.is_cut());
    assert!(leaves.leash.is_cut());
    assert_eq!(ask(&ring, "eyJ.alice.other", at(0)).expect_err("gone"), Code::InvalidToken);
    ring.use_tokens(None);
    assert!(stays.leash.is_cut(), "over two reloads too");
    assert_eq!(ask(&ring, "eyJ.alice.s-s-s-s-s-s", at(0)).expect_err("no tokens"), Code::InvalidApiKey);
}

#[test]
fn what_is_no_token_is_a_key_and_what_is_too_long_is_nothing() {
    let prover: Arc<Believer> = Arc::default();
    let ring = ring(&prover);
    for key in ["eyJ.alice", "eyJ.a.b.c", "ayJ.alice.s", "eyJalice", "pk_live_a.b.c"] {
        assert_eq!(ask(&ring, key, at(0)).expect_err(key), Code::InvalidApiKey, "{key}");
    }
    let long = format!("eyJ.{}.s", "a".repeat(MAX_TOKEN));
    assert_eq!(ask(&ring, &long, at(0)).expect_err("too long"), Code::InvalidToken);
    assert_eq!(prover.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn clients_are_told_where_to_get_a_token() {
    let prover = Arc::default();
    let ring = ring(&prover);
    let resource = ring.resource().expect("tokens are taken");
    assert_eq!(&*resource.address, "http://127.0.0.1:8080");
    assert_eq!(resource.issuers.len(), 2);
    let expected = "resource_metadata=\"http://127.0.0.1:8080/.well-known/oauth-protected-resource\"";
    assert_eq!(ring.challenge().as_deref(), Some(expected));
    let bad =
        Auth { resource: Some("https://a\" x".into()), ..auth(&["https://a", "https://a", "nonsense"]) };
    let paths: Vec<String> = Tokens::check(&bad).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["auth.oidc[1].issuer", "auth.oidc[2].issuer", "auth.resource"]);
}

/// Takes opaque tokens too, once it was asked.
#[derive(Default)]
struct Asker {
    asked: std::sync::Mutex<Vec<String>>,
}

impl Prover for Asker {
    fn prove(&self, token: &str) -> Result<Claims, Error> {
        if !self.asked.lock().expect("whole").iter().any(|asked| asked == token) {
            return Err(Error::new(Code::IssuerUnavailable, "not asked yet"));
        }
        Ok(Claims {
            issuer: "https://id.example.com".into(),
            subject: Some("alice".into()),
            audience: vec!["penstock".into()],
            scopes: vec!["chat:invoke".into()],
            asked: Some(crate::Leash::default()),
            ..Claims::default()
        })
    }

    fn revision(&self) -> u64 {
        1
    }

    fn inquires(&self) -> bool {
        true
    }

    fn takes_opaque(&self) -> bool {
        true
    }

    fn inquiry(self: Arc<Self>, token: &Secret) -> Option<crate::Inquiry> {
        let token = token.expose().to_owned();
        Some(Box::pin(async move { self.asked.lock().expect("whole").push(token) }))
    }
}

#[test]
fn issuers_are_asked_about_opaque_tokens_and_never_about_keys() {
    let prover = Arc::<Asker>::default();
    let ring = KeyRing::new(Pepper::new([7; 32]));
    let tokens = Tokens::new(
        &auth(&["https://id.example.com"]),
        Arc::clone(&prover) as Arc<dyn Prover>,
        Limits::default(),
        "http://127.0.0.1:8080",
    );
    ring.use_tokens(tokens.expect("sound"));
    assert!(ring.inquires());
    let shown = |text: &str| Credential::Key(Secret::new(text));
    // Keys, what only looks like one, and what nobody could be given.
    let made = crate::Token::generate().expect("random").into_secret();
    for never in [
        made.expose(),
        "pk_live_made-up",
        "too-short-to-be-one",
        "with a space in it, as no token",
        &"x".repeat(9000),
    ] {
        assert!(ring.inquiry(&shown(never)).is_none(), "{never}");
        let refused = ring.authenticate(&shown(never), at(0)).expect_err(never);
        assert_eq!(refused.code(), Code::InvalidApiKey, "{never}");
    }
    let opaque = shown("aGVsbG8gd29ybGQgdGhpcyBpcyBvcGFxdWU");
    let early = ring.authenticate(&opaque, at(0)).expect_err("nobody asked yet");
    assert_eq!(early.code(), Code::IssuerUnavailable);
    let inquiry = ring.inquiry(&opaque).expect("it must be asked about");
    let mut inquiry = std::pin::pin!(inquiry);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(inquiry.as_mut().poll(&mut context).is_ready());
    let caller = ring.authenticate(&opaque, at(0)).expect("good, without an end of its own");
    assert_eq!(caller.key_id.as_str(), "jwt:https://id.example.com:alice");
    assert_eq!(*prover.asked.lock().expect("whole"), ["aGVsbG8gd29ybGQgdGhpcyBpcyBvcGFxdWU"]);
}
