//! Where state lives: files in the data folder of one gateway, or a database of several. The one place that tells them apart.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use penstock_admission::ledger::{GatewayId, LedgerStore};
use penstock_alert::Outbox;
use penstock_config::{Config, Database};
use penstock_conversation::ResponseStore;
use penstock_domain::Error;
use penstock_idempotency::AnswerStore;
use penstock_identity::{AuditLog, KeyStore, Pepper, SessionStore, TeamStore};
use penstock_observe::RecordStore;
use penstock_observe::store::Spending;
use penstock_store_sql::{
    PgAudit, PgCheck, Postgres, SqlAnswers, SqlAudit, SqlLedger, SqlOutbox, SqlRecords, SqlResponses,
    SqlStore,
};

use crate::data;

/// Between two looks for a database that is not there at the start, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The stores of one configuration, for one process. Each is opened by whoever first needs it, so that trouble with one costs
/// what it keeps and nothing else.
pub(crate) struct Stores {
    pub(crate) gateway: GatewayId,
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) ledger: Arc<dyn LedgerStore>,
    pub(crate) spending: Arc<dyn Spending>,
    pub(crate) responses: Arc<dyn ResponseStore>,
    pub(crate) answers: Arc<dyn AnswerStore>,
    pub(crate) outbox: Arc<dyn Outbox>,
    place: Place,
}

enum Place {
    Files(Box<Files>),
    Postgres(Arc<Postgres>),
}

struct Files {
    audit: Arc<SqlAudit>,
    records: Arc<SqlRecords>,
    ledger: Arc<SqlLedger>,
    responses: Arc<SqlResponses>,
    answers: Arc<SqlAnswers>,
    outbox: Arc<SqlOutbox>,
}

impl Stores {
    /// The stores of a configuration; nothing is opened yet.
    ///
    /// # Errors
    /// A sentence on the address of the database, without its password.
    pub(crate) fn of(config: &Config) -> Result<Self, Error> {
        let gateway = GatewayId::random();
        let dir = &config.data_dir;
        match &config.stores.database {
            Database::Sqlite => {
                let files = Files {
                    audit: Arc::new(SqlAudit::new(dir)),
                    records: Arc::new(SqlRecords::new(dir)),
                    ledger: Arc::new(SqlLedger::of(dir, gateway.clone())),
                    responses: Arc::new(SqlResponses::new(dir)),
                    answers: Arc::new(SqlAnswers::new(dir)),
                    outbox: Arc::new(SqlOutbox::new(dir)),
                };
                Ok(Self {
                    gateway,
                    audit: Arc::clone(&files.audit) as _,
                    records: Arc::clone(&files.records) as _,
                    ledger: Arc::clone(&files.ledger) as _,
                    spending: Arc::clone(&files.ledger) as _,
                    responses: Arc::clone(&files.responses) as _,
                    answers: Arc::clone(&files.answers) as _,
                    outbox: Arc::clone(&files.outbox) as _,
                    place: Place::Files(Box::new(files)),
                })
            }
            Database::Postgres(address) => {
                let database = Arc::new(Postgres::new(address.secret(), gateway.clone())?);
                Ok(Self {
                    gateway,
                    audit: Arc::new(PgAudit::new(Arc::clone(&database), dir)),
                    records: Arc::clone(&database) as _,
                    ledger: Arc::clone(&database) as _,
                    spending: Arc::clone(&database) as _,
                    responses: Arc::clone(&database) as _,
                    answers: Arc::clone(&database) as _,
                    outbox: Arc::clone(&database) as _,
                    place: Place::Postgres(database),
                })
            }
        }
    }

    /// Waits until the database can be used, where it is one that others start: tries again with growing pauses for as long as
    /// `bound`, and says so each time. What time alone does not mend (a wrong password, say) is told at once.
    ///
    /// # Errors
    /// `store_unavailable` with a sentence on the mend.
    pub(crate) async fn ready(&self, bound: Duration) -> Result<(), Error> {
        let Place::Postgres(database) = &self.place else { return Ok(()) };
        let end = Instant::now() + bound;
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(error) = database.open().await else { return Ok(()) };
            let left = end.saturating_duration_since(Instant::now());
            if !database.may_pass(&error) {
                return Err(error);
            }
            if left.is_zero() {
                let say = format!("{}; it was waited for {bound:?} (stores.database_wait)", error.say());
                return Err(Error::new(error.code(), say));
            }
            tracing::warn!(%error, left_s = left.as_secs(), "the database cannot be used yet; it is tried again");
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Opens what keeps keys, teams and sessions, with the pepper that their digests were made with.
    ///
    /// # Errors
    /// `store_unavailable` with a sentence on the mend: not reached, or another pepper than the other gateways have.
    pub(crate) async fn people(
        &self,
        config: &Config,
    ) -> Result<((Arc<dyn KeyStore>, Arc<dyn TeamStore>, Arc<dyn SessionStore>), Pepper), Error> {
        match &self.place {
            Place::Files(_) => {
                let pepper = self.pepper(config).await?;
                let store = Arc::new(SqlStore::open(&config.data_dir).await?);
                Ok(((Arc::clone(&store) as _, Arc::clone(&store) as _, store), pepper))
            }
            Place::Postgres(database) => {
                let pepper = self.pepper(config).await?;
                database.check_pepper(&pepper).await?;
                Ok((
                    (Arc::clone(database) as _, Arc::clone(database) as _, Arc::clone(database) as _),
                    pepper,
                ))
            }
        }
    }

    /// The pepper: what the configuration says, or the file in the data folder, which is made when there is none yet and
    /// nothing was made with another one.
    ///
    /// # Errors
    /// `store_unavailable` with a sentence on the mend.
    pub(crate) async fn pepper(&self, config: &Config) -> Result<Pepper, Error> {
        if let Some(own) = &config.auth.pepper {
            return penstock_store_sql::read_pepper(own.secret());
        }
        if let Place::Postgres(database) = &self.place
            && !penstock_store_sql::has_pepper(&config.data_dir)
            && database.pepper_check().await? != PgCheck::None
        {
            // A new one would only be another one.
            return Err(database.other_pepper());
        }
        penstock_store_sql::pepper(&config.data_dir)
    }

    /// Tells whether there can be records and a ledger: asking must not make a file.
    pub(crate) fn has_records(&self) -> bool {
        match &self.place {
            Place::Files(files) => files.records.path().exists(),
            Place::Postgres(_) => true,
        }
    }

    /// As [`has_records`](Self::has_records), for the ledger.
    pub(crate) fn has_ledger(&self) -> bool {
        match &self.place {
            Place::Files(files) => files.ledger.path().exists(),
            Place::Postgres(_) => true,
        }
    }

    /// Where records are, for sentences.
    pub(crate) fn place_of_records(&self) -> String {
        match &self.place {
            Place::Files(files) => files.records.path().display().to_string(),
            Place::Postgres(database) => database.place().to_owned(),
        }
    }

    /// Opens what keeps records, to see whether it can be done; says how much there is, where that is known.
    ///
    /// # Errors
    /// `store_unavailable` with a sentence on the mend.
    pub(crate) async fn open_records(&self) -> Result<String, Error> {
        match &self.place {
            Place::Files(files) => {
                files.records.open().await?;
                let bytes = std::fs::metadata(files.records.path()).map_or(0, |file| file.len());
                Ok(format!("can be opened, {} KiB", bytes / 1024))
            }
            Place::Postgres(database) => {
                database.open().await?;
                Ok(format!("are kept in {}", database.place()))
            }
        }
    }

    /// Deletes some entries of the ledger that ended before a moment; says whether there may be more.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(crate) async fn expire_entries(&self, before: SystemTime) -> Result<bool, Error> {
        match &self.place {
            Place::Files(files) => files.ledger.expire(before).await,
            Place::Postgres(database) => database.expire_entries(before).await,
        }
    }

    /// Closes everything properly.
    pub(crate) async fn close(&self) {
        match &self.place {
            Place::Files(files) => {
                let Files { audit, records, ledger, responses, answers, outbox } = &**files;
                tokio::join!(
                    audit.close(),
                    records.close(),
                    ledger.close(),
                    responses.close(),
                    answers.close(),
                    outbox.close()
                );
            }
            Place::Postgres(database) => database.close().await,
        }
    }
}

/// Whether the database of a configuration can be reached, where it has one; its place.
///
/// # Errors
/// `store_unavailable` with a sentence on the mend.
pub(crate) async fn reach(config: &Config) -> Result<Option<String>, Error> {
    let stores = Stores::of(config)?;
    let Place::Postgres(database) = &stores.place else { return Ok(None) };
    data::prepare(&config.data_dir)
        .map_err(|say| Error::new(penstock_domain::Code::StoreUnavailable, say))?;
    let pepper = stores.pepper(config).await?;
    database.check_pepper(&pepper).await?;
    let place = database.place().to_owned();
    stores.close().await;
    Ok(Some(place))
}
