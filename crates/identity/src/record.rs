//! A key as it is kept.

use std::sync::Arc;
use std::time::SystemTime;

use penstock_config::{Budget, IpRange, Limits};
use penstock_domain::Priority;

use crate::{Caller, Digest, KeyId, KeySource, Leash, ModelAllow, Owner, ScopeSet};

/// The longest name of a key or a team, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The text that a rotation replaced, while it still works beside the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// Its digest.
    pub digest: Digest,
    /// Its last four characters.
    pub last_four: Box<str>,
    /// When it stops working.
    pub until: SystemTime,
}

/// A key as it is kept: everything but the key.
///
/// Rotation keeps the id, so limits, budgets and history stay with the key and both texts share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its id.
    pub id: KeyId,
    /// Its name, unique among the keys that are not revoked.
    pub name: Arc<str>,
    /// The team it belongs to.
    pub team: Option<Arc<str>>,
    /// Who answers for it: a person or a program.
    pub owner: Option<Owner>,
    /// The digest of its text.
    pub digest: Digest,
    /// The last four characters of its text.
    pub last_four: Box<str>,
    /// The public beginning of its text, empty for texts that an operator chose.
    pub prefix: Box<str>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The models it may name.
    pub models: ModelAllow,
    /// How much it may ask for.
    pub limits: Limits,
    /// What it may spend.
    pub budget: Option<Budget>,
    /// The addresses that it may be sent from; empty is everywhere.
    pub allow_ips: Arc<[IpRange]>,
    /// How urgent its requests are; `None` is as its team's are.
    pub priority: Option<Priority>,
    /// When it was made.
    pub created: SystemTime,
    /// The id of the key that made it; `None` for the command line and the config.
    pub created_by: Option<KeyId>,
    /// When it stops working.
    pub expires: Option<SystemTime>,
    /// When it was revoked.
    pub revoked: Option<SystemTime>,
    /// When its text was last replaced.
    pub rotated: Option<SystemTime>,
    /// The text before, as long as it may still work.
    pub previous: Option<Previous>,
    /// Where it is kept.
    pub source: KeySource,
    /// How often it was changed: lets a store refuse a change to what is no longer there.
    pub version: u64,
}

impl KeyRecord {
    /// The key as an asker; `defaults` are the limits of keys that have none of their own.
    pub fn caller(&self, defaults: Limits) -> Caller {
        Caller {
            key_id: self.id.clone(),
            name: Arc::clone(&self.name),
            team: self.team.clone(),
            scopes: self.scopes.clone(),
            models: self.models.clone(),
            limits: self.limits.or(defaults),
            budget: self.budget,
            source: self.source,
            allow_ips: Arc::clone(&self.allow_ips),
            priority: self.priority,
            leash: Leash::default(),
        }
    }

    /// `active`, `expired` or `revoked`.
    pub fn state(&self, now: SystemTime) -> &'static str {
        if self.revoked.is_some() {
            "revoked"
        } else if self.expires.is_some_and(|end| end <= now) {
            "expired"
        } else {
            "active"
        }
    }
}

/// What is wrong with a key's name, if anything: 1 to 64 letters, digits, `.`, `_`, `-`, beginning with a letter or digit.
pub fn check_name(name: &str) -> Option<String> {
    check(name, "name")
}

/// What is wrong with a team's name, if anything: the rule of [`check_name`].
pub fn check_team(name: &str) -> Option<String> {
    check(name, "team")
}

fn check(text: &str, what: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let begins = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if begins && text.len() <= MAX_NAME_BYTES && text.chars().all(good) {
        return None;
    }
    Some(format!(
        "{what} must be 1 to {MAX_NAME_BYTES} letters, digits, `.`, `_` or `-` and begin with a letter or digit"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_bounded() {
        for good in ["a", "ci", "Team.1_x-y", "0", &"a".repeat(64)] {
            assert_eq!(check_name(good), None, "{good}");
        }
        for bad in ["", " ", "-a", ".a", "a b", "a/b", "a\n", "ä", "a'--", "<b>", &"a".repeat(65)] {
            assert!(check_name(bad).is_some(), "{bad:?} was taken");
        }
    }
}
