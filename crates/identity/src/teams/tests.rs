use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use super::*;

/// Keeps teams in memory; `held` has an active key.
#[derive(Default)]
struct Shelf(Mutex<TeamListing>);

impl Shelf {
    fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut TeamListing) -> Result<T, Error>,
    ) -> Pending<'_, T> {
        let outcome = act(&mut self.0.lock().expect("whole"));
        Box::pin(std::future::ready(outcome))
    }
}

impl TeamStore for Shelf {
    fn list(&self) -> Pending<'_, TeamListing> {
        self.with(|all| Ok(all.clone()))
    }

    fn insert(&self, record: TeamRecord) -> Pending<'_, ()> {
        self.with(|all| {
            if all.teams.iter().any(|team| team.name == record.name) {
                return Err(Error::new(Code::Conflict, "taken"));
            }
            all.teams.push(record);
            all.revision += 1;
            Ok(())
        })
    }

    fn update(&self, record: TeamRecord) -> Pending<'_, TeamRecord> {
        self.with(|all| {
            let kept = all.teams.iter_mut().find(|team| team.name == record.name).ok_or_else(not_found)?;
            *kept = TeamRecord { version: record.version + 1, ..record };
            all.revision += 1;
            Ok(kept.clone())
        })
    }

    fn delete(&self, name: Arc<str>, _: SystemTime) -> Pending<'_, ()> {
        self.with(|all| {
            if &*name == "held" {
                return Err(in_use());
            }
            all.teams.retain(|team| team.name != name);
            all.revision += 1;
            Ok(())
        })
    }

    fn revision(&self) -> Pending<'_, u64> {
        self.with(|all| Ok(all.revision))
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the store in memory answers at once"),
    }
}

fn service() -> (Arc<Shelf>, Teams, Arc<AtomicUsize>) {
    let shelf = Arc::<Shelf>::default();
    let teams = Teams::new(Arc::clone(&shelf) as Arc<dyn TeamStore>);
    let calls = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&calls);
    teams.when_changed(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    now(teams.refresh()).expect("an empty store");
    (shelf, teams, calls)
}

fn team(json: &str) -> Team {
    read_team("any", json).expect("sound")
}

const WHEN: SystemTime = SystemTime::UNIX_EPOCH;

#[test]
fn a_change_is_in_force_when_it_returns_and_whoever_makes_snapshots_is_called() {
    let (_, teams, calls) = service();
    now(teams.create("a", team(r#"{"limits": {"requests_per_minute": 5}}"#), WHEN)).expect("made");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(teams.in_force()["a"].limits.requests_per_minute, Some(5));
    let changed =
        now(teams.update("a", WHEN, |before| Ok::<_, Error>(Team { internal_only: true, ..before.clone() })));
    assert!(changed.expect("changed").settings.internal_only);
    assert_eq!(teams.in_force()["a"].limits.requests_per_minute, Some(5), "the rest stays");
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert!(!now(teams.refresh()).expect("the same"), "nothing changed since");
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[test]
fn a_team_of_the_config_wins_and_is_changed_nowhere_else() {
    let (_, teams, _) = service();
    now(teams.create("a", team("{}"), WHEN)).expect("made");
    teams.use_file(&[("a".to_owned(), team(r#"{"internal_only": true}"#))].into());
    assert!(teams.in_force()["a"].internal_only);
    assert_eq!(teams.get("a").expect("there").source, KeySource::File);
    assert_eq!(teams.list().len(), 1);
    let change = now(teams.update("a", WHEN, |before| Ok::<_, Error>(before.clone())));
    assert_eq!(change.expect_err("of the file").code(), Code::Conflict);
    assert_eq!(now(teams.create("a", team("{}"), WHEN)).expect_err("of the file").code(), Code::Conflict);
    teams.use_file(&BTreeMap::new());
    assert!(!teams.in_force()["a"].internal_only, "the database's own is back");
}

#[test]
fn changes_of_another_process_are_seen_at_the_next_look() {
    let (shelf, teams, calls) = service();
    let other = Teams::new(Arc::clone(&shelf) as Arc<dyn TeamStore>);
    now(other.create("b", team("{}"), WHEN)).expect("made");
    assert!(teams.get("b").is_err());
    assert!(now(teams.refresh()).expect("read"));
    assert!(teams.get("b").is_ok());
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn settings_go_by_the_rules_of_the_config_and_reach_nothing_of_this_machine() {
    let flaws = read_team(
        "-bad",
        r#"{"limits": {"requests_per_minute": 0, "tokens_per_minut": 5}, "budget": {"usd": 5}, "residency": [""], "colour": 1}"#,
    )
    .expect_err("six flaws");
    let members: Vec<&str> = flaws.iter().map(|flaw| flaw.member.as_str()).collect();
    for member in ["name", "limits.requests_per_minute", "limits.tokens_per_minut", "residency[0]", "colour"]
    {
        assert!(members.contains(&member), "{member} is missing in {members:?}");
    }
    for reach in [r#"{"residency": ["${PATH}"]}"#, r#"{"residency": ["file:/etc/passwd"]}"#] {
        let outcome = read_team("a", reach);
        let shown = format!("{outcome:?}");
        assert!(!shown.contains("/bin") && !shown.contains("root:"), "{shown}");
    }
    assert!(read_team("a", &format!("{{\"residency\": [\"{}\"]}}", "x".repeat(40_000))).is_err());
}
