use std::time::Duration;

use penstock_domain::Secret;

use super::*;
use crate::{KeyId, KeySource, ModelAllow, Previous, ScopeSet, Token};

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW + Duration::from_secs(seconds)
}

fn pepper() -> Pepper {
    Pepper::new([7; 32])
}

fn record(name: &str, key: &str) -> KeyRecord {
    KeyRecord {
        id: KeyId::new(format!("key_{name}")),
        name: name.into(),
        team: None,
        owner: None,
        digest: pepper().digest(key),
        last_four: token::last_four(key).into(),
        prefix: "".into(),
        scopes: ScopeSet::parse(["chat:*"]).expect("valid"),
        models: ModelAllow::ALL,
        limits: Limits::default(),
        budget: None,
        allow_ips: Arc::default(),
        priority: None,
        created: at(0),
        created_by: None,
        expires: None,
        revoked: None,
        rotated: None,
        previous: None,
        source: KeySource::Database,
        version: 1,
    }
}

fn ring(records: Vec<KeyRecord>) -> KeyRing {
    let ring = KeyRing::new(pepper());
    let records: Vec<_> = records.into_iter().map(Arc::new).collect();
    ring.replace(records.iter(), Limits::default());
    ring
}

fn ask(ring: &KeyRing, key: &str, now: SystemTime) -> Result<String, Code> {
    let credential = Credential::Key(Secret::new(key));
    ring.authenticate(&credential, now).map(|caller| caller.name.to_string()).map_err(|error| error.code())
}

#[test]
fn each_key_is_its_own_caller_and_no_other_text_is() {
    let keys: Vec<String> =
        (0..50).map(|_| Token::generate().expect("randomness").secret().expose().to_owned()).collect();
    let ring = ring(keys.iter().enumerate().map(|(i, key)| record(&format!("k{i}"), key)).collect());
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(ask(&ring, key, at(1)), Ok(format!("k{i}")));
    }
    for _ in 0..50 {
        let stranger = Token::generate().expect("randomness");
        assert_eq!(ask(&ring, stranger.secret().expose(), at(1)), Err(Code::InvalidApiKey));
    }
}

#[test]
fn keys_that_share_a_long_prefix_are_told_apart() {
    let shared = "operator-".repeat(20);
    let (one, other) = (format!("{shared}a"), format!("{shared}b"));
    let ring = ring(vec![record("one", &one), record("other", &other)]);
    assert_eq!(ask(&ring, &one, at(1)), Ok("one".into()));
    assert_eq!(ask(&ring, &other, at(1)), Ok("other".into()));
    assert_eq!(ask(&ring, &format!("{shared}c"), at(1)), Err(Code::InvalidApiKey));
    assert_eq!(ask(&ring, &shared, at(1)), Err(Code::InvalidApiKey));
}

#[test]
fn hostile_texts_are_invalid_and_never_echoed() {
    let ring = ring(vec![record("one", "operator-chosen-key-1")]);
    for key in [
        "",
        "' OR 1=1 --",
        "operator-chosen-key-1\0",
        "operator-chosen-key-1 ",
        "OPERATOR-CHOSEN-KEY-1",
        "operator-chosen-key-1'; DROP TABLE keys; --",
        &"A".repeat(100_000),
        "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
    ] {
        let error = ring.authenticate(&Credential::Key(Secret::new(key)), at(1)).expect_err(key);
        assert_eq!(error.code(), Code::InvalidApiKey);
        assert!(key.is_empty() || !error.to_string().contains(key), "the sentence echoes what was sent");
    }
    // Knowing the digest is not knowing the key.
    let digest: String =
        pepper().digest("operator-chosen-key-1").as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(ask(&ring, &digest, at(1)), Err(Code::InvalidApiKey));
}

#[test]
fn missing_and_conflicting_credentials_have_codes_of_their_own() {
    let ring = ring(vec![]);
    let code = |credential| ring.authenticate(&credential, at(1)).expect_err("no key").code();
    assert_eq!(code(Credential::Missing), Code::MissingApiKey);
    assert_eq!(code(Credential::Conflicting), Code::ConflictingCredentials);
}

#[test]
fn a_key_ends_at_its_expiry_to_the_instant() {
    let ring = ring(vec![KeyRecord { expires: Some(at(10)), ..record("one", "operator-chosen-key-1") }]);
    assert_eq!(ask(&ring, "operator-chosen-key-1", at(9)), Ok("one".into()));
    assert_eq!(ask(&ring, "operator-chosen-key-1", at(10)), Err(Code::ExpiredApiKey));
}

#[test]
fn revoked_keys_are_unknown_with_both_of_their_texts() {
    let previous = Some(Previous {
        digest: pepper().digest("operator-chosen-old"),
        last_four: "-old".into(),
        until: at(99),
    });
    let live = KeyRecord { previous, ..record("one", "operator-chosen-new") };
    let ring = ring(vec![live.clone()]);
    assert_eq!(ask(&ring, "operator-chosen-old", at(1)), Ok("one".into()));
    ring.replace([Arc::new(KeyRecord { revoked: Some(at(1)), ..live })].iter(), Limits::default());
    for key in ["operator-chosen-old", "operator-chosen-new"] {
        assert_eq!(ask(&ring, key, at(2)), Err(Code::InvalidApiKey));
    }
}

#[test]
fn after_a_rotation_both_texts_are_one_caller_until_the_overlap_ends() {
    let previous = Some(Previous {
        digest: pepper().digest("operator-chosen-old"),
        last_four: "-old".into(),
        until: at(60),
    });
    let ring = ring(vec![KeyRecord { previous, ..record("one", "operator-chosen-new") }]);
    let caller = |key| ring.authenticate(&Credential::Key(Secret::new(key)), at(1)).expect("valid");
    assert!(Arc::ptr_eq(&caller("operator-chosen-old"), &caller("operator-chosen-new")));
    assert_eq!(ask(&ring, "operator-chosen-old", at(59)), Ok("one".into()));
    assert_eq!(ask(&ring, "operator-chosen-old", at(60)), Err(Code::InvalidApiKey));
    assert_eq!(ask(&ring, "operator-chosen-new", at(60)), Ok("one".into()));
}

#[test]
fn limits_of_the_config_fill_in_only_what_a_key_leaves_open() {
    let ring = KeyRing::new(pepper());
    let own = Limits { requests_per_minute: Some(5), ..Limits::default() };
    let defaults =
        Limits { requests_per_minute: Some(60), concurrent_requests: Some(8), ..Limits::default() };
    ring.replace(
        [Arc::new(KeyRecord { limits: own, ..record("one", "operator-chosen-key-1") })].iter(),
        defaults,
    );
    let caller =
        ring.authenticate(&Credential::Key(Secret::new("operator-chosen-key-1")), at(1)).expect("valid");
    let both = Limits { requests_per_minute: Some(5), concurrent_requests: Some(8), ..Limits::default() };
    assert_eq!(caller.limits, both);
}

#[test]
fn a_ring_shows_how_many_keys_it_has_and_nothing_of_them() {
    let ring = ring(vec![record("one", "operator-chosen-key-1")]);
    assert_eq!(format!("{ring:?}"), "KeyRing { keys: 1, .. }");
}

fn from(key: &str, address: &str) -> Credential {
    Credential::KeyFrom(Secret::new(key), address.parse().expect("an address"))
}

#[test]
fn a_key_that_names_addresses_works_from_them_alone() {
    let allow_ips = ["10.0.0.0/8", "2001:db8::7"].map(|range| range.parse().expect("a range")).into();
    let ring = ring(vec![KeyRecord { allow_ips, ..record("one", "operator-chosen-key-1") }]);
    let code = |address: &str| {
        ring.authenticate(&from("operator-chosen-key-1", address), at(1)).err().map(|error| error.code())
    };
    for near in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"] {
        assert_eq!(code(near), None, "{near}");
    }
    for far in ["11.0.0.1", "127.0.0.1", "2001:db8::8", "::ffff:11.0.0.1"] {
        assert_eq!(code(far), Some(Code::IpNotAllowed), "{far}");
    }
    // From nowhere known is from nowhere allowed.
    assert_eq!(ask(&ring, "operator-chosen-key-1", at(1)), Err(Code::IpNotAllowed));
    let wrong = ring.authenticate(&from("operator-chosen-key-2", "10.1.2.3"), at(1)).expect_err("unknown");
    assert_eq!(wrong.code(), Code::InvalidApiKey);
    let owner = ring.owner(&from("operator-chosen-key-1", "11.0.0.1")).expect("the record may name it");
    assert_eq!(&*owner.name, "one");
    assert!(ring.owner(&from("operator-chosen-key-2", "10.1.2.3")).is_none());
}

#[test]
fn what_hangs_on_a_key_is_let_go_when_it_ends_and_not_before() {
    let live = record("one", "operator-chosen-key-1");
    let other = record("two", "operator-chosen-key-2");
    let ring = ring(vec![live.clone(), other.clone()]);
    let caller = |key| ring.authenticate(&Credential::Key(Secret::new(key)), at(1)).expect("valid");
    let (one, two) = (caller("operator-chosen-key-1"), caller("operator-chosen-key-2"));
    // A rotation and a change of rights are no end.
    let rotated = KeyRecord { digest: pepper().digest("operator-chosen-key-3"), ..live.clone() };
    ring.replace([Arc::new(rotated.clone()), Arc::new(other.clone())].iter(), Limits::default());
    assert!(!one.leash.is_cut());
    let later = caller("operator-chosen-key-3");
    let revoked = KeyRecord { revoked: Some(at(2)), ..rotated };
    ring.replace([Arc::new(revoked), Arc::new(other)].iter(), Limits::default());
    assert!(one.leash.is_cut() && later.leash.is_cut(), "those of before the rotation too");
    assert!(!two.leash.is_cut());
}
