//! The contract of [`KeyStore`], executed against both stores of this crate.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

mod homes;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_domain::{Code, Priority};
use penstock_identity::{
    Budget, Digest, KeyId, KeyRecord, KeySource, Limits, ModelAllow, Per, Previous, ScopeSet, Usd,
};

use homes::Home;

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + millis)
}

fn plain(name: &str, byte: u8) -> KeyRecord {
    KeyRecord {
        id: KeyId::new(format!("key_{name}")),
        name: name.into(),
        team: None,
        owner: None,
        digest: Digest::new([byte; 32]),
        last_four: "abcd".into(),
        prefix: "pk_live_".into(),
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

fn full(name: &str, byte: u8) -> KeyRecord {
    KeyRecord {
        team: Some("support'; DROP TABLE keys; --".into()),
        scopes: ScopeSet::parse(["chat:invoke:llama3:8b", "*:read", "admin:keys"]).expect("valid"),
        models: ModelAllow::parse(["gpt-*", "large"]).expect("valid"),
        limits: Limits {
            requests_per_minute: Some(u32::MAX),
            tokens_per_day: Some(1 << 50),
            concurrent_requests: Some(1),
            ..Limits::default()
        },
        budget: Some(Budget::new(Usd::parse("0.25").expect("an amount"), Per::Month)),
        allow_ips: ["10.0.0.0/8", "2001:db8::/32"].map(|range| range.parse().expect("a range")).into(),
        priority: Some(Priority::Interactive),
        created_by: Some(KeyId::new("key_maker")),
        expires: Some(at(5_001)),
        rotated: Some(at(7)),
        previous: Some(Previous {
            digest: Digest::new([byte ^ 0xff; 32]),
            last_four: "wxyz".into(),
            until: at(9_999),
        }),
        ..plain(name, byte)
    }
}

#[tokio::test]
async fn what_is_inserted_is_listed_in_the_order_of_ids() {
    for home in Home::each() {
        let store = home.keys().await;
        assert!(store.list().await.expect("readable").keys.is_empty());
        let (b, a) = (full("b", 2), plain("a", 1));
        store.insert(b.clone()).await.expect("kept");
        store.insert(a.clone()).await.expect("kept");
        assert_eq!(store.list().await.expect("readable").keys, [a, b]);
    }
}

#[tokio::test]
async fn every_change_and_nothing_else_moves_the_revision_forward() {
    for home in Home::each() {
        let store = home.keys().await;
        let mut last = store.revision().await.expect("readable");
        let mut moved = async || {
            let now = store.revision().await.expect("readable");
            let forward = now > last;
            assert!(now >= last, "it never goes back");
            last = now;
            forward
        };
        assert!(!moved().await);
        store.insert(plain("a", 1)).await.expect("kept");
        assert!(moved().await, "an insert");
        assert!(store.insert(plain("a", 1)).await.is_err());
        assert!(!moved().await, "a refused insert");
        let next = store.update(plain("a", 3)).await.expect("changed");
        assert!(moved().await, "an update");
        assert!(store.update(KeyRecord { version: 1, ..next }).await.is_err());
        assert!(!moved().await, "a refused update");
        assert_eq!(
            store.list().await.expect("readable").revision,
            last,
            "the list says which revision it is"
        );
    }
}

#[tokio::test]
async fn an_update_writes_every_member_that_may_change() {
    for home in Home::each() {
        let store = home.keys().await;
        store.insert(plain("a", 1)).await.expect("kept");
        let changed = KeyRecord { revoked: Some(at(8)), ..full("a", 4) };
        let answered = store.update(changed.clone()).await.expect("changed");
        assert_eq!(
            answered,
            KeyRecord { version: 2, created_by: Some(KeyId::new("key_maker")), ..changed.clone() }
        );
        let listed = store.list().await.expect("readable").keys;
        // Who made a key and when never changes.
        assert_eq!(listed, [KeyRecord { version: 2, created_by: None, ..changed }]);
    }
}

#[tokio::test]
async fn of_two_changes_to_the_same_version_one_is_refused() {
    for home in Home::each() {
        let store = home.keys().await;
        store.insert(plain("a", 1)).await.expect("kept");
        let one = KeyRecord { team: Some("one".into()), ..plain("a", 1) };
        let other = KeyRecord { team: Some("other".into()), ..plain("a", 1) };
        let (one, other) = tokio::join!(store.update(one), store.update(other));
        let refused = [one, other].into_iter().filter_map(Result::err).collect::<Vec<_>>();
        assert_eq!(refused.iter().map(penstock_domain::Error::code).collect::<Vec<_>>(), [Code::Conflict]);
        let gone = store.update(plain("nobody", 9)).await.expect_err("not there");
        assert_eq!(gone.code(), Code::NotFound);
    }
}

#[tokio::test]
async fn ids_names_and_digests_are_taken_once_and_revoking_frees_the_name() {
    for home in Home::each() {
        let store = home.keys().await;
        store.insert(full("a", 1)).await.expect("kept");
        let same_name = KeyRecord { id: KeyId::new("key_z"), ..plain("a", 5) };
        let error = store.insert(same_name.clone()).await.expect_err("the name is taken");
        assert_eq!((error.code(), error.param()), (Code::Conflict, Some("name")));
        let same_id = KeyRecord { id: KeyId::new("key_a"), ..plain("other", 6) };
        assert_eq!(store.insert(same_id).await.expect_err("the id is taken").code(), Code::Conflict);
        let same_digest = plain("c", 1);
        assert_eq!(store.insert(same_digest).await.expect_err("the digest is taken").code(), Code::Conflict);
        store.update(KeyRecord { revoked: Some(at(1)), ..full("a", 1) }).await.expect("revoked");
        store.insert(same_name).await.expect("the name is free");
        assert_eq!(store.list().await.expect("readable").keys.len(), 2);
    }
}

#[tokio::test]
async fn a_value_that_looks_like_sql_is_only_a_value() {
    for home in Home::each() {
        let store = home.keys().await;
        let hostile = KeyRecord { id: KeyId::new("x' OR '1'='1"), ..full("a", 1) };
        store.insert(hostile.clone()).await.expect("kept");
        store.insert(plain("b", 2)).await.expect("kept");
        let revoked = KeyRecord { revoked: Some(at(1)), ..hostile };
        store.update(revoked).await.expect("changed");
        let keys = store.list().await.expect("readable").keys;
        assert_eq!(keys.iter().filter(|key| key.revoked.is_some()).count(), 1, "it touched its own row only");
    }
}
