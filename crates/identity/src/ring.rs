//! The snapshot that recognises keys.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use penstock_config::Limits;
use penstock_domain::{Code, Credential, Error};

use crate::claims::Inquiry;
use crate::{Caller, Digest, KeyRecord, Leash, Pepper, Resource, Tokens, token};

/// Recognises keys: an immutable table from digest to caller, replaced as a whole when keys change. Reading takes no
/// lock and allocates nothing.
pub struct KeyRing {
    pepper: Pepper,
    table: ArcSwap<Table>,
    tokens: ArcSwapOption<Tokens>,
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
        Self { pepper, table: ArcSwap::default(), tokens: ArcSwapOption::empty() }
    }

    /// The caller behind a credential.
    ///
    /// # Errors
    /// `missing_api_key`, `conflicting_credentials`, `expired_api_key`, `ip_not_allowed`, and `invalid_api_key` for texts
    /// that are malformed, unknown, revoked or rotated away alike: who guesses learns nothing. For access tokens
    /// `invalid_token`, `expired_token`, `issuer_unavailable`.
    pub fn authenticate(&self, credential: &Credential, now: SystemTime) -> Result<Arc<Caller>, Error> {
        let (key, from) = match credential {
            Credential::Key(key) => (key, None),
            Credential::KeyFrom(key, from) => (key, Some(*from)),
            Credential::Missing => return Err(missing()),
            Credential::Conflicting => return Err(conflicting()),
        };
        if Tokens::looks_like_one(key.expose())
            && let Some(tokens) = self.tokens.load().as_ref()
        {
            return tokens.authenticate(key.expose(), &self.pepper, now);
        }
        let table = self.table.load();
        // The table compares whole digests in constant time (`Digest::eq`).
        let known = token::is_well_formed(key.expose());
        let known = known.then(|| table.get(&self.pepper.digest(key.expose()))).flatten();
        let Some(entry) = known else {
            // Last, so that issuers never see a key.
            return match self.tokens.load().as_ref() {
                Some(tokens) if tokens.may_be_opaque(key.expose()) => {
                    tokens.authenticate(key.expose(), &self.pepper, now)
                }
                _ => Err(invalid()),
            };
        };
        if entry.replaced.is_some_and(|end| end <= now) {
            return Err(invalid());
        }
        if entry.expires.is_some_and(|end| end <= now) {
            return Err(Error::new(
                Code::ExpiredApiKey,
                "this API key has expired: ask whoever runs this gateway for a new one",
            ));
        }
        may_come_from(&entry.caller, from)?;
        Ok(Arc::clone(&entry.caller))
    }

    /// Whether credentials may need an [`inquiry`](Self::inquiry): one look at memory.
    pub fn inquires(&self) -> bool {
        self.tokens.load().as_ref().is_some_and(|tokens| tokens.inquires())
    }

    /// What must be waited for before [`authenticate`](Self::authenticate) can tell who shows this: an issuer's word on a
    /// token. Keys of ours, and texts that only look like them, are never asked about.
    pub fn inquiry(&self, credential: &Credential) -> Option<Inquiry> {
        let (Credential::Key(key) | Credential::KeyFrom(key, _)) = credential else { return None };
        let tokens = self.tokens.load();
        let tokens = tokens.as_ref()?;
        if !Tokens::looks_like_one(key.expose()) {
            let ours = token::is_well_formed(key.expose())
                && self.table.load().contains_key(&self.pepper.digest(key.expose()));
            if ours || !tokens.may_be_opaque(key.expose()) {
                return None;
            }
        }
        tokens.inquiry(key)
    }

    /// Whose key it is, whether or not it may be used now and from there: for the records of refusals. It lets nobody in.
    pub fn owner(&self, credential: &Credential) -> Option<Arc<Caller>> {
        let (Credential::Key(key) | Credential::KeyFrom(key, _)) = credential else { return None };
        if !token::is_well_formed(key.expose()) {
            return None;
        }
        let table = self.table.load();
        let entry = table.get(&self.pepper.digest(key.expose()))?;
        // A text that was rotated away is nobody's.
        entry.replaced.is_none().then(|| Arc::clone(&entry.caller))
    }

    /// Takes these issuers of access tokens in place of those before. Open answers of issuers that are gone end.
    pub fn use_tokens(&self, mut next: Option<Tokens>) {
        if let Some(before) = self.tokens.load().as_ref() {
            before.make_way(next.as_mut());
        }
        self.tokens.store(next.map(Arc::new));
    }

    /// What clients may know of how to get in, where access tokens are taken.
    pub fn resource(&self) -> Option<Resource> {
        self.tokens.load().as_ref().map(|tokens| tokens.resource())
    }

    /// The parameter of `www-authenticate` that leads to [`resource`](Self::resource).
    pub fn challenge(&self) -> Option<String> {
        self.tokens.load().as_ref().map(|tokens| tokens.challenge().to_owned())
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
        let before = self.table.load();
        let leashes: HashMap<&str, &Leash> =
            before.values().map(|entry| (entry.caller.key_id.as_str(), &entry.caller.leash)).collect();
        let mut table = Table::default();
        for record in records.filter(|record| record.revoked.is_none()) {
            let mut caller = record.caller(defaults);
            if let Some(leash) = leashes.get(record.id.as_str()) {
                caller.leash = (*leash).clone();
            }
            let caller = Arc::new(caller);
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
        let kept: HashSet<&str> = table.values().map(|entry| entry.caller.key_id.as_str()).collect();
        let gone: Vec<Leash> =
            leashes.iter().filter(|(id, _)| !kept.contains(*id)).map(|(_, leash)| (*leash).clone()).collect();
        self.table.store(Arc::new(table));
        // After the table: whoever still gets in by the old one hangs on the same leash.
        gone.iter().for_each(Leash::cut);
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.len()).finish_non_exhaustive()
    }
}

/// A caller whose address nobody knows is nowhere.
fn may_come_from(caller: &Caller, from: Option<IpAddr>) -> Result<(), Error> {
    let ranges = &caller.allow_ips;
    if ranges.is_empty() || from.is_some_and(|from| ranges.iter().any(|range| range.contains(from))) {
        return Ok(());
    }
    let say =
        "this key may not be used from this address: send from an allowed one, or ask the operator to add it";
    Err(Error::new(Code::IpNotAllowed, say))
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
