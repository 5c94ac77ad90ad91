//! Teams: those of the database, which the service makes and changes, and those of the config, which it only reads.
//!
//! A team of the config wins over one of the same name in the database. Whoever makes snapshots asks for
//! [`in_force`](Teams::in_force), the one merged list, and is called when it changes. What a team may say is checked by the
//! rules of the config itself, so that no setting means one thing there and another here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use penstock_config::{Environment, KindSchemas, Team};
use penstock_domain::{Code, Error};

use crate::keys::whole_millis;
use crate::{Flaw, KeySource, Keys, Pending, check_team};

/// The most teams that a database holds: every snapshot carries all of them.
pub const MAX_TEAMS: usize = 10_000;
/// The longest settings of one team, in bytes.
const MAX_SETTINGS: usize = 32 * 1024;
/// How often a change is tried again when another process changed the same team in between.
const ATTEMPTS: usize = 3;

/// A team as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct TeamRecord {
    /// Its name.
    pub name: Arc<str>,
    /// What it may do and spend.
    pub settings: Team,
    /// Where it is kept.
    pub source: KeySource,
    /// When it was made; of teams of the config nobody knows.
    pub created: SystemTime,
    /// When it was last changed.
    pub changed: SystemTime,
    /// How often it was changed.
    pub version: u64,
}

/// All stored teams as they stood at one moment.
#[derive(Debug, Clone, Default)]
pub struct TeamListing {
    /// The store's revision at that moment.
    pub revision: u64,
    /// The teams, in the order of their names.
    pub teams: Vec<TeamRecord>,
}

/// Keeps teams for good. Several processes may hold the same store at once.
pub trait TeamStore: Send + Sync {
    /// All teams with the revision that they belong to. `store_unavailable` when one of them cannot be read: leaving it out
    /// would lift its limits.
    fn list(&self) -> Pending<'_, TeamListing>;

    /// Adds a team. Durable when it returns. `conflict` when the name is taken.
    fn insert(&self, record: TeamRecord) -> Pending<'_, ()>;

    /// Writes back a changed team whose `version` is the one that was read. `conflict` when somebody else changed it
    /// meanwhile, `not_found` when it is not there.
    fn update(&self, record: TeamRecord) -> Pending<'_, TeamRecord>;

    /// Removes a team. `conflict` while a key that is active `now` belongs to it, `not_found` when it is not there. The
    /// look and the removal are one step: no key can come in between.
    fn delete(&self, name: Arc<str>, now: SystemTime) -> Pending<'_, ()>;

    /// A number that grows with every change, by whichever process. Cheap: it is asked twice a second.
    fn revision(&self) -> Pending<'_, u64>;
}

/// Makes, changes and removes teams, and knows which are in force.
pub struct Teams {
    store: Arc<dyn TeamStore>,
    known: Mutex<Known>,
    changed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Known {
    stored: BTreeMap<Arc<str>, Arc<TeamRecord>>,
    file: BTreeMap<Arc<str>, Arc<TeamRecord>>,
    revision: Option<u64>,
}

impl Teams {
    /// A service that knows no team yet: call [`refresh`](Self::refresh) and [`use_file`](Self::use_file).
    pub fn new(store: Arc<dyn TeamStore>) -> Self {
        Self { store, known: Mutex::default(), changed: OnceLock::new() }
    }

    /// Whom to call after the list in force changed by the database. The first one counts.
    pub fn when_changed(&self, call: impl Fn() + Send + Sync + 'static) {
        // A second caller would be a defect of the wiring; the first goes on being called.
        let _ = self.changed.set(Box::new(call));
    }

    /// Asks the store whether anything changed, and if so reads it anew and calls whoever wants to know. To be called at the
    /// start and every 500 ms.
    ///
    /// # Errors
    /// `store_unavailable`; what was known stays.
    pub async fn refresh(&self) -> Result<bool, Error> {
        let revision = self.store.revision().await?;
        if self.known().revision == Some(revision) {
            return Ok(false);
        }
        let floor = self.known().revision;
        let listing = self.store.list().await?;
        let changed = {
            let mut known = self.known();
            // Of two reads that overtake each other the later state wins; a store that was put back shows less.
            let put_back = floor.is_some_and(|revision| listing.revision < revision);
            if !put_back && known.revision.is_some_and(|revision| revision >= listing.revision) {
                return Ok(false);
            }
            let stored: BTreeMap<_, _> =
                listing.teams.into_iter().map(|team| (Arc::clone(&team.name), Arc::new(team))).collect();
            let changed = stored != known.stored;
            known.stored = stored;
            known.revision = Some(listing.revision);
            changed
        };
        if changed && let Some(call) = self.changed.get() {
            call();
        }
        Ok(changed)
    }

    /// Takes the teams of the config in place of those before. Calls nobody: whoever reads a config makes a snapshot anyway.
    pub fn use_file(&self, teams: &BTreeMap<String, Team>) {
        let record = |(name, settings): (&String, &Team)| {
            let name: Arc<str> = name.as_str().into();
            let record = TeamRecord {
                name: Arc::clone(&name),
                settings: settings.clone(),
                source: KeySource::File,
                created: SystemTime::UNIX_EPOCH,
                changed: SystemTime::UNIX_EPOCH,
                version: 0,
            };
            (name, Arc::new(record))
        };
        self.known().file = teams.iter().map(record).collect();
    }

    /// Every team that counts, by name.
    pub fn in_force(&self) -> BTreeMap<String, Team> {
        let known = self.known();
        let all = known.stored.values().chain(known.file.values());
        // The file comes last, and so wins.
        all.map(|team| (team.name.to_string(), team.settings.clone())).collect()
    }

    /// Every team that counts, in the order of their names.
    pub fn list(&self) -> Vec<Arc<TeamRecord>> {
        let known = self.known();
        let mut all = known.stored.clone();
        all.extend(known.file.iter().map(|(name, team)| (Arc::clone(name), Arc::clone(team))));
        all.into_values().collect()
    }

    /// The team that counts under a name. `not_found` when there is none.
    pub fn get(&self, name: &str) -> Result<Arc<TeamRecord>, Error> {
        let known = self.known();
        known.file.get(name).or_else(|| known.stored.get(name)).cloned().ok_or_else(not_found)
    }

    /// Makes a team, in force when this returns.
    ///
    /// # Errors
    /// `conflict` when the name is taken, here or in the config; `invalid_value` when there are too many;
    /// `store_unavailable`.
    pub async fn create(
        &self,
        name: &str,
        settings: Team,
        now: SystemTime,
    ) -> Result<Arc<TeamRecord>, Error> {
        {
            let known = self.known();
            if known.file.contains_key(name) {
                return Err(in_the_file().with_param("name"));
            }
            if known.stored.len() >= MAX_TEAMS {
                let say = format!("there are {MAX_TEAMS} teams already, which is the most: delete some");
                return Err(Error::new(Code::InvalidValue, say));
            }
        }
        let now = whole_millis(now);
        let source = KeySource::Database;
        let record =
            TeamRecord { name: name.into(), settings, source, created: now, changed: now, version: 1 };
        self.store.insert(record.clone()).await?;
        self.reread().await;
        Ok(Arc::new(record))
    }

    /// Changes a team, in force when this returns. `edit` is called again from the beginning when somebody else was faster.
    ///
    /// # Errors
    /// What `edit` says; `not_found`; `conflict` for teams of the config; `store_unavailable`.
    pub async fn update<E: From<Error>>(
        &self,
        name: &str,
        now: SystemTime,
        edit: impl Fn(&Team) -> Result<Team, E>,
    ) -> Result<Arc<TeamRecord>, E> {
        let mut outcome = Err(not_found());
        for _ in 0..ATTEMPTS {
            self.refresh().await?;
            let before = self.changeable(name)?;
            let settings = edit(&before.settings)?;
            let changed = whole_millis(now);
            outcome = self.store.update(TeamRecord { settings, changed, ..TeamRecord::clone(&before) }).await;
            match &outcome {
                Err(error) if error.code() == Code::Conflict => {}
                _ => break,
            }
        }
        let record = Arc::new(outcome?);
        self.reread().await;
        Ok(record)
    }

    /// Removes a team. What it spent stays in the ledger.
    ///
    /// # Errors
    /// `not_found`; `conflict` for teams of the config and while an active key belongs to it; `store_unavailable`.
    pub async fn delete(&self, name: &str, keys: &Keys, now: SystemTime) -> Result<Arc<TeamRecord>, Error> {
        self.refresh().await?;
        let record = self.changeable(name)?;
        let of_file = |key: &&Arc<crate::KeyRecord>| {
            key.source == KeySource::File && key.team.as_deref() == Some(name) && key.state(now) == "active"
        };
        if let Some(key) = keys.list().iter().find(of_file) {
            return Err(in_use().with_param(key.id.as_str()));
        }
        self.store.delete(Arc::clone(&record.name), now).await?;
        self.reread().await;
        Ok(record)
    }

    fn changeable(&self, name: &str) -> Result<Arc<TeamRecord>, Error> {
        let record = self.get(name)?;
        if record.source == KeySource::File { Err(in_the_file()) } else { Ok(record) }
    }

    /// The change is durable already: if it cannot be read back now, the next [`refresh`](Self::refresh) will see it.
    async fn reread(&self) {
        if self.refresh().await.is_err() {
            self.known().revision = None;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing in the guarded sections leaves the lists half written.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Teams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teams").field("teams", &self.list().len()).finish_non_exhaustive()
    }
}

fn not_found() -> Error {
    Error::new(Code::NotFound, "there is no team of this name")
}

fn in_the_file() -> Error {
    let say = "a team of this name stands in the config and is changed there: edit the file and reload";
    Error::new(Code::Conflict, say)
}

/// The refusal to remove a team that has keys; stores say the same.
pub fn in_use() -> Error {
    let say =
        "active keys belong to this team: revoke them first, for example with POST /admin/v1/keys/revoke";
    Error::new(Code::Conflict, say)
}

/// Reads a name and settings as people write them, by the rules of the section `teams` of the config; `json` is an object.
///
/// # Errors
/// Every flaw at once.
pub fn read_team(name: &str, json: &str) -> Result<Team, Vec<Flaw>> {
    let mut flaws: Vec<Flaw> = Vec::new();
    flaws.extend(check_team(name).map(|say| Flaw { member: "name".to_owned(), say }));
    if json.len() > MAX_SETTINGS {
        let say = format!("the settings of a team have at most {MAX_SETTINGS} bytes");
        return Err(vec![Flaw { member: String::new(), say }]);
    }
    let sheet = Sheet(format!("{{\"version\": 1, \"teams\": {{\"team\": {json}}}}}"));
    match penstock_config::load(Path::new("team"), &sheet, &KindSchemas::default()) {
        Ok(loaded) if flaws.is_empty() => Ok(loaded.config.teams.into_values().next().unwrap_or_default()),
        Ok(_) => Err(flaws),
        Err(problems) => {
            flaws.extend(problems.into_iter().filter(|problem| problem.is_error()).map(|problem| {
                let member = problem.path.strip_prefix("teams.team").unwrap_or(&problem.path);
                let hint = problem.hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default();
                Flaw {
                    member: member.trim_start_matches('.').to_owned(),
                    say: format!("{}{hint}", problem.message),
                }
            }));
            Err(flaws)
        }
    }
}

/// An environment of one text: whoever writes a team reaches neither variables nor files of this machine.
struct Sheet(String);

impl Environment for Sheet {
    fn var(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        if path == Path::new("team") { Ok(self.0.clone()) } else { Err(std::io::ErrorKind::NotFound.into()) }
    }
}

#[cfg(test)]
mod tests;
