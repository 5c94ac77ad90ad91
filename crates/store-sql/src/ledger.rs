//! The ledger, in `ledger.db`.
//!
//! A file of its own beside the records: what was spent is kept when records are thrown away, and budgets do not wait for
//! them. Its sums have the shape of the records' sums and are read by the same code, so that both tell the same.

mod living;
mod open;
mod paid;
mod read;
mod write;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use penstock_admission::Level;
use penstock_admission::ledger::{Batch, GatewayId, LedgerStore, Pending, Recovered, Sums, Tended, Written};
use penstock_domain::{Code, Error};
use penstock_observe::store::{By, Hours, Pending as Asking, Report, Spending};

use crate::line::Line;
use crate::{connect, records, trouble};
use living::Living;

pub(crate) use open::so_far;
pub(crate) use paid::Paid;
pub(crate) use read::{Names, left_open, spent, spent_by};
pub(crate) use write::column;

/// The file name of the ledger in the data folder.
pub const LEDGER_FILE: &str = "ledger.db";

/// The ledger of one data folder.
pub struct SqlLedger {
    writes: Line,
    reads: Line,
    texts: write::Texts,
    living: Living,
}

impl SqlLedger {
    /// The ledger of a folder, for a gateway that has an id of its own. Opens nothing yet: the file is opened, and made when it
    /// is missing, by the first call that needs it.
    pub fn new(data_dir: &Path) -> Self {
        Self::of(data_dir, GatewayId::random())
    }

    /// The same for the gateway with this id. Gateways on one folder see by each other's lock files who lives.
    pub fn of(data_dir: &Path, gateway: GatewayId) -> Self {
        let path = data_dir.join(LEDGER_FILE);
        Self {
            writes: Line::new(path.clone(), &connect::LEDGER),
            reads: Line::new(path, &connect::LEDGER_READ),
            texts: write::Texts::new(),
            living: Living::new(data_dir, gateway),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.writes.path()
    }

    pub(crate) fn writes(&self) -> &Line {
        &self.writes
    }

    /// Closes the file properly, which folds the write-ahead log into it, and says that this gateway is no more. Later calls
    /// open it again.
    pub async fn close(&self) {
        self.living.leave();
        self.reads.close().await;
        self.writes.close().await;
    }
}

impl SqlLedger {
    /// Settles what those left open that are not among the living.
    async fn settle_for_the_dead(&self, now: SystemTime) -> Result<Tended, Error> {
        self.living.enter()?;
        let open = {
            let mut connection = self.writes.hold().await?;
            let open = read::left_open(&mut *connection, &read::NAMES, self.living.id(), now).await;
            self.writes.done(connection, open).await?
        };
        // In this order: whoever has something open has had its lock before.
        let found = self.living.look()?;
        let dead = open.into_iter().filter(|(gateway, _)| !found.living.contains(gateway));
        let batch = Batch { closed: dead.map(|(_, entry)| entry).collect(), ..Batch::default() };
        if !batch.closed.is_empty() {
            self.write(&batch).await?;
        }
        found.dead.into_iter().for_each(living::Dead::forget);
        Ok(Tended { orphans: batch.closed.len() as u64, living: found.living })
    }
}

impl LedgerStore for SqlLedger {
    fn write<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Written> {
        Box::pin(async move {
            if !batch.opened.is_empty() {
                self.living.enter()?;
            }
            let by = (&self.texts, self.living.id());
            let mut connection = self.writes.hold().await?;
            let mut outcome = write::write(&mut connection, by, batch, false).await;
            if outcome.as_ref().err().and_then(trouble::taken).is_some() {
                // Somebody has ended one of these requests before: the first word stands.
                outcome = write::write(&mut connection, by, batch, true).await;
            }
            drop(connection);
            match outcome {
                Ok(written) => Ok(written),
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
            let orphans = self.settle_for_the_dead(now).await?.orphans;
            let mut connection = self.writes.hold().await?;
            let spent = read::spent(&mut *connection, &read::NAMES, now).await;
            self.writes.done(connection, spent).await.map(|spent| Recovered { orphans, spent })
        })
    }

    fn tend(&self, now: SystemTime) -> Pending<'_, Tended> {
        Box::pin(self.settle_for_the_dead(now))
    }

    fn spent<'a>(&'a self, accounts: &'a [(Level, Arc<str>)], now: SystemTime) -> Pending<'a, Vec<Sums>> {
        Box::pin(async move {
            let mut connection = self.reads.hold().await?;
            let spent = read::spent_by(&mut *connection, &read::NAMES, accounts, now).await;
            self.reads.done(connection, spent).await
        })
    }
}

impl Spending for SqlLedger {
    fn spend<'a>(&'a self, by: &'a By, range: Hours) -> Asking<'a, Report> {
        Box::pin(async move {
            let mut connection = self.reads.hold().await?;
            let outcome = records::usage(&mut *connection, &records::TABLES, by, range).await;
            self.reads.done(connection, outcome).await?
        })
    }
}

impl fmt::Debug for SqlLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlLedger").field("path", &self.path()).finish_non_exhaustive()
    }
}
