//! The service over the keys: those of the database, which it makes and changes, and those of the config, which it only
//! reads. Every change is durable before it is answered, and the ring knows it before the caller does.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_config::{FileKey, Limits};
use penstock_domain::{Code, Error, Secret};

use crate::{
    KeyId, KeyRecord, KeyRing, KeySource, KeyStore, ModelAllow, NewKey, Pepper, Previous, ScopeSet, Token,
    check_name, check_team, token,
};

/// The longest time for which the text before a rotation goes on working: 30 days.
pub const MAX_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);

/// How often a change is tried again when another process changed the same key in between.
const ATTEMPTS: usize = 3;

/// A key that was just made: the only moment at which its text exists.
#[derive(Debug)]
pub struct Minted {
    /// What is kept of it.
    pub record: Arc<KeyRecord>,
    /// The key itself.
    pub key: Secret,
}

/// Creates, lists, rotates and revokes keys, and keeps the [`KeyRing`] current.
pub struct Keys {
    store: Arc<dyn KeyStore>,
    ring: Arc<KeyRing>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    stored: Vec<Arc<KeyRecord>>,
    file: Vec<Arc<KeyRecord>>,
    defaults: Limits,
    revision: Option<u64>,
}

impl Keys {
    /// A service that knows no key yet: call [`refresh`](Self::refresh) and [`use_file`](Self::use_file).
    pub fn new(store: Arc<dyn KeyStore>, pepper: Pepper) -> Self {
        Self { store, ring: Arc::new(KeyRing::new(pepper)), known: Mutex::default() }
    }

    /// The snapshot that recognises keys.
    pub fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring)
    }

    /// Asks the store whether anything changed, and if so reads it anew. Answers whether the ring changed. To be called
    /// at the start and every 500 ms: that bounds how long a revocation by another process takes.
    ///
    /// # Errors
    /// `store_unavailable`; the ring then keeps what it knew.
    pub async fn refresh(&self) -> Result<bool, Error> {
        let revision = self.store.revision().await?;
        if self.known().revision == Some(revision) {
            return Ok(false);
        }
        self.reload().await
    }

    /// Takes the keys of the config in place of those before, and the limits of keys that have none of their own.
    ///
    /// # Errors
    /// One sentence for each problem, with the path of the member; nothing is changed then.
    pub fn use_file(&self, keys: &[FileKey], defaults: Limits) -> Result<(), Vec<(String, String)>> {
        let file = file_records(keys, self.ring.pepper())?;
        let mut known = self.known();
        known.file = file;
        known.defaults = defaults;
        self.publish(&known);
        Ok(())
    }

    /// The problems of the config's keys, as `(path, sentence)`; empty when there are none.
    pub fn check_file(keys: &[FileKey]) -> Vec<(String, String)> {
        // Digests do not matter here: duplicates are found under any pepper.
        file_records(keys, &Pepper::new([0; 32])).err().unwrap_or_default()
    }

    /// All keys: those of the config, then those of the database in the order of their ids.
    pub fn list(&self) -> Vec<Arc<KeyRecord>> {
        let known = self.known();
        known.file.iter().chain(&known.stored).cloned().collect()
    }

    /// One key by its id. `not_found` when there is none.
    pub fn get(&self, id: &str) -> Result<Arc<KeyRecord>, Error> {
        let known = self.known();
        let found = known.file.iter().chain(&known.stored).find(|record| record.id.as_str() == id);
        found.cloned().ok_or_else(not_found)
    }

    /// Makes a key. `conflict` when the name is taken, `store_unavailable` when it cannot be kept.
    pub async fn create(&self, new: NewKey, now: SystemTime) -> Result<Minted, Error> {
        if self.known().file.iter().any(|record| record.name == new.name) {
            return Err(Error::new(
                Code::Conflict,
                "a key of this name stands in the config: choose another name",
            )
            .with_param("name"));
        }
        let token = Token::generate()?;
        let text = token.secret().expose();
        let record = KeyRecord {
            id: KeyId::new(token::generate_id()?),
            name: new.name,
            team: new.team,
            owner: new.owner,
            digest: self.ring.pepper().digest(text),
            last_four: token::last_four(text).into(),
            prefix: token::prefix(text).into(),
            scopes: new.scopes,
            models: new.models,
            limits: new.limits,
            budget: new.budget,
            created: whole_millis(now),
            created_by: new.created_by,
            allow_ips: new.allow_ips,
            priority: new.priority,
            expires: new.expires.map(whole_millis),
            revoked: None,
            rotated: None,
            previous: None,
            source: KeySource::Database,
            version: 1,
        };
        self.store.insert(record.clone()).await?;
        self.reload_after_write().await;
        Ok(Minted { record: Arc::new(record), key: token.into_secret() })
    }

    /// Gives a key a new text; the text before goes on working for `overlap`, or ends at once when that is zero. An
    /// overlap that still runs from an earlier rotation ends now.
    ///
    /// # Errors
    /// `not_found`; `conflict` for keys that are revoked, expired or kept in the config; `invalid_value` for an overlap
    /// over [`MAX_OVERLAP`]; `store_unavailable`.
    pub async fn rotate(&self, id: &str, overlap: Duration, now: SystemTime) -> Result<Minted, Error> {
        if overlap > MAX_OVERLAP {
            return Err(
                Error::new(Code::InvalidValue, "the overlap is at most 30 days").with_param("overlap")
            );
        }
        let token = Token::generate()?;
        let text = token.secret().expose();
        let digest = self.ring.pepper().digest(text);
        let record = self
            .change(id, |record| {
                let state = record.state(now);
                if state != "active" {
                    let say = format!("the key is {state} and cannot be rotated: create a new one");
                    return Err(Error::new(Code::Conflict, say));
                }
                record.previous = (overlap > Duration::ZERO).then(|| Previous {
                    digest: record.digest,
                    last_four: std::mem::take(&mut record.last_four),
                    until: whole_millis(now + overlap),
                });
                record.digest = digest;
                record.last_four = token::last_four(text).into();
                record.prefix = token::prefix(text).into();
                record.rotated = Some(whole_millis(now));
                Ok(true)
            })
            .await?;
        Ok(Minted { record, key: token.into_secret() })
    }

    /// Ends a key, both of its texts included. Ending it twice is no error.
    ///
    /// # Errors
    /// `not_found`; `conflict` for keys kept in the config; `store_unavailable`.
    pub async fn revoke(&self, id: &str, now: SystemTime) -> Result<Arc<KeyRecord>, Error> {
        self.change(id, |record| {
            let change = record.revoked.is_none();
            record.revoked.get_or_insert(whole_millis(now));
            record.previous = None;
            Ok(change)
        })
        .await
    }

    /// The keys of the database that are still in force and that `wanted` picks: whoever leaves takes all of them along.
    /// Each is to be [revoked](Self::revoke) by itself, so that each stands in the audit log.
    pub fn in_force(&self, wanted: impl Fn(&KeyRecord) -> bool) -> Vec<Arc<KeyRecord>> {
        let known = self.known();
        let of_use = known.stored.iter().filter(|record| record.revoked.is_none() && wanted(record));
        of_use.cloned().collect()
    }

    /// Reads the record, changes it (`edit` says whether there is anything to write) and writes it back, again from the
    /// beginning when somebody else was faster.
    async fn change(
        &self,
        id: &str,
        edit: impl Fn(&mut KeyRecord) -> Result<bool, Error>,
    ) -> Result<Arc<KeyRecord>, Error> {
        let mut outcome = Err(not_found());
        for _ in 0..ATTEMPTS {
            self.refresh().await?;
            let before = self.get(id)?;
            if before.source == KeySource::File {
                let say = "this key stands in the config and is changed there: edit the file and reload";
                return Err(Error::new(Code::Conflict, say));
            }
            let mut record = KeyRecord::clone(&before);
            if !edit(&mut record)? {
                return Ok(before);
            }
            outcome = self.store.update(record).await;
            match &outcome {
                Err(error) if error.code() == Code::Conflict => {}
                _ => break,
            }
        }
        let record = Arc::new(outcome?);
        self.reload_after_write().await;
        Ok(record)
    }

    /// The change is durable already: if it cannot be read back now, the next [`refresh`](Self::refresh) will see it.
    async fn reload_after_write(&self) {
        if self.reload().await.is_err() {
            self.known().revision = None;
        }
    }

    async fn reload(&self) -> Result<bool, Error> {
        let floor = self.known().revision;
        let listing = self.store.list().await?;
        let mut known = self.known();
        // Of two reads that overtake each other the later state wins. A read that began after `floor` was known and yet
        // shows less means that the store itself was put back, from a backup.
        let put_back = floor.is_some_and(|revision| listing.revision < revision);
        if !put_back && known.revision.is_some_and(|revision| revision >= listing.revision) {
            return Ok(false);
        }
        known.stored = listing.keys.into_iter().map(Arc::new).collect();
        known.revision = Some(listing.revision);
        self.publish(&known);
        Ok(true)
    }

    fn publish(&self, known: &Known) {
        self.ring.replace(known.file.iter().chain(&known.stored), known.defaults);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing in the guarded sections leaves the lists half written.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("ring", &self.ring).finish_non_exhaustive()
    }
}

fn not_found() -> Error {
    Error::new(Code::NotFound, "there is no key of this id")
}

/// Stores keep milliseconds: what is answered at once and what is read back later must be equal.
pub(crate) fn whole_millis(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn file_records(keys: &[FileKey], pepper: &Pepper) -> Result<Vec<Arc<KeyRecord>>, Vec<(String, String)>> {
    let mut records: Vec<Arc<KeyRecord>> = Vec::with_capacity(keys.len());
    let mut problems = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        match file_record(key, pepper) {
            Err(found) => {
                problems
                    .extend(found.into_iter().map(|(member, say)| (format!("keys[{index}].{member}"), say)));
            }
            Ok(record) => {
                if records.iter().any(|other| other.name == record.name) {
                    problems.push((
                        format!("keys[{index}].name"),
                        "another key has this name already".to_owned(),
                    ));
                }
                if let Some(other) = records.iter().find(|other| other.digest == record.digest) {
                    let say = format!(
                        "this is the same key as `{}`: give every caller a key of its own",
                        other.name
                    );
                    problems.push((format!("keys[{index}].key"), say));
                }
                records.push(Arc::new(record));
            }
        }
    }
    if problems.is_empty() { Ok(records) } else { Err(problems) }
}

fn file_record(key: &FileKey, pepper: &Pepper) -> Result<KeyRecord, Vec<(&'static str, String)>> {
    let mut problems: Vec<(&'static str, String)> = Vec::new();
    let text = key.key.expose();
    problems.extend(check_name(&key.name).map(|say| ("name", say)));
    problems.extend(token::problem(text).map(|say| ("key", say)));
    problems.extend(key.team.as_deref().and_then(check_team).map(|say| ("team", say)));
    let scopes = ScopeSet::parse(&key.scopes).unwrap_or_else(|says| {
        problems.extend(says.into_iter().map(|say| ("scopes", say)));
        ScopeSet::default()
    });
    let models = match key.models.as_slice() {
        [] => ModelAllow::ALL,
        patterns => ModelAllow::parse(patterns).unwrap_or_else(|says| {
            problems.extend(says.into_iter().map(|say| ("models", say)));
            ModelAllow::default()
        }),
    };
    if !key.limits.zeros().is_empty() {
        problems.push(("limits", "a limit of 0 allows nothing: use 1 or more, or remove the key".to_owned()));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(KeyRecord {
        id: KeyId::new(format!("key_file_{}", key.name)),
        name: key.name.as_str().into(),
        team: key.team.as_deref().map(Arc::from),
        owner: None,
        digest: pepper.digest(text),
        last_four: token::last_four(text).into(),
        prefix: token::prefix(text).into(),
        scopes,
        models,
        limits: key.limits,
        budget: key.budget,
        created: UNIX_EPOCH,
        created_by: None,
        allow_ips: key.allow_ips.as_slice().into(),
        priority: key.priority.map(Into::into),
        expires: key.expires.as_ref().map(|time| time.0),
        revoked: None,
        rotated: None,
        previous: None,
        source: KeySource::File,
        version: 0,
    })
}

#[cfg(test)]
mod tests;
