//! Where state lives: files and memory of one gateway, or a database and a server that several gateways share.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};

use crate::{DurationText, SecretText};

/// Where state lives.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stores {
    /// Keys, the audit log, the ledger, records and stored responses. `sqlite` is files in `data_dir`, for one gateway;
    /// `postgres://USER:PASSWORD@HOST/NAME` is a PostgreSQL database (13 or newer) that several gateways share.
    #[schemars(schema_with = "database")]
    pub database: Database,
    /// How long a gateway that starts waits for a database that cannot be reached yet. Until then `/livez` answers 200 and
    /// `/readyz` 503; afterwards the gateway ends with exit code 1. `0s` does not wait.
    pub database_wait: DurationText,
    /// What limits count between the moments at which the database hears of it. `memory` is one gateway;
    /// `redis://:PASSWORD@HOST` (`rediss://` with TLS) is a Redis that several gateways share.
    #[schemars(schema_with = "shared")]
    pub shared: SharedState,
    /// The longest time that a request waits for what gateways share.
    pub shared_timeout: DurationText,
    /// What a gateway does while what gateways share cannot be reached.
    pub shared_failure: SharedFailure,
}

impl Default for Stores {
    fn default() -> Self {
        Self {
            database: Database::default(),
            database_wait: DurationText(Duration::from_secs(60)),
            shared: SharedState::default(),
            shared_timeout: DurationText(Duration::from_millis(50)),
            shared_failure: SharedFailure::default(),
        }
    }
}

/// What a gateway does while what gateways share cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SharedFailure {
    /// It admits its part: every rate, and what was left of every budget, divided by the gateways that lived.
    #[default]
    Local,
    /// It admits nothing and answers 503 `store_unavailable`.
    Refuse,
}

/// The kinds of database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Database {
    /// SQLite files in `data_dir`.
    #[default]
    Sqlite,
    /// A PostgreSQL database, by its URL, which may hold a password.
    Postgres(SecretText),
}

/// The kinds of shared state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SharedState {
    /// The memory of this process.
    #[default]
    Memory,
    /// A Redis server, by its URL, which may hold a password.
    Redis(SecretText),
}

/// What a setting of this section may say.
pub(crate) struct Choice {
    /// The setting's path.
    pub(crate) path: &'static str,
    /// The word that needs no address.
    pub(crate) word: &'static str,
    schemes: &'static [&'static str],
    example: &'static str,
}

const DATABASE: Choice = Choice {
    path: "stores.database",
    word: "sqlite",
    schemes: &["postgres", "postgresql"],
    example: "postgres://penstock:PASSWORD@db.example:5432/penstock",
};

const SHARED: Choice = Choice {
    path: "stores.shared",
    word: "memory",
    schemes: &["redis", "rediss"],
    example: "redis://:PASSWORD@redis.example:6379",
};

/// The settings of this section.
pub(crate) const CHOICES: [&Choice; 2] = [&DATABASE, &SHARED];

impl Choice {
    /// What is wrong with a value: a sentence that quotes no more of it than its scheme.
    pub(crate) fn problem(&self, value: &str) -> Option<String> {
        let first = self.schemes[0];
        let wanted = format!("expected `{}` or an address that begins with {first}://", self.word);
        match value.split_once("://") {
            _ if value == self.word => None,
            Some((scheme, rest)) if self.schemes.contains(&scheme) => {
                let fits = !rest.is_empty() && !value.chars().any(|c| c.is_whitespace() || c.is_control());
                (!fits).then(|| format!("expected an address after {scheme}://, without blanks"))
            }
            Some((scheme, _)) if is_scheme(scheme) => Some(format!("{wanted}, found {scheme}://")),
            _ => Some(format!("{wanted}, found another text")),
        }
    }

    /// How a good value looks.
    pub(crate) fn hint(&self) -> String {
        format!("write {} or {}", self.word, self.example)
    }

    fn schema(&self) -> Schema {
        json_schema!({
            "anyOf": [
                { "const": self.word },
                {
                    "type": "string",
                    "title": "Address",
                    "pattern": format!("^({})://", self.schemes.join("|")),
                    "examples": [self.example],
                    "writeOnly": true
                }
            ],
            "default": self.word
        })
    }
}

/// Whether an address has a password, so that it is a secret.
pub(crate) fn has_password(address: &str) -> bool {
    let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':')) || address.contains("password=")
}

/// A scheme is short and made of letters (RFC 3986, section 3.1): anything else may be part of a password.
fn is_scheme(text: &str) -> bool {
    (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
}

fn database(_: &mut SchemaGenerator) -> Schema {
    DATABASE.schema()
}

fn shared(_: &mut SchemaGenerator) -> Schema {
    SHARED.schema()
}

fn read<'de, D: Deserializer<'de>>(deserializer: D, choice: &Choice) -> Result<Option<SecretText>, D::Error> {
    let text = SecretText::deserialize(deserializer)?;
    match choice.problem(text.expose()) {
        Some(problem) => Err(de::Error::custom(problem)),
        None => Ok((text.expose() != choice.word).then_some(text)),
    }
}

impl<'de> Deserialize<'de> for Database {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, &DATABASE).map(|address| address.map_or(Self::Sqlite, Self::Postgres))
    }
}

impl<'de> Deserialize<'de> for SharedState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, &SHARED).map(|address| address.map_or(Self::Memory, Self::Redis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_two_schemes_are_taken_and_nothing_else_is_quoted() {
        for good in ["sqlite", "postgres://h/d", "postgresql://u:p@h:5432/d?sslmode=require"] {
            assert_eq!(DATABASE.problem(good), None, "{good}");
        }
        for good in ["memory", "redis://h", "rediss://:p@h:6379/0"] {
            assert_eq!(SHARED.problem(good), None, "{good}");
        }
        for bad in [
            "",
            "Sqlite",
            "postgres://",
            "postgres://h/a b",
            "mysql://u:hunter2@h/d",
            "hunter2",
            "hunter2 ://x",
        ] {
            let said = DATABASE.problem(bad).unwrap();
            assert!(!said.contains("hunter2"), "{said}");
        }
        assert!(DATABASE.problem("mysql://h").unwrap().ends_with("found mysql://"));
    }

    #[test]
    fn only_an_address_with_a_password_is_a_secret() {
        for secret in ["postgres://u:p@h/d", "postgres://h/d?password=p", "redis://:p@h"] {
            assert!(has_password(secret), "{secret}");
        }
        for open in ["sqlite", "postgres://u@h:5432/d", "redis://h:6379"] {
            assert!(!has_password(open), "{open}");
        }
    }
}
