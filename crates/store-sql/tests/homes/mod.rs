//! Where a store may be: a folder of files, or a database of a real PostgreSQL.

use std::path::Path;
use std::sync::Arc;

use penstock_admission::ledger::{GatewayId, LedgerStore};
use penstock_domain::Secret;
use penstock_identity::{AuditLog, KeyStore};
use penstock_observe::RecordStore;
use penstock_observe::store::Spending;
use penstock_store_sql::{PgAudit, Postgres, SqlAudit, SqlLedger, SqlRecords, SqlStore};
use penstock_testkit::Postgres as Server;

/// Each file of tests takes what it needs of these.
const _: () = {
    let _ = (Home::each, Home::folder, Home::postgres, Home::name, Home::path, Home::address, Home::ask);
    let _ = (Home::open, Home::keys, Home::records, Home::ledger, Home::bury, Home::audit);
};

/// A ledger, and what it tells.
pub(crate) trait Ledger: LedgerStore + Spending {}

impl<T: LedgerStore + Spending> Ledger for T {}

/// An empty place.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    address: Option<String>,
}

impl Home {
    /// One of each kind.
    pub(crate) fn each() -> [Home; 2] {
        [Home::folder(), Home::postgres()]
    }

    pub(crate) fn folder() -> Home {
        Home { folder: tempfile::tempdir().expect("a folder"), address: None }
    }

    pub(crate) fn postgres() -> Home {
        Home { address: Some(Server::shared().database()), ..Home::folder() }
    }

    /// What to call it when something is wrong.
    pub(crate) fn name(&self) -> &'static str {
        if self.address.is_some() { "postgres" } else { "files" }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The database's address.
    pub(crate) fn address(&self) -> &str {
        self.address.as_deref().expect("a database")
    }

    /// What a statement says, asked from outside.
    pub(crate) fn ask(&self, text: &str) -> String {
        Server::shared().ask(self.address.as_deref().expect("a database"), text)
    }

    /// Another gateway on the database.
    pub(crate) fn open(&self) -> Arc<Postgres> {
        let address = self.address.as_deref().expect("a database");
        Arc::new(Postgres::new(&Secret::new(address), GatewayId::random()).expect("an address"))
    }

    pub(crate) async fn keys(&self) -> Arc<dyn KeyStore> {
        match &self.address {
            None => Arc::new(SqlStore::open(self.path()).await.expect("opens")),
            Some(_) => self.open(),
        }
    }

    pub(crate) fn records(&self) -> Arc<dyn RecordStore> {
        match &self.address {
            None => Arc::new(SqlRecords::new(self.path())),
            Some(_) => self.open(),
        }
    }

    /// The ledger as another gateway has it.
    pub(crate) fn ledger(&self) -> Arc<dyn Ledger> {
        match &self.address {
            None => Arc::new(SqlLedger::new(self.path())),
            Some(_) => self.open(),
        }
    }

    /// The gateway's process is no more, and the time after which others see that is over.
    pub(crate) fn bury(&self, ledger: Arc<dyn Ledger>) {
        drop(ledger);
        if self.address.is_some() {
            self.ask("UPDATE gateways SET seen = seen - INTERVAL '1 minute'");
        }
    }

    pub(crate) fn audit(&self) -> Arc<dyn AuditLog> {
        match &self.address {
            None => Arc::new(SqlAudit::new(self.path())),
            Some(_) => Arc::new(PgAudit::new(self.open(), self.path())),
        }
    }
}
