//! The audit log: one chain of all gateways, and each gateway's second place for the end that it saw last.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use penstock_domain::Error;
use penstock_identity::{AuditEntry, AuditEvent, AuditLog, AuditPage, Pending, Verdict};
use tokio::sync::Mutex;

use super::{ANSWERS, Postgres, within};
use crate::AUDIT_HEAD_FILE;
use crate::audit::{self, CHECKED, NEXT, PAGE, Rows};

/// The audit log of a database. Its newest row that was added here also stands in the data folder of this gateway, which
/// whoever alters the database does not reach.
pub struct PgAudit {
    database: Arc<Postgres>,
    head: PathBuf,
    /// One row at a time, with its end in the second place.
    turn: Mutex<()>,
}

impl PgAudit {
    /// The log of a database, with its second place in a data folder.
    pub fn new(database: Arc<Postgres>, data_dir: &Path) -> Self {
        Self { database, head: data_dir.join(AUDIT_HEAD_FILE), turn: Mutex::new(()) }
    }

    async fn rows(&self, statement: &'static str, from: u64, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        let mut held = self.database.other().await?;
        let outcome = within(ANSWERS, audit::rows(&mut *held, statement, from, limit)).await;
        self.database.done(held, outcome)
    }
}

impl fmt::Debug for PgAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgAudit").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Rows for PgAudit {
    fn after(&self, number: u64) -> Pending<'_, Vec<AuditEntry>> {
        Box::pin(self.rows(NEXT, number, CHECKED))
    }
}

impl AuditLog for PgAudit {
    fn append(&self, event: AuditEvent) -> Pending<'_, u64> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            let known = audit::read_head(&self.head)?;
            let mut held = self.database.other().await?;
            let outcome = within(ANSWERS, audit::insert(&mut *held, &event, known)).await;
            let Some(head) = self.database.done(held, outcome)? else {
                return Err(audit::does_not_fit(&self.database.place(), &self.head));
            };
            audit::write_head(&self.head, head)?;
            audit::tell(&event, head);
            Ok(head.number)
        })
    }

    fn page(&self, before: Option<u64>, limit: u32) -> Pending<'_, AuditPage> {
        Box::pin(async move {
            let entries = self.rows(PAGE, before.unwrap_or(u64::MAX), limit.saturating_add(1)).await?;
            Ok(audit::page_of(entries, limit))
        })
    }

    fn verify(&self) -> Pending<'_, Verdict> {
        Box::pin(audit::walk(self, &self.head, false))
    }
}
