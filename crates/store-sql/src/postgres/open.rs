//! Connecting, and bringing the database up to date.

use std::str::FromStr;
use std::time::Duration;

use penstock_domain::{Code, Error, Secret};
use penstock_identity::{Digest, Pepper};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Executor};

use super::{ANSWERS, CONNECTS, Postgres, trouble, within};
use crate::link::{Ask, Cells, Link, Lock, flag};

/// The steps from an empty database to today's tables; `penstock_tables` counts how many were taken. Steps are only ever
/// added.
const STEPS: [&str; 4] = [
    include_str!("../../migrations/postgres/0001_stores.sql"),
    include_str!("../../migrations/postgres/0002_outbox.sql"),
    include_str!("../../migrations/postgres/0003_idempotency.sql"),
    include_str!("../../migrations/postgres/0004_providers.sql"),
];

/// The oldest server that is known to do.
const OLDEST: i64 = 130_000;

/// How long a step may take: it may rewrite a table.
const STEPPING: Duration = Duration::from_secs(60);

/// What holds in every session, so that the server gives up when nobody here waits any more: statements, locks, and
/// transactions of a gateway that stands still.
const SESSION: &str = "SET statement_timeout = '25s'; SET lock_timeout = '4s'; \
     SET idle_in_transaction_session_timeout = '8s'; SET standard_conforming_strings = on";

/// What may stand behind the question mark of an address.
const PARAMETERS: [&str; 15] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
];

/// Those of them that name whom to trust.
const AUTHORITY: [&str; 3] = ["sslrootcert", "ssl-root-cert", "ssl-ca"];

const TABLES: &str = "CREATE TABLE IF NOT EXISTS penstock_tables (one BIGINT PRIMARY KEY CHECK (one = 1), steps BIGINT NOT NULL)";
const FIRST: &str = "INSERT INTO penstock_tables (one, steps) VALUES (1, 0) ON CONFLICT DO NOTHING";
const TAKEN: &str = "SELECT steps FROM penstock_tables WHERE one = 1";
const TAKE: &str = "UPDATE penstock_tables SET steps = $1 WHERE one = 1";

/// What an address says.
pub(super) fn options(address: &Secret) -> Result<PgConnectOptions, Error> {
    let address = address.expose();
    // The driver passes over what it does not know, and tells the log its value, which may be a misspelt password's.
    let query = address.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let unknown = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    if let Some(place) = unknown.filter(|name| !name.is_empty()).position(|name| !PARAMETERS.contains(&name))
    {
        let say = format!(
            "the parameter number {} behind the ? of stores.database is not known: expected sslmode, sslrootcert, sslcert, \
             sslkey, or a part of the address such as host",
            place + 1
        );
        return Err(Error::new(Code::StoreUnavailable, say));
    }
    let options = PgConnectOptions::from_str(address).map_err(|_| {
        // The driver's sentence may quote the address.
        let say = "stores.database is not an address: expected postgres://USER:PASSWORD@HOST:PORT/NAME; signs in the \
                   password that mean something in addresses are written as %40 for @, %2F for /, %3A for :";
        Error::new(Code::StoreUnavailable, say)
    })?;
    let options = trusting(address, options)?;
    Ok(options.application_name("penstock").disable_statement_logging())
}

/// Has an authority that is named be asked, as libpq does: the driver passes over it with `sslmode=require`, and everything
/// would look as if the server had proved who it is.
fn trusting(address: &str, options: PgConnectOptions) -> Result<PgConnectOptions, Error> {
    let query = address.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let names = |pair: &str| AUTHORITY.contains(&pair.split_once('=').map_or(pair, |(name, _)| name));
    match options.get_ssl_mode() {
        _ if !query.split('&').any(names) => Ok(options),
        PgSslMode::Require => Ok(options.ssl_mode(PgSslMode::VerifyCa)),
        PgSslMode::VerifyCa | PgSslMode::VerifyFull => Ok(options),
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => {
            let say = "stores.database names an authority (sslrootcert) that nobody would be checked by: add sslmode=verify-full, \
                       or sslmode=verify-ca where the certificate has another name";
            Err(Error::new(Code::StoreUnavailable, say))
        }
    }
}

/// Where it leads, for sentences.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let name = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(folder) => format!("{}:{}/{name}", folder.display(), options.get_port()),
        None => format!("{}:{}/{name}", options.get_host(), options.get_port()),
    }
}

pub(super) fn pool(options: PgConnectOptions, most: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(CONNECTS)
        .idle_timeout(Duration::from_secs(300))
        .max_lifetime(Duration::from_secs(3_600))
        .after_connect(|connection, _| Box::pin(async move { connection.execute(SESSION).await.map(drop) }))
        .connect_lazy_with(options)
}

/// Tells a gateway with another pepper: digests under one say nothing under the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PgCheck {
    /// No pepper was used with this database yet.
    None,
    /// This is the digest of the one that was.
    Known(Digest),
}

impl Postgres {
    /// Connects, and brings the tables up to date. Every first use does so by itself.
    ///
    /// # Errors
    /// `store_unavailable` with a sentence on the mend: not reached, refused, too old, or made by a newer Penstock.
    pub async fn open(&self) -> Result<(), Error> {
        self.ready.get_or_try_init(|| self.prepare()).await.map(drop)
    }

    /// Whether what [`open`](Self::open) failed of may be gone in a moment: the server is not there yet, or still starts.
    pub fn may_pass(&self, error: &Error) -> bool {
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<sqlx::Error>());
        source.is_some_and(|error| trouble::may_pass(&self.place, error))
    }

    pub(super) async fn prepare(&self) -> Result<(), Error> {
        let broken = |error| trouble::translate(&self.place, error);
        let mut connection = self.others.acquire().await.map_err(broken)?.detach();
        let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
        let found = within(ANSWERS, found(&mut connection)).await.map_err(broken)?;
        if found.server < OLDEST {
            let say = format!(
                "the database {} is PostgreSQL {}, and 13 is the oldest that does: use a newer server",
                self.place,
                found.server / 10_000
            );
            return Err(Error::new(Code::StoreUnavailable, say));
        }
        if found.steps > known {
            let say = format!(
                "the database {} has version {} and this program knows {known}: it was made by a newer Penstock, run that one",
                self.place, found.steps
            );
            return Err(Error::new(Code::StoreUnavailable, say));
        }
        if found.steps < known {
            within(STEPPING, step(&mut connection, known)).await.map_err(broken)?;
        }
        Ok(())
    }

    /// Makes sure that all gateways on this database have one pepper: the first one's digest is kept, every other's has to
    /// be the same. Only the digest of a fixed text under the pepper is kept, from which nobody learns it.
    ///
    /// # Errors
    /// `store_unavailable`, with a sentence on the mend when the pepper is another one.
    pub async fn check_pepper(&self, pepper: &Pepper) -> Result<(), Error> {
        let own = pepper.digest("the pepper of this database");
        let mut held = self.other().await?;
        let outcome = within(ANSWERS, pepper_of(&mut held, Some(&own))).await;
        match self.done(held, outcome)? {
            PgCheck::Known(kept) if kept == own => Ok(()),
            _ => Err(self.other_pepper()),
        }
    }

    /// What is known of the pepper that the keys of this database were made with.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn pepper_check(&self) -> Result<PgCheck, Error> {
        let mut held = self.other().await?;
        let outcome = within(ANSWERS, pepper_of(&mut held, None)).await;
        self.done(held, outcome)
    }

    /// The sentence for a gateway that has another pepper, or none.
    pub fn other_pepper(&self) -> Error {
        let say = format!(
            "the keys in the database {} were made with another pepper: copy the file `pepper` from the data_dir of the gateway \
             that made them into data_dir here, or give all gateways the same auth.pepper",
            self.place
        );
        Error::new(Code::StoreUnavailable, say)
    }
}

struct Found {
    server: i64,
    steps: i64,
}

async fn found(connection: &mut PgConnection) -> sqlx::Result<Found> {
    let there = "SELECT current_setting('server_version_num')::bigint, \
         CASE WHEN to_regclass('penstock_tables') IS NULL THEN 0 ELSE 1 END::bigint";
    let rows = connection.rows(Ask::new(there)).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let mut found = Found { server: row.count(0)?, steps: 0 };
    if flag(row, 1)? {
        let rows = connection.rows(Ask::new(TAKEN)).await?;
        found.steps = rows.first().map_or(Ok(0), |row| row.count(0))?;
    }
    Ok(found)
}

/// One transaction under a lock: of several gateways that start at once, one takes the steps and the others wait.
async fn step(connection: &mut PgConnection, known: i64) -> sqlx::Result<()> {
    connection.execute("SET lock_timeout = '55s'; SET statement_timeout = '55s'").await?;
    let mut transaction = connection.change(Lock::Tables).await?;
    transaction.execute(TABLES).await?;
    transaction.execute(FIRST).await?;
    let rows = transaction.rows(Ask::new(TAKEN)).await?;
    let taken = rows.first().map_or(Ok(0), |row| row.count(0))?;
    for text in STEPS.into_iter().skip(usize::try_from(taken).unwrap_or(usize::MAX)) {
        sqlx::raw_sql(text).execute(&mut *transaction).await?;
    }
    transaction.run(Ask::new(TAKE).bind(known.max(taken))).await?;
    transaction.commit().await
}

/// The digest that is kept; the given one is kept when there is none.
async fn pepper_of(connection: &mut PgConnection, own: Option<&Digest>) -> sqlx::Result<PgCheck> {
    if let Some(own) = own {
        let text = "UPDATE store SET pepper = $1 WHERE one = 1 AND pepper IS NULL";
        connection.run(Ask::new(text).bind(&own.as_bytes()[..])).await?;
    }
    let rows = connection.rows(Ask::new("SELECT pepper FROM store WHERE one = 1")).await?;
    let kept = rows.first().map_or(Ok(None), |row| row.bytes(0))?;
    let kept = kept.and_then(|kept| <[u8; 32]>::try_from(kept).ok());
    Ok(kept.map_or(PgCheck::None, |kept| PgCheck::Known(Digest::new(kept))))
}
