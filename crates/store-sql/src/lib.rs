//! Keys in SQLite.
//!
//! What it is: [`SqlStore`], the key store in `penstock.db` of the data folder, and [`pepper`], the server's own secret
//! beside it.
//!
//! What it promises: a change is on disk when it is answered (WAL, `synchronous=FULL`) and is there whole or not at all;
//! other processes may hold the same file; both files are readable by their owner alone; values are bound, never
//! written into SQL; every failure says how to mend it.
//!
//! What it refuses to know: the text of any key, HTTP, when to ask again.

mod connect;
mod keys;
mod pepper;
mod trouble;

use std::fmt;
use std::path::{Path, PathBuf};

use penstock_domain::Error;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

pub use pepper::pepper;

/// The database's file name in the data folder.
pub const DATABASE_FILE: &str = "penstock.db";
/// The pepper's file name in the data folder.
pub const PEPPER_FILE: &str = "pepper";

/// The database of one data folder. One connection: there is little to do, and SQLite takes one writer at a time.
pub struct SqlStore {
    path: PathBuf,
    /// Empty after a failure that the connection may not survive; the next call opens a new one.
    connection: Mutex<Option<SqliteConnection>>,
}

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
        let path = data_dir.join(DATABASE_FILE);
        let connection = connect::connect(&path).await?;
        Ok(Self { path, connection: Mutex::new(Some(connection)) })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file properly, which folds the write-ahead log into it. Later calls open it again.
    pub async fn close(&self) {
        use sqlx::Connection;
        if let Some(connection) = self.connection.lock().await.take() {
            // Nothing is lost when this fails: the log is folded in at the next opening.
            let _ = connection.close().await;
        }
    }

    async fn connection(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>, Error> {
        let mut guard = self.connection.lock().await;
        if guard.is_none() {
            *guard = Some(connect::connect(&self.path).await?);
        }
        MutexGuard::try_map(guard, Option::as_mut)
            .map_err(|_| Error::new(penstock_domain::Code::InternalError, "the database connection vanished"))
    }

    /// Translates a failure, and lets go of the connection where a new one may do better.
    async fn failed(&self, error: sqlx::Error) -> Error {
        if trouble::is_fatal(&error) {
            *self.connection.lock().await = None;
        }
        trouble::translate(&self.path, error)
    }
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").field("path", &self.path).finish_non_exhaustive()
    }
}
