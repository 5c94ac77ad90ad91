//! People who signed in with a browser: what is kept of each, and the port under which it is kept.

use std::sync::Arc;
use std::time::SystemTime;

use crate::{Digest, Pending, Role};

/// The most sessions at once: more than any house has administrators.
pub const MAX_SESSIONS: usize = 1000;

/// One browser of one person. Its text, which the browser shows as a cookie, is kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The digest of its text.
    pub digest: Digest,
    /// Its public name.
    pub id: Arc<str>,
    /// Who knows the person.
    pub issuer: Arc<str>,
    /// What the issuer calls the person.
    pub subject: Arc<str>,
    /// What the issuer calls its own session, where it told.
    pub sid: Option<Arc<str>>,
    /// The person's name or address, for people.
    pub name: Arc<str>,
    /// What the person may do.
    pub roles: Vec<Role>,
    /// When they signed in.
    pub created: SystemTime,
    /// When they last asked for something, to the minute.
    pub seen: SystemTime,
    /// When it ends, whatever they do.
    pub expires: SystemTime,
}

/// Which sessions end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The one with this text.
    Digest(Digest),
    /// The one with this public name.
    Id(Arc<str>),
    /// All of a person.
    Subject(Arc<str>),
    /// Those that began with one session at an issuer.
    AtIssuer {
        /// The issuer.
        issuer: Arc<str>,
        /// Its name of the session, or of the person: one of them at least.
        sid: Option<Arc<str>>,
        /// The person.
        subject: Option<Arc<str>>,
    },
    /// All.
    All,
}

impl Ending {
    /// Whether this session is among them.
    pub fn takes(&self, session: &Session) -> bool {
        match self {
            Ending::Digest(digest) => session.digest == *digest,
            Ending::Id(id) => session.id == *id,
            Ending::Subject(subject) => session.subject == *subject,
            Ending::AtIssuer { issuer, sid, subject } => {
                let fits = |wanted: &Option<Arc<str>>, found: Option<&Arc<str>>| {
                    wanted.as_ref().is_none_or(|wanted| found == Some(wanted))
                };
                session.issuer == *issuer
                    && (sid.is_some() || subject.is_some())
                    && fits(sid, session.sid.as_ref())
                    && fits(subject, Some(&session.subject))
            }
            Ending::All => true,
        }
    }
}

/// Keeps sessions until they end. Several processes may hold the same store at once.
pub trait SessionStore: Send + Sync {
    /// Adds a session, and forgets those that have expired. Durable when it returns. `conflict` when there are
    /// [`MAX_SESSIONS`].
    fn insert(&self, session: Session) -> Pending<'_, ()>;

    /// The session with this digest, expired or not.
    fn find(&self, digest: Digest) -> Pending<'_, Option<Session>>;

    /// Notes that somebody asked for something.
    fn touch(&self, digest: Digest, now: SystemTime) -> Pending<'_, ()>;

    /// All sessions, the newest first.
    fn list(&self) -> Pending<'_, Vec<Session>>;

    /// Ends sessions at once, for every process, and gives those that it ended.
    fn end(&self, which: Ending) -> Pending<'_, Vec<Session>>;
}
