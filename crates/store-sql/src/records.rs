//! The record store, in `records.db`.
//!
//! Two connections: one writes, one reads, and in WAL mode neither waits for the other. A record's place (its rowid) is
//! the microsecond in which it ended, so that age, order and cursor are one number and need one index. The sums of each
//! hour are kept in the same transaction as the records they are made of: a report over a month reads hours, not
//! millions of records.

mod detail;
mod read;
mod write;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use penstock_domain::{Code, Error};
use penstock_observe::store::{By, Entry, Filter, Found, Hours, Page, Pending, Report};
use penstock_observe::{Record, RecordStore};

use crate::connect;
use crate::line::Line;
use crate::trouble;

pub(crate) use detail::{cost_number, dialect_of, read_tags, tags, write as detail_of};
pub(crate) use read::{SUMS, TABLES, Tables, one, search, usage};
pub(crate) use write::{Inserts, Owner, add_sums, fitting};

/// The file name of the records in the data folder.
pub const RECORDS_FILE: &str = "records.db";

/// The records of one data folder.
pub struct SqlRecords {
    writes: Line,
    reads: Line,
    inserts: Arc<Inserts>,
}

impl SqlRecords {
    /// The records of a folder. Opens nothing yet: the file is opened, and made when it is missing, by the first call
    /// that needs it, so that a store in trouble does not keep the gateway from starting.
    pub fn new(data_dir: &Path) -> Self {
        let path = data_dir.join(RECORDS_FILE);
        Self {
            writes: Line::new(path.clone(), &connect::RECORDS),
            reads: Line::new(path, &connect::RECORDS_READ),
            inserts: Arc::new(Inserts::new()),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.writes.path()
    }

    /// Opens the file now, to see whether it can be done.
    ///
    /// # Errors
    /// `store_unavailable` with a sentence on the mend.
    pub async fn open(&self) -> Result<(), Error> {
        self.writes.hold().await.map(drop)
    }

    /// Closes the file properly, which folds the write-ahead log into it. Later calls open it again.
    pub async fn close(&self) {
        self.reads.close().await;
        self.writes.close().await;
    }
}

impl RecordStore for SqlRecords {
    fn append<'a>(&'a self, batch: &'a [Record]) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut connection = self.writes.hold().await?;
            let outcome = write::append(&mut connection, &self.inserts, batch).await;
            drop(connection);
            match outcome {
                Ok(()) => Ok(()),
                Err(error) if trouble::is_hopeless(&error) => {
                    let say = "the database of records refuses a record: this is a defect, please report it";
                    Err(Error::new(Code::InternalError, say).with_source(error))
                }
                Err(error) => Err(self.writes.failed(error).await),
            }
        })
    }

    fn one<'a>(&'a self, id: &'a str) -> Pending<'a, Option<Entry>> {
        Box::pin(async move {
            let mut connection = self.reads.hold().await?;
            let outcome = read::one(&mut *connection, id).await;
            self.reads.done(connection, outcome).await
        })
    }

    fn search<'a>(&'a self, filter: &'a Filter, page: Page) -> Pending<'a, Found> {
        Box::pin(async move {
            let mut connection = self.reads.hold().await?;
            let outcome = read::search(&mut *connection, filter, page).await;
            self.reads.done(connection, outcome).await
        })
    }

    fn usage<'a>(&'a self, by: &'a By, range: Hours) -> Pending<'a, Report> {
        Box::pin(async move {
            let mut connection = self.reads.hold().await?;
            let outcome = read::usage(&mut *connection, &read::TABLES, by, range).await;
            drop(connection);
            match outcome {
                Ok(report) => report,
                Err(error) => Err(self.reads.failed(error).await),
            }
        })
    }

    fn expire(&self, before: SystemTime, now: SystemTime) -> Pending<'_, bool> {
        Box::pin(async move {
            let mut connection = self.writes.hold().await?;
            let outcome = write::expire(&mut connection, before, now).await;
            self.writes.done(connection, outcome).await
        })
    }
}

impl fmt::Debug for SqlRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlRecords").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// A number as the file has it; what does not fit is as large as can be.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number of the file; what is below zero is none.
pub(crate) fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Microseconds since 1970.
pub(crate) fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
    i64::try_from(since).unwrap_or(i64::MAX)
}
