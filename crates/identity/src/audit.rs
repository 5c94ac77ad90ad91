//! The audit log: who changed what, and who was turned away.
//!
//! Rows are only ever added. Each carries a hash over the row before and itself, so that nobody can alter, remove or insert
//! one without every later hash being wrong. What is hashed is written here, so that every store makes the same chain and
//! anybody can check it with BLAKE3 alone.

mod memory;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Pending;

pub use memory::MemoryAudit;

/// What stands before the first row.
const BEGINNING: [u8; 32] = [0; 32];
/// Tells these hashes from all others, and this form from later ones.
const FORM: &[u8] = b"penstock audit 1";
/// The most bytes of one text of an event.
const MAX_TEXT: usize = 16 * 1024;

/// Something that happened. Holds no secret: of keys it has ids, scopes and last characters at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// When; stores keep milliseconds.
    pub at: SystemTime,
    /// Who: a key's id, `jwt:…`, `command line`, `penstock` for the program itself, `nobody` for strangers.
    pub actor: Box<str>,
    /// What: `key.create`, `key.rotate`, `key.revoke`, `config.start`, `config.reload`, `denied`.
    pub action: Box<str>,
    /// To what: a key's id, a file's digest, a route.
    pub object: Box<str>,
    /// How it was before, as JSON.
    pub before: Option<Box<str>>,
    /// How it is now, as JSON.
    pub after: Option<Box<str>>,
}

impl AuditEvent {
    /// An event without before and after.
    pub fn new(at: SystemTime, actor: &str, action: &str, object: &str) -> Self {
        Self {
            at: whole_millis(at),
            actor: cut(actor),
            action: cut(action),
            object: cut(object),
            before: None,
            after: None,
        }
    }

    /// Adds how it was before and how it is now.
    #[must_use]
    pub fn with(mut self, before: Option<&str>, after: Option<&str>) -> Self {
        self.before = before.map(cut);
        self.after = after.map(cut);
        self
    }

    /// The hash of this event as row `number`, after a row with the hash `previous`.
    pub fn hash(&self, number: u64, previous: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(FORM);
        hasher.update(previous);
        hasher.update(&number.to_be_bytes());
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        hasher.update(&u64::try_from(at).unwrap_or(u64::MAX).to_be_bytes());
        for text in [&self.actor, &self.action, &self.object] {
            part(&mut hasher, Some(text));
        }
        part(&mut hasher, self.before.as_deref());
        part(&mut hasher, self.after.as_deref());
        *hasher.finalize().as_bytes()
    }
}

/// Lengths go in before texts: no two events have the same bytes.
fn part(hasher: &mut blake3::Hasher, text: Option<&str>) {
    match text {
        None => drop(hasher.update(&[0])),
        Some(text) => {
            hasher.update(&[1]);
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
    }
}

fn cut(text: &str) -> Box<str> {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

fn whole_millis(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The digest of some bytes as it stands in events: BLAKE3, in hexadecimal.
pub fn digest_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number, from 1 without a gap.
    pub number: u64,
    /// What happened.
    pub event: AuditEvent,
    /// The hash over the row before and this one.
    pub hash: [u8; 32],
}

/// Some rows, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The rows.
    pub entries: Vec<AuditEntry>,
    /// The number before which the next page begins.
    pub next: Option<u64>,
}

/// What a check of the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How many rows were looked at.
    pub rows: u64,
    /// The hash of the last row that is right.
    pub head: [u8; 32],
    /// The first row that is wrong, and how.
    pub broken: Option<(u64, String)>,
}

/// Walks a chain row by row.
#[derive(Debug)]
pub struct Chain {
    number: u64,
    hash: [u8; 32],
}

impl Default for Chain {
    fn default() -> Self {
        Self { number: 0, hash: BEGINNING }
    }
}

impl Chain {
    /// Goes on after a row that is known to be right.
    pub fn after(number: u64, hash: [u8; 32]) -> Self {
        Self { number, hash }
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.number
    }

    /// The hash of the last row.
    pub fn head(&self) -> [u8; 32] {
        self.hash
    }

    /// Adds an event: its number and its hash.
    pub fn add(&mut self, event: &AuditEvent) -> (u64, [u8; 32]) {
        self.number += 1;
        self.hash = event.hash(self.number, &self.hash);
        (self.number, self.hash)
    }

    /// Takes the next row, or says what is wrong with it.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&mut self, entry: &AuditEntry) -> Result<(), String> {
        let expected = self.number + 1;
        if entry.number != expected {
            return Err(format!("row {expected} is missing: the next one there is {}", entry.number));
        }
        if entry.event.hash(entry.number, &self.hash) != entry.hash {
            return Err("it does not fit its hash: the row, or the one before it, was altered".to_owned());
        }
        self.number = entry.number;
        self.hash = entry.hash;
        Ok(())
    }
}

/// Keeps the log.
pub trait AuditLog: Send + Sync {
    /// Adds an event. Durable when it returns; its number comes back.
    fn append(&self, event: AuditEvent) -> Pending<'_, u64>;

    /// At most `limit` rows whose number is below `before`, the newest first.
    fn page(&self, before: Option<u64>, limit: u32) -> Pending<'_, AuditPage>;

    /// Checks every row, and the end of the log against what is known of it elsewhere.
    fn verify(&self) -> Pending<'_, Verdict>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: u64) -> AuditEvent {
        AuditEvent::new(UNIX_EPOCH + Duration::from_secs(n), "key_a", "key.create", "key_b")
            .with(None, Some("{\"scopes\":[\"chat:*\"]}"))
    }

    fn chain(count: u64) -> Vec<AuditEntry> {
        let mut chain = Chain::default();
        (1..=count)
            .map(|n| {
                let event = event(n);
                let (number, hash) = chain.add(&event);
                AuditEntry { number, event, hash }
            })
            .collect()
    }

    fn first_wrong(entries: &[AuditEntry]) -> Option<u64> {
        let mut chain = Chain::default();
        entries.iter().find(|entry| chain.check(entry).is_err()).map(|entry| entry.number)
    }

    #[test]
    fn every_alteration_of_a_row_is_found_at_that_row() {
        let good = chain(5);
        assert_eq!(first_wrong(&good), None);
        let edits: [fn(&mut AuditEntry); 8] = [
            |row| row.event.at += Duration::from_millis(1),
            |row| row.event.actor = "key_z".into(),
            |row| row.event.action = "key.revoke".into(),
            |row| row.event.object = "key_c".into(),
            |row| row.event.before = Some("".into()),
            |row| row.event.after = None,
            |row| row.event.after = Some("{\"scopes\":[\"*\"]}".into()),
            |row| row.hash[31] ^= 1,
        ];
        for (index, edit) in edits.iter().enumerate() {
            let mut bad = good.clone();
            edit(&mut bad[2]);
            assert_eq!(first_wrong(&bad), Some(3), "edit {index}");
        }
        // The same letters, cut elsewhere.
        let mut bad = good.clone();
        (bad[2].event.actor, bad[2].event.action) = ("key_ak".into(), "ey.create".into());
        assert_eq!(first_wrong(&bad), Some(3));
    }

    #[test]
    fn removed_inserted_and_exchanged_rows_are_found() {
        let good = chain(5);
        let without = |n: usize| [&good[..n], &good[n + 1..]].concat();
        assert_eq!(first_wrong(&without(2)), Some(4));
        assert_eq!(first_wrong(&without(0)), Some(2));
        let mut twice = good.clone();
        twice.insert(3, good[2].clone());
        assert_eq!(first_wrong(&twice), Some(3));
        let mut exchanged = good.clone();
        exchanged.swap(1, 2);
        assert_eq!(first_wrong(&exchanged), Some(3));
        // A chain alone cannot know that its end was cut off: that is what the second place is for.
        assert_eq!(first_wrong(&good[..3]), None);
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        let event = AuditEvent::new(UNIX_EPOCH, &"ä".repeat(MAX_TEXT), "a", "b");
        assert_eq!(event.actor.len(), MAX_TEXT);
    }
}
