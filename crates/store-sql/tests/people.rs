//! The contracts of [`TeamStore`] and [`SessionStore`], executed against files and a real PostgreSQL.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

mod homes;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use homes::Home;
use penstock_domain::Code;
use penstock_identity::{
    Digest, Ending, KeyId, KeyRecord, KeySource, KeyStore, Limits, ModelAllow, Owner, OwnerKind, Role,
    ScopeSet, Session, SessionStore, TeamRecord, TeamStore, read_team,
};
use penstock_store_sql::SqlStore;

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + millis)
}

/// The three stores of one database.
async fn stores(home: &Home) -> (Arc<dyn KeyStore>, Arc<dyn TeamStore>, Arc<dyn SessionStore>) {
    if home.name() == "postgres" {
        let store = home.open();
        (Arc::clone(&store) as _, Arc::clone(&store) as _, store)
    } else {
        let store = Arc::new(SqlStore::open(home.path()).await.expect("opens"));
        (Arc::clone(&store) as _, Arc::clone(&store) as _, store)
    }
}

fn team(name: &str, settings: &str) -> TeamRecord {
    TeamRecord {
        name: name.into(),
        settings: read_team("any", settings).expect("sound"),
        source: KeySource::Database,
        created: at(1),
        changed: at(2),
        version: 1,
    }
}

fn key(name: &str, byte: u8) -> KeyRecord {
    KeyRecord {
        id: KeyId::new(format!("key_{name}")),
        name: name.into(),
        team: Some("support".into()),
        owner: Some(Owner::new(OwnerKind::Service, "nightly").expect("sound")),
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

const FULL: &str = r#"{"limits": {"tokens_per_minute": 5, "concurrent_requests": 2}, "residency": ["eu", "ch'; --"],
    "budget": {"usd": 12.5, "per": "month"}, "internal_only": true, "capture": {"content": true, "retention": "3d"}}"#;

#[tokio::test]
async fn a_team_is_read_as_it_was_written_and_changes_move_the_one_revision() {
    for home in Home::each() {
        let (keys, teams, _) = stores(&home).await;
        let begin = keys.revision().await.expect("readable");
        teams.insert(team("support", FULL)).await.expect("kept");
        let listing = teams.list().await.expect("readable");
        assert_eq!(listing.teams, [team("support", FULL)], "{}", home.name());
        assert!(listing.revision > begin && listing.revision == keys.revision().await.expect("readable"));
        let taken = teams.insert(team("support", "{}")).await.expect_err("taken");
        assert_eq!((taken.code(), taken.param()), (Code::Conflict, Some("name")));
        let changed = TeamRecord { changed: at(9), ..team("support", "{}") };
        assert_eq!(teams.update(changed.clone()).await.expect("changed").version, 2);
        assert_eq!(teams.update(changed).await.expect_err("older").code(), Code::Conflict);
        assert_eq!(teams.update(team("nobody", "{}")).await.expect_err("none").code(), Code::NotFound);
    }
}

#[tokio::test]
async fn a_team_goes_once_no_active_key_belongs_to_it() {
    for home in Home::each() {
        let (keys, teams, _) = stores(&home).await;
        teams.insert(team("support", "{}")).await.expect("kept");
        keys.insert(key("a", 1)).await.expect("kept");
        assert_eq!(keys.list().await.expect("readable").keys, [key("a", 1)], "owners are kept");
        let expires = Some(at(100));
        let name: Arc<str> = "support".into();
        let delete = |now| teams.delete(Arc::clone(&name), now);
        assert_eq!(delete(at(5)).await.expect_err("held").code(), Code::Conflict, "{}", home.name());
        keys.update(KeyRecord { expires, ..key("a", 1) }).await.expect("changed");
        assert_eq!(delete(at(99)).await.expect_err("held until it expires").code(), Code::Conflict);
        delete(at(100)).await.expect("an expired key holds nothing");
        assert_eq!(delete(at(100)).await.expect_err("gone").code(), Code::NotFound);
    }
}

fn session(name: &str, byte: u8, sid: &str) -> Session {
    Session {
        digest: Digest::new([byte; 32]),
        id: format!("ses_{byte}").into(),
        issuer: "https://id.example.com".into(),
        subject: name.into(),
        sid: (!sid.is_empty()).then(|| sid.into()),
        name: format!("{name}@example.com").into(),
        roles: vec![Role::Auditor, Role::Viewer],
        created: at(u64::from(byte)),
        seen: at(u64::from(byte)),
        expires: at(10_000),
    }
}

#[tokio::test]
async fn a_session_is_found_by_its_digest_touched_forward_and_forgotten_when_it_expired() {
    for home in Home::each() {
        let (_, _, sessions) = stores(&home).await;
        let (one, two) = (session("alice", 1, "s1"), session("bob", 2, ""));
        sessions.insert(one.clone()).await.expect("kept");
        sessions.insert(two.clone()).await.expect("kept");
        assert_eq!(sessions.find(one.digest).await.expect("readable"), Some(one.clone()), "{}", home.name());
        assert_eq!(sessions.find(Digest::new([9; 32])).await.expect("readable"), None);
        assert_eq!(sessions.list().await.expect("readable"), [two.clone(), one.clone()], "the newest first");
        sessions.touch(one.digest, at(500)).await.expect("noted");
        sessions.touch(one.digest, at(400)).await.expect("noted");
        let seen = sessions.find(one.digest).await.expect("readable").map(|session| session.seen);
        assert_eq!(seen, Some(at(500)), "never back");
        let late = Session { created: at(10_000), expires: at(20_000), ..session("carol", 3, "") };
        sessions.insert(late.clone()).await.expect("kept");
        assert_eq!(sessions.list().await.expect("readable"), [late]);
    }
}

#[tokio::test]
async fn sessions_end_by_name_by_person_and_by_their_session_at_the_issuer() {
    for home in Home::each() {
        let (_, _, sessions) = stores(&home).await;
        let all = [
            session("alice", 1, "s1"),
            session("alice", 2, "s2"),
            session("bob", 3, "s3"),
            session("bob", 4, ""),
        ];
        for one in &all {
            sessions.insert(one.clone()).await.expect("kept");
        }
        let issuer: Arc<str> = "https://id.example.com".into();
        let at_issuer = |sid: Option<&str>, subject: Option<&str>| Ending::AtIssuer {
            issuer: Arc::clone(&issuer),
            sid: sid.map(Into::into),
            subject: subject.map(Into::into),
        };
        let ids = |ended: Vec<Session>| ended.into_iter().map(|one| one.id.to_string()).collect::<Vec<_>>();
        let end = async |which| ids(sessions.end(which).await.expect("ended"));
        assert!(end(at_issuer(None, None)).await.is_empty(), "that would be everybody");
        assert!(end(at_issuer(Some("s1"), Some("bob"))).await.is_empty(), "both must fit");
        assert_eq!(end(at_issuer(Some("s1"), None)).await, ["ses_1"]);
        assert_eq!(end(at_issuer(Some("s3"), Some("bob"))).await, ["ses_3"]);
        assert_eq!(end(Ending::Id("ses_2".into())).await, ["ses_2"]);
        assert_eq!(end(Ending::Subject("bob".into())).await, ["ses_4"]);
        assert!(end(Ending::All).await.is_empty(), "{}", home.name());
    }
}
