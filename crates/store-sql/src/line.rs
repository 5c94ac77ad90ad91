//! One connection to one file: opened when it is first needed, let go of when it may not survive a failure.

use std::path::{Path, PathBuf};

use penstock_domain::{Code, Error};
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use crate::connect::{self, Plan};
use crate::trouble;

const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// A connection that comes back by itself.
pub(crate) struct Line {
    path: PathBuf,
    plan: &'static Plan,
    /// Empty before the first use, and after a failure that the connection may not survive.
    connection: Mutex<Option<SqliteConnection>>,
}

impl Line {
    pub(crate) fn new(path: PathBuf, plan: &'static Plan) -> Self {
        Self { path, plan, connection: Mutex::new(None) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The connection, for one caller at a time.
    pub(crate) async fn hold(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>, Error> {
        let mut guard = self.connection.lock().await;
        if guard.is_none() {
            *guard = Some(connect::connect(&self.path, self.plan).await?);
        }
        MutexGuard::try_map(guard, Option::as_mut)
            .map_err(|_| Error::new(Code::InternalError, "the database connection vanished"))
    }

    /// Closes the file properly, which folds the write-ahead log into it. Later calls open it again.
    pub(crate) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            // Nothing is lost when this fails: the log is folded in at the next opening.
            let _ = connection.close().await;
        }
    }

    /// Lets go of the connection when something is done, and translates its failure.
    pub(crate) async fn done<T>(
        &self,
        held: MappedMutexGuard<'_, SqliteConnection>,
        outcome: sqlx::Result<T>,
    ) -> Result<T, Error> {
        drop(held);
        match outcome {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// As [`done`](Self::done), for a step of a sweep: after the last one the write-ahead log is emptied too, which still has
    /// what was deleted.
    pub(crate) async fn swept(
        &self,
        mut held: MappedMutexGuard<'_, SqliteConnection>,
        mut more: sqlx::Result<bool>,
    ) -> Result<bool, Error> {
        if let Ok(false) = more {
            more = sqlx::query(EMPTY_LOG).fetch_all(&mut *held).await.map(|_| false);
        }
        self.done(held, more).await
    }

    /// Translates a failure, and lets go of the connection where a new one may do better.
    pub(crate) async fn failed(&self, error: sqlx::Error) -> Error {
        if trouble::is_fatal(&error) {
            *self.connection.lock().await = None;
        }
        trouble::translate(&self.path, error)
    }
}
