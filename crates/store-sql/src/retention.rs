//! The end of old entries of the ledger. Sums by hour and totals are other tables and stay.

use std::time::SystemTime;

use penstock_domain::Error;

use crate::SqlLedger;
use crate::link::{Ask, Link, Lock};
use crate::records::micros;

/// Entries deleted at once: some milliseconds of work.
const STEP: i64 = 500;

const OLD: &str =
    "DELETE FROM ENTRIES WHERE place IN (SELECT place FROM ENTRIES WHERE place < $1 ORDER BY place LIMIT $2)";

/// One small step in the table of entries; says whether there may be more.
pub(crate) async fn expire<L: Link>(link: &mut L, table: &str, before: SystemTime) -> sqlx::Result<bool> {
    let mut transaction = link.change(Lock::Ledger).await?;
    let gone =
        transaction.run(Ask::new(OLD.replace("ENTRIES", table)).bind(micros(before)).bind(STEP)).await?;
    transaction.commit().await?;
    Ok(i64::try_from(gone).unwrap_or(STEP) >= STEP)
}

impl SqlLedger {
    /// Deletes some entries of requests that ended before a moment; says whether there may be more. What was spent by hour,
    /// and ever, stays.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn expire(&self, before: SystemTime) -> Result<bool, Error> {
        let mut connection = self.writes().hold().await?;
        let outcome = expire(&mut *connection, "entries", before).await;
        drop(connection);
        match outcome {
            Ok(more) => Ok(more),
            Err(error) => Err(self.writes().failed(error).await),
        }
    }
}
