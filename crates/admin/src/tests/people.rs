//! Keys, teams and sessions for the tests of routes.

use penstock_identity::{
    Digest, Ending, Pending, Role, Session, SessionStore, TeamListing, TeamRecord, TeamStore,
};

use super::*;

/// A store in memory that answers at once.
pub(super) struct Shelf {
    pub(super) state: Mutex<Listing>,
    pub(super) broken: AtomicBool,
}

impl Shelf {
    fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut Listing) -> T) -> Pending<'_, T> {
        let outcome = if self.broken.load(Ordering::Relaxed) {
            Err(Error::new(Code::StoreUnavailable, "the disk is full: free some space"))
        } else {
            let mut state = self.state.lock().unwrap();
            state.revision += 1;
            Ok(act(&mut state))
        };
        Box::pin(std::future::ready(outcome))
    }
}

impl KeyStore for Shelf {
    fn list(&self) -> Pending<'_, Listing> {
        self.with(|state| state.clone())
    }

    fn insert(&self, record: KeyRecord) -> Pending<'_, ()> {
        self.with(|state| state.keys.push(record))
    }

    fn update(&self, record: KeyRecord) -> Pending<'_, KeyRecord> {
        self.with(|state| {
            let kept = state.keys.iter_mut().find(|kept| kept.id == record.id).unwrap();
            *kept = record;
            kept.clone()
        })
    }

    fn revision(&self) -> Pending<'_, u64> {
        self.with(|state| state.revision)
    }
}

/// Teams and sessions in memory.
#[derive(Default)]
pub(super) struct Nobody {
    teams: Mutex<TeamListing>,
    pub(super) sessions: Mutex<Vec<Session>>,
}

impl Nobody {
    fn of<T: Send + 'static>(outcome: T) -> Pending<'static, T> {
        Box::pin(std::future::ready(Ok(outcome)))
    }
}

impl TeamStore for Nobody {
    fn list(&self) -> Pending<'_, TeamListing> {
        Self::of(self.teams.lock().unwrap().clone())
    }

    fn insert(&self, record: TeamRecord) -> Pending<'_, ()> {
        let mut teams = self.teams.lock().unwrap();
        teams.revision += 1;
        teams.teams.push(record);
        Self::of(())
    }

    fn update(&self, record: TeamRecord) -> Pending<'_, TeamRecord> {
        let mut teams = self.teams.lock().unwrap();
        teams.revision += 1;
        teams.teams.retain(|team| team.name != record.name);
        teams.teams.push(record.clone());
        Self::of(record)
    }

    fn delete(&self, name: Arc<str>, _: SystemTime) -> Pending<'_, ()> {
        let mut teams = self.teams.lock().unwrap();
        teams.revision += 1;
        teams.teams.retain(|team| team.name != name);
        Self::of(())
    }

    fn revision(&self) -> Pending<'_, u64> {
        Self::of(self.teams.lock().unwrap().revision)
    }
}

impl SessionStore for Nobody {
    fn insert(&self, session: Session) -> Pending<'_, ()> {
        self.sessions.lock().unwrap().push(session);
        Self::of(())
    }

    fn find(&self, digest: Digest) -> Pending<'_, Option<Session>> {
        Self::of(self.sessions.lock().unwrap().iter().find(|one| one.digest == digest).cloned())
    }

    fn touch(&self, _: Digest, _: SystemTime) -> Pending<'_, ()> {
        Self::of(())
    }

    fn list(&self) -> Pending<'_, Vec<Session>> {
        Self::of(self.sessions.lock().unwrap().clone())
    }

    fn end(&self, which: Ending) -> Pending<'_, Vec<Session>> {
        Self::of(self.sessions.lock().unwrap().extract_if(.., |one| which.takes(one)).collect())
    }
}

pub(super) fn session(id: &str) -> Session {
    Session {
        digest: Digest::new([1; 32]),
        id: id.into(),
        issuer: "https://id.example.com".into(),
        subject: "alice".into(),
        sid: None,
        name: "alice".into(),
        roles: vec![Role::Viewer],
        created: now(),
        seen: now(),
        expires: now() + Duration::from_secs(60),
    }
}

