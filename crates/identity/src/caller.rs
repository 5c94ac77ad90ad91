//! The one who asks, once recognised.

use std::fmt;
use std::sync::Arc;

use penstock_config::{Budget, IpRange, Limits};
use penstock_domain::Priority;

use crate::{Leash, ModelAllow, ScopeSet};

/// The public name of a key: `key_` and 22 characters for stored keys, `key_file_` and the name for keys of the config,
/// `jwt:ISSUER:SUBJECT` for whoever shows an access token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// Takes an id that a store or the config gave.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as shared text, for records that outlive the request.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// In the config file: changed there, read-only for the API.
    File,
    /// In the database.
    Database,
    /// Nowhere: an issuer made it, and its keys prove it.
    Token,
}

impl KeySource {
    /// The word that APIs and tables show.
    pub const fn name(self) -> &'static str {
        match self {
            KeySource::File => "file",
            KeySource::Database => "database",
            KeySource::Token => "token",
        }
    }
}

/// Who asks: the result of [`KeyRing::authenticate`](crate::KeyRing::authenticate). Holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's id: what limits, records and caches are kept under.
    pub key_id: KeyId,
    /// The key's name, for people.
    pub name: Arc<str>,
    /// The team that the key belongs to.
    pub team: Option<Arc<str>>,
    /// What the key may do.
    pub scopes: ScopeSet,
    /// The models it may name.
    pub models: ModelAllow,
    /// How much it may ask for.
    pub limits: Limits,
    /// What it may spend.
    pub budget: Option<Budget>,
    /// Where the key is kept.
    pub source: KeySource,
    /// The addresses that it may be sent from; empty is everywhere.
    pub allow_ips: Arc<[IpRange]>,
    /// How urgent its requests are, where that was said of the key itself.
    pub priority: Option<Priority>,
    /// What its open answers hang on.
    pub leash: Leash,
}
