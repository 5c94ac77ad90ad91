//! The ledger of the running program: what was spent before counts from the first request on.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use penstock_admission::ledger::{LedgerStore, Writer};
use penstock_admission::{Admission, Crossing, Rules};
use penstock_config::Config;
use penstock_store_sql::SqlLedger;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::reload::{self, Current};
use crate::Failure;

/// The ledger and who writes it.
pub(crate) struct Kept {
    pub(crate) store: Arc<SqlLedger>,
    pub(crate) admission: Arc<Admission>,
    /// Reservations that were found open at the start.
    pub(crate) orphans: u64,
    /// Parts of budgets that are spent, for one listener.
    pub(crate) crossings: Option<mpsc::Receiver<Crossing>>,
    writing: JoinHandle<()>,
}

impl Kept {
    /// Opens the ledger, settles what a process left open that is no more, and takes over what was spent.
    ///
    /// # Errors
    /// A sentence on the mend: without its ledger a gateway cannot keep a budget.
    pub(crate) async fn open(config: &Config) -> Result<Self, Failure> {
        let store = Arc::new(SqlLedger::new(&config.data_dir));
        let now = SystemTime::now();
        let recovered = store.recover(now).await.map_err(|error| error.say().to_owned())?;
        if recovered.orphans > 0 {
            tracing::warn!(
                count = recovered.orphans,
                "requests had no end in the ledger and were settled as estimated"
            );
        }
        let (admission, writer) =
            Admission::with_ledger(Instant::now(), Arc::clone(&store) as Arc<dyn LedgerStore>);
        let (admission, crossings) = admission.with_bell();
        admission.restore(&Rules::of(config), &recovered, now);
        let writing = tokio::spawn(Writer::run(writer));
        Ok(Self { store, admission: Arc::new(admission), writing })
    }

    /// Writes what is left, and closes the file.
    pub(crate) async fn close(self) {
        self.admission.close();
        // A writer that panicked has nothing left to write.
        let _ = self.writing.await;
        self.store.close().await;
    }
}
