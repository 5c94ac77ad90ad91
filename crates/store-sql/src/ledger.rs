//! The ledger, in `ledger.db`.
//!
//! A file of its own beside the records: what was spent is kept when records are thrown away, and budgets do not wait for
//! them. Its sums have the shape of the records' sums and are read by the same code, so that both tell the same.

mod read;
mod write;

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use penstock_admission::ledger::{Batch, LedgerStore, Pending, Recovered};
use penstock_domain::{Code, Error};
use penstock_observe::store::{By, Hours, Pending as Asking, Report, Spending};

use crate::line::Line;
use crate::{connect, records, trouble};

/// The file name of the ledger in the data folder.
pub const LEDGER_FILE: &str = "ledger.db";

/// The ledger of one data folder.
pub struct SqlLedger {
    writes: Line,
    reads: Line,
    texts: write::Texts,
}

impl SqlLedger {
    /// The ledger of a folder. Opens nothing yet: the file is opened, and made when it is missing, by the first call that
    /// needs it.
    pub fn new(data_dir: &Path) -> Self {
        let path = data_dir.join(LEDGER_FILE);
        Self {
            writes: Line::new(path.clone(), &connect::LEDGER),
            reads: Line::new(path, &connect::LEDGER_READ),
            texts: write::Texts::new(),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.writes.path()
    }

    /// Closes the file properly, which folds the write-ahead log into it. Later calls open it again.
    pub async fn close(&self) {
        self.reads.close().await;
        self.writes.close().await;
    }
}

impl LedgerStore for SqlLedger {
    fn write<'a>(&'a self, batch: &'a Batch) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut connection = self.writes.hold().await?;
            let mut outcome = write::write(&mut connection, &self.texts, batch, false).await;
            if outcome.as_ref().err().and_then(trouble::taken).is_some() {
                // Somebody has ended one of these requests before: the first word stands.
                outcome = write::write(&mut connection, &self.texts, batch, true).await;
            }
            drop(connection);
            match outcome {
                Ok(()) => Ok(()),
                Err(error) if trouble::is_hopeless(&error) => {
                    let say = "the ledger refuses an entry: this is a defect, please report it";
                    Err(Error::new(Code::InternalError, say).with_source(error))
                }
                Err(error) => Err(self.writes.failed(error).await),
            }
        })
    }

    fn recover(&self, now: SystemTime) -> Pending<'_, Recovered> {
        Box::pin(async move {
            let orphans = {
                let mut connection = self.writes.hold().await?;
                let left = read::left_open(&mut connection, now).await;
                drop(connection);
                match left {
                    Ok(left) => left,
                    Err(error) => return Err(self.writes.failed(error).await),
                }
            };
            let batch = Batch { closed: orphans, ..Batch::default() };
            self.write(&batch).await?;
            let mut connection = self.writes.hold().await?;
            let spent = read::spent(&mut connection, now).await;
            drop(connection);
            match spent {
                Ok(spent) => Ok(Recovered { orphans: batch.closed.len() as u64, spent }),
                Err(error) => Err(self.writes.failed(error).await),
            }
        })
    }
}

impl Spending for SqlLedger {
    fn spend<'a>(&'a self, by: &'a By, range: Hours) -> Asking<'a, Report> {
        Box::pin(async move {
            let mut connection = self.reads.hold().await?;
            let outcome = records::usage(&mut connection, by, range).await;
            drop(connection);
            match outcome {
                Ok(report) => report,
                Err(error) => Err(self.reads.failed(error).await),
            }
        })
    }
}

impl fmt::Debug for SqlLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlLedger").field("path", &self.path()).finish_non_exhaustive()
    }
}
