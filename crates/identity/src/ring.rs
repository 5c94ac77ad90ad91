//! The snapshot that recognises keys.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use penstock_config::Limits;
use penstock_domain::{Code, Credential, Error};

use crate::{Caller, Digest, KeyRecord, Pepper, token};

/// Recognises keys: an immutable table from digest to caller, replaced as a whole when keys change. Reading takes no
/// lock and allocates nothing.
pub struct KeyRing {
    pepper: Pepper,
    table: ArcSwap<Table>,
}

/// Digests are uniform and, under the pepper, not for an asker to choose: their first bytes are the hash.
#[derive(Default)]
struct First(u64);

impl Hasher for First {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    }
}

type Table = HashMap<Digest, Entry, BuildHasherDefault<First>>;

struct Entry {
    caller: Arc<Caller>,
    expires: Option<SystemTime>,
    /// Set for the text before a rotation: after it the text is unknown, not merely expired.
    replaced: Option<SystemTime>,
}

impl KeyRing {
    /// A ring without keys.
    pub fn new(pepper: Pepper) -> Self {
        Self { pepper, table: ArcSwap::default() }
    }

    /// The caller behind a credential.
    ///
    /// # Errors
    /// `missing_api_key`, `conflicting_credentials`, `expired_api_key`, and `invalid_api_key` for texts that are
    /// malformed, unknown, revoked or rotated away alike: who guesses learns nothing.
    pub fn authenticate(&self, credential: &Credential, now: SystemTime) -> Result<Arc<Caller>, Error> {
        let key = match credential {
            Credential::Key(key) => key,
            Credential::Missing => return Err(missing()),
            Credential::Conflicting => return Err(conflicting()),
        };
        if !token::is_well_formed(key.expose()) {
            return Err(invalid());
        }
        // The table compares whole digests in constant time (`Digest::eq`).
        let table = self.table.load();
        let entry = table.get(&self.pepper.digest(key.expose())).ok_or_else(invalid)?;
        if entry.replaced.is_some_and(|end| end <= now) {
            return Err(invalid());
        }
        if entry.expires.is_some_and(|end| end <= now) {
            return Err(Error::new(
                Code::ExpiredApiKey,
                "this API key has expired: ask whoever runs this gateway for a new one",
            ));
        }
        Ok(Arc::clone(&entry.caller))
    }

    /// How many key texts are recognised, expired ones included.
    pub fn len(&self) -> usize {
        self.table.load().len()
    }

    /// Whether no key is recognised.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn pepper(&self) -> &Pepper {
        &self.pepper
    }

    /// Replaces the whole table. Revoked keys are left out; where two records share a digest, the first one counts.
    pub(crate) fn replace<'a>(&self, records: impl Iterator<Item = &'a Arc<KeyRecord>>, defaults: Limits) {
        let mut table = Table::default();
        for record in records.filter(|record| record.revoked.is_none()) {
            let caller = Arc::new(record.caller(defaults));
            if let Some(previous) = &record.previous {
                let entry = Entry {
                    caller: Arc::clone(&caller),
                    expires: record.expires,
                    replaced: Some(previous.until),
                };
                table.entry(previous.digest).or_insert(entry);
            }
            table.entry(record.digest).or_insert(Entry { caller, expires: record.expires, replaced: None });
        }
        self.table.store(Arc::new(table));
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.len()).finish_non_exhaustive()
    }
}

#[cold]
fn missing() -> Error {
    Error::new(
        Code::MissingApiKey,
        "no API key was sent: send it as `Authorization: Bearer KEY` or as `x-api-key`",
    )
}

#[cold]
fn conflicting() -> Error {
    Error::new(
        Code::ConflictingCredentials,
        "two different credentials were sent: send one of `Authorization`, `x-api-key` and `api-key`",
    )
}

#[cold]
fn invalid() -> Error {
    Error::new(
        Code::InvalidApiKey,
        "this API key is not valid: check that it was copied whole and was not revoked",
    )
}

#[cfg(test)]
mod tests;
