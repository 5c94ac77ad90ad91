//! Keys, records, stored responses and the ledger: in SQLite files for one gateway, in a PostgreSQL database for several.
//!
//! What it is: [`SqlStore`], the key store in `penstock.db` of the data folder, [`pepper`], the server's own secret beside
//! it, [`SqlRecords`], the record store, [`SqlResponses`], the response store, and [`SqlAudit`], the
//! audit log, each in a file of its own: what is written at every request never stands in the way of a key. [`Postgres`] is
//! all of them in one database. What both are asked in the same words stands in `link` and beside each store, once.
//!
//! What it promises: a change to a key is on disk when it is answered (WAL, `synchronous=FULL`); a record or a response that
//! was taken outlives the process (WAL, `synchronous=NORMAL`), though a power cut may take the newest; each is there whole
//! or not at all; other processes may hold the same files; all are readable by their owner alone; values are bound, never
//! written into SQL; every failure says how to mend it.
//!
//! What it refuses to know: the text of any key, HTTP, when to ask again.

mod audit;
mod connect;
mod idempotency;
mod keys;
mod ledger;
mod line;
mod link;
mod outbox;
mod pepper;
mod postgres;
mod records;
mod responses;
mod retention;
mod sessions;
mod teams;
mod trouble;

use std::fmt;
use std::path::Path;

use penstock_domain::Error;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::MappedMutexGuard;

use line::Line;

pub use audit::{AUDIT_FILE, AUDIT_HEAD_FILE, SqlAudit};
pub use idempotency::{IDEMPOTENCY_FILE, SqlAnswers};
pub use ledger::{LEDGER_FILE, SqlLedger};
pub use outbox::{OUTBOX_FILE, SqlOutbox};
pub use pepper::{has_pepper, pepper, read_pepper};
pub use postgres::{PgAudit, PgCheck, Postgres};
pub use records::{RECORDS_FILE, SqlRecords};
pub use responses::{RESPONSES_FILE, SqlResponses};

/// The database's file name in the data folder.
pub const DATABASE_FILE: &str = "penstock.db";
/// The pepper's file name in the data folder.
pub const PEPPER_FILE: &str = "pepper";

/// The database of one data folder. One connection: there is little to do, and SQLite takes one writer at a time.
pub struct SqlStore(Line);

impl SqlStore {
    /// Opens `penstock.db` in the folder; makes folder, pepper and database when they are missing, and brings an older
    /// database up to date.
    ///
    /// # Errors
    /// `store_unavailable` with a sentence on the mend: folder not writable, file damaged, disk full, locked, made by a
    /// newer Penstock, or a database whose pepper is gone.
    pub async fn open(data_dir: &Path) -> Result<Self, Error> {
        // The pepper comes first: a database without one means that its pepper was lost.
        pepper(data_dir)?;
        let line = Line::new(data_dir.join(DATABASE_FILE), &connect::KEYS);
        drop(line.hold().await?);
        Ok(Self(line))
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Closes the file properly, which folds the write-ahead log into it. Later calls open it again.
    pub async fn close(&self) {
        self.0.close().await;
    }

    async fn connection(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>, Error> {
        self.0.hold().await
    }

    async fn failed(&self, error: sqlx::Error) -> Error {
        self.0.failed(error).await
    }
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").field("path", &self.path()).finish_non_exhaustive()
    }
}
