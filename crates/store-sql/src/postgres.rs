//! All stores in one PostgreSQL database that several gateways share.
//!
//! What it is: [`Postgres`], a bounded number of connections to one database and the ports over it: keys, teams and people,
//! records, the ledger, stored responses; and [`PgAudit`], the audit log with the second place for its end.
//!
//! What it promises: nothing waits without a bound, neither for a connection nor for a statement, whatever the server does;
//! a connection on which something was left unfinished is closed and not used again; several gateways may write at once,
//! and what must not be done by two at a time is done under a lock of the database; an address is never told with its
//! password.

mod audit;
mod idempotency;
mod keys;
mod ledger;
mod open;
mod outbox;
mod records;
mod responses;
mod rows;
mod sessions;
mod trouble;

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use penstock_admission::ledger::GatewayId;
use penstock_domain::{Error, Secret};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use tokio::sync::OnceCell;

pub use audit::PgAudit;
pub use open::PgCheck;

/// Connections for what goes on beside requests, the ledger and the records: two writers, and what they may need twice.
const WRITERS: u32 = 3;
/// Connections for everything else: answers that are stored and read, the admin API, the look at the keys.
const OTHERS: u32 = 9;

/// How long one may wait for a connection: for a free one, or for the server to take a new one.
const CONNECTS: Duration = Duration::from_secs(3);
/// How long one transaction may take.
const ANSWERS: Duration = Duration::from_secs(5);
/// How long a report may take, which adds up a million rows at most.
const REPORTS: Duration = Duration::from_secs(20);

/// One database, by its address.
pub struct Postgres {
    writers: PgPool,
    others: PgPool,
    /// `HOST:PORT/NAME`, for sentences.
    place: String,
    gateway: GatewayId,
    ready: OnceCell<()>,
    /// Whether a batch of records was sent whose end nobody knows.
    doubtful: AtomicBool,
    /// Whether this gateway has said that it lives.
    entered: AtomicBool,
}

impl Postgres {
    /// The database at an address (`postgres://USER:PASSWORD@HOST:PORT/NAME`), for the gateway with this id. Connects to
    /// nothing yet.
    ///
    /// # Errors
    /// A sentence on what is wrong with the address, without it.
    pub fn new(address: &Secret, gateway: GatewayId) -> Result<Self, Error> {
        let options = open::options(address)?;
        let place = open::place(&options);
        let pool = |most| open::pool(options.clone(), most);
        Ok(Self {
            writers: pool(WRITERS),
            others: pool(OTHERS),
            place,
            gateway,
            ready: OnceCell::new(),
            doubtful: AtomicBool::new(false),
            entered: AtomicBool::new(false),
        })
    }

    /// Where it is: `HOST:PORT/NAME`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Says that this gateway is no more, and closes every connection properly.
    pub async fn close(&self) {
        if self.ready.initialized() {
            self.leave().await;
        }
        self.writers.close().await;
        self.others.close().await;
    }

    /// A connection for what goes on beside requests.
    async fn writer(&self) -> Result<Held, Error> {
        self.hold(&self.writers).await
    }

    async fn other(&self) -> Result<Held, Error> {
        self.hold(&self.others).await
    }

    async fn hold(&self, pool: &PgPool) -> Result<Held, Error> {
        self.ready.get_or_try_init(|| self.prepare()).await?;
        let connection = pool.acquire().await.map_err(|error| trouble::translate(&self.place, error))?;
        Ok(Held { connection: Some(connection) })
    }

    /// Lets go of a connection, closes it where something was left unfinished, and translates a failure.
    fn done<T>(&self, held: Held, outcome: sqlx::Result<T>) -> Result<T, Error> {
        match held.finish(outcome) {
            Ok(value) => Ok(value),
            Err(error) => Err(trouble::translate(&self.place, error)),
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("place", &self.place).finish_non_exhaustive()
    }
}

/// A connection in use. Dropped in the middle of something, it is closed: what was left unfinished is undone by the server,
/// and nobody waits for an answer that may never come.
struct Held {
    connection: Option<PoolConnection<sqlx::Postgres>>,
}

impl Held {
    fn finish<T>(mut self, outcome: sqlx::Result<T>) -> sqlx::Result<T> {
        if outcome.as_ref().err().is_none_or(trouble::is_of_the_database) {
            // Back to the others.
            self.connection = None;
        }
        outcome
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Its place in the pool is free at once.
            drop(connection.detach());
        }
    }
}

impl Deref for Held {
    type Target = PgConnection;

    #[expect(clippy::expect_used, reason = "it is there until `finish` and `drop`, which take the whole")]
    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("held")
    }
}

impl DerefMut for Held {
    #[expect(clippy::expect_used, reason = "as above")]
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("held")
    }
}

/// Does something within a bound.
async fn within<T>(bound: Duration, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    match tokio::time::timeout(bound, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
