use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use penstock_config::SecretText;
use penstock_domain::Credential;

use super::*;
use crate::{Caller, KeyRequest, Listing, Pending};

/// A store in memory that answers at once, with a switch to make it fail.
struct Shelf {
    state: Mutex<Listing>,
    broken: AtomicBool,
    /// Runs as if another process changed every key right before the next write.
    meddle: AtomicBool,
}

impl Shelf {
    fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Listing) -> Result<T, Error> + Send,
    ) -> Pending<'_, T> {
        let broken = self.broken.load(Ordering::Relaxed);
        let outcome = if broken {
            Err(Error::new(Code::StoreUnavailable, "broken for the test"))
        } else {
            act(&mut self.state.lock().expect("not poisoned"))
        };
        Box::pin(std::future::ready(outcome))
    }
}

impl KeyStore for Shelf {
    fn list(&self) -> Pending<'_, Listing> {
        self.with(|state| Ok(state.clone()))
    }

    fn insert(&self, record: KeyRecord) -> Pending<'_, ()> {
        self.with(|state| {
            state.keys.push(record);
            state.revision += 1;
            Ok(())
        })
    }

    fn update(&self, record: KeyRecord) -> Pending<'_, KeyRecord> {
        let meddle = self.meddle.swap(false, Ordering::Relaxed);
        self.with(|state| {
            state.revision += 1;
            if meddle {
                state.keys.iter_mut().for_each(|key| key.version += 1);
            }
            let Some(kept) = state.keys.iter_mut().find(|kept| kept.id == record.id) else {
                return Err(not_found());
            };
            if kept.version != record.version {
                return Err(Error::new(Code::Conflict, "changed meanwhile"));
            }
            *kept = KeyRecord { version: record.version + 1, ..record };
            Ok(kept.clone())
        })
    }

    fn revision(&self) -> Pending<'_, u64> {
        self.with(|state| Ok(state.revision))
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the store in memory answers at once"),
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds) + Duration::from_nanos(1_234_567)
}

fn service() -> (Arc<Shelf>, Keys) {
    let empty = Mutex::new(Listing { revision: 1, keys: Vec::new() });
    let shelf = Shelf { state: empty, broken: AtomicBool::default(), meddle: AtomicBool::default() };
    let shelf = Arc::new(shelf);
    let keys = Keys::new(Arc::clone(&shelf) as Arc<dyn KeyStore>, Pepper::new([3; 32]));
    now(keys.refresh()).expect("an empty store");
    (shelf, keys)
}

fn wish(name: &str) -> NewKey {
    let wish = KeyRequest { name: name.into(), scopes: vec!["chat:*".into()], ..KeyRequest::default() };
    wish.check(at(0)).expect("a sound wish")
}

fn ask(keys: &Keys, key: &Secret, time: SystemTime) -> Result<Arc<Caller>, Code> {
    keys.ring().authenticate(&Credential::Key(key.clone()), time).map_err(|error| error.code())
}

#[test]
fn a_created_key_works_at_once_and_is_listed_without_its_text() {
    let (_, keys) = service();
    let minted = now(keys.create(wish("ci"), at(0))).expect("created");
    assert_eq!(ask(&keys, &minted.key, at(1)).expect("valid").key_id, minted.record.id);
    assert_eq!(keys.list(), [Arc::clone(&minted.record)], "what was answered is what is read back");
    assert!(minted.key.expose().ends_with(&*minted.record.last_four));
    assert!(!format!("{minted:?} {keys:?}").contains(&minted.key.expose()[8..]));
}

#[test]
fn a_rotated_key_keeps_its_id_and_its_old_text_for_the_overlap_only() {
    let (_, keys) = service();
    let first = now(keys.create(wish("ci"), at(0))).expect("created");
    let id = first.record.id.as_str();
    let second = now(keys.rotate(id, Duration::from_secs(60), at(10))).expect("rotated");
    assert_eq!(second.record.id, first.record.id);
    assert!(ask(&keys, &first.key, at(69)).is_ok() && ask(&keys, &second.key, at(69)).is_ok());
    assert_eq!(ask(&keys, &first.key, at(71)), Err(Code::InvalidApiKey));
    let third = now(keys.rotate(id, Duration::ZERO, at(20))).expect("rotated without overlap");
    for old in [&first.key, &second.key] {
        assert_eq!(ask(&keys, old, at(20)), Err(Code::InvalidApiKey), "no overlap ends every older text");
    }
    assert!(ask(&keys, &third.key, at(20)).is_ok());
}

#[test]
fn what_is_revoked_or_expired_cannot_be_rotated_back_to_life() {
    let (_, keys) = service();
    let minted = now(keys.create(wish("ci"), at(0))).expect("created");
    let id = minted.record.id.as_str();
    let too_long = now(keys.rotate(id, MAX_OVERLAP + Duration::from_secs(1), at(1))).expect_err("too long");
    assert_eq!(too_long.code(), Code::InvalidValue);
    now(keys.revoke(id, at(1))).expect("revoked");
    assert_eq!(ask(&keys, &minted.key, at(1)), Err(Code::InvalidApiKey));
    let again = now(keys.revoke(id, at(2))).expect("twice is no error");
    assert_eq!(again.revoked, Some(whole_millis(at(1))), "the first moment stays");
    let error = now(keys.rotate(id, Duration::ZERO, at(3))).expect_err("revoked");
    assert_eq!(error.code(), Code::Conflict);
    let expiring = NewKey { expires: Some(at(5)), ..wish("soon") };
    let soon = now(keys.create(expiring, at(0))).expect("created");
    let error = now(keys.rotate(soon.record.id.as_str(), Duration::ZERO, at(6))).expect_err("expired");
    assert_eq!(error.code(), Code::Conflict);
    assert_eq!(now(keys.revoke("key_nobody", at(1))).expect_err("unknown").code(), Code::NotFound);
}

#[test]
fn a_change_survives_another_process_that_was_faster() {
    let (shelf, keys) = service();
    let minted = now(keys.create(wish("ci"), at(0))).expect("created");
    shelf.meddle.store(true, Ordering::Relaxed);
    now(keys.revoke(minted.record.id.as_str(), at(1))).expect("revoked at the second attempt");
    assert_eq!(ask(&keys, &minted.key, at(1)), Err(Code::InvalidApiKey));
}

#[test]
fn a_change_by_another_process_is_seen_at_the_next_refresh() {
    let (shelf, keys) = service();
    let other = Keys::new(Arc::clone(&shelf) as Arc<dyn KeyStore>, Pepper::new([3; 32]));
    let minted = now(other.create(wish("ci"), at(0))).expect("created elsewhere");
    assert_eq!(ask(&keys, &minted.key, at(1)), Err(Code::InvalidApiKey));
    assert!(now(keys.refresh()).expect("readable"), "it changed");
    assert!(ask(&keys, &minted.key, at(1)).is_ok());
    assert!(!now(keys.refresh()).expect("readable"), "nothing changed since");
}

#[test]
fn while_the_store_is_down_known_keys_work_and_changes_are_refused() {
    let (shelf, keys) = service();
    let minted = now(keys.create(wish("ci"), at(0))).expect("created");
    shelf.broken.store(true, Ordering::Relaxed);
    assert_eq!(now(keys.refresh()).expect_err("down").code(), Code::StoreUnavailable);
    assert!(ask(&keys, &minted.key, at(1)).is_ok());
    assert_eq!(now(keys.create(wish("two"), at(1))).expect_err("down").code(), Code::StoreUnavailable);
    assert_eq!(
        now(keys.revoke(minted.record.id.as_str(), at(1))).expect_err("down").code(),
        Code::StoreUnavailable
    );
}

fn file_key(name: &str, key: &str) -> FileKey {
    FileKey {
        name: name.into(),
        key: SecretText::new(key),
        team: None,
        scopes: vec!["chat:*".into()],
        models: Vec::new(),
        limits: Limits::default(),
        budget: None,
        expires: None,
        allow_ips: Vec::new(),
        priority: None,
    }
}

#[test]
fn keys_of_the_config_work_and_are_changed_only_there() {
    let (_, keys) = service();
    keys.use_file(&[file_key("ci", "operator-chosen-key-1")], Limits::default()).expect("sound");
    let secret = Secret::new("operator-chosen-key-1");
    assert_eq!(ask(&keys, &secret, at(1)).expect("valid").source, KeySource::File);
    for error in [
        now(keys.revoke("key_file_ci", at(1))).expect_err("kept in the file"),
        now(keys.rotate("key_file_ci", Duration::ZERO, at(1))).expect_err("kept in the file"),
        now(keys.create(wish("ci"), at(1))).expect_err("the name is taken"),
    ] {
        assert_eq!(error.code(), Code::Conflict, "{error}");
    }
    keys.use_file(&[], Limits::default()).expect("sound");
    assert_eq!(ask(&keys, &secret, at(1)), Err(Code::InvalidApiKey), "what left the file stops working");
}

#[test]
fn every_problem_of_the_config_s_keys_is_told_and_none_shows_a_key() {
    let (_, keys) = service();
    keys.use_file(&[file_key("kept", "operator-chosen-key-0")], Limits::default()).expect("sound");
    let bad = [
        file_key("a b", "tooshort"),
        FileKey {
            scopes: vec!["chta:*".into()],
            models: vec!["a b".into()],
            ..file_key("b", "operator-chosen-key-1")
        },
        file_key("c", "operator-chosen-key-2"),
        file_key("c", "operator-chosen-key-2"),
        file_key("d", "pk_live_forged-forged-forged"),
    ];
    let problems = keys.use_file(&bad, Limits::default()).expect_err("seven problems");
    let paths: Vec<&str> = problems.iter().map(|(path, _)| path.as_str()).collect();
    let expected = [
        "keys[0].name",
        "keys[0].key",
        "keys[1].scopes",
        "keys[1].models",
        "keys[3].name",
        "keys[3].key",
        "keys[4].key",
    ];
    assert_eq!(paths, expected);
    let all = format!("{problems:?}");
    assert!(
        !all.contains("tooshort") && !all.contains("operator-chosen") && !all.contains("forged"),
        "{all}"
    );
    assert_eq!(Keys::check_file(&bad), problems);
    assert!(
        ask(&keys, &Secret::new("operator-chosen-key-0"), at(1)).is_ok(),
        "the keys before stay in force"
    );
}

#[test]
fn a_wish_with_many_flaws_is_told_all_of_them() {
    let wish = KeyRequest {
        name: "../etc".into(),
        team: Some(" ".into()),
        owner: Some("a b".into()),
        kind: None,
        scopes: vec![],
        models: Some(vec![]),
        limits: Limits { requests_per_minute: Some(0), concurrent_requests: Some(0), ..Limits::default() },
        expires: Some(at(0)),
        budget: None,
        allow_ips: Vec::new(),
        priority: Some("urgent".into()),
        created_by: None,
    };
    let flaws = wish.check(at(0)).expect_err("all wrong");
    let members: Vec<&str> = flaws.iter().map(|flaw| flaw.member.as_str()).collect();
    let expected = [
        "name",
        "team",
        "owner",
        "scopes",
        "models",
        "limits.requests_per_minute",
        "limits.concurrent_requests",
        "priority",
        "expires",
    ];
    assert_eq!(members, expected);
}

#[test]
fn a_store_that_was_put_back_from_a_backup_is_believed() {
    let (shelf, keys) = service();
    let backup = shelf.state.lock().expect("not poisoned").clone();
    let minted = now(keys.create(wish("ci"), at(0))).expect("created");
    now(keys.create(wish("two"), at(0))).expect("created");
    *shelf.state.lock().expect("not poisoned") = backup;
    assert!(now(keys.refresh()).expect("readable"), "it changed");
    assert_eq!(ask(&keys, &minted.key, at(1)), Err(Code::InvalidApiKey));
    assert!(keys.list().is_empty());
}
