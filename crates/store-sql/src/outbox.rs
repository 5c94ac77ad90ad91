//! The outbox of events, in `outbox.db`: a file of its own, because what it holds may be thrown away with it and nothing else.
//!
//! An event that was taken outlives the process; a power cut may take the newest, and then it is noticed again by what the
//! ledger says.

pub(crate) mod sql;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_alert::{Added, Claim, Delivery, Notice, Outbox, Pending, Query, Reply};

use crate::connect;
use crate::line::Line;

/// The file name of the outbox in the data folder.
pub const OUTBOX_FILE: &str = "outbox.db";

/// The outbox of one data folder.
pub struct SqlOutbox(Line);

impl SqlOutbox {
    /// The outbox of a folder. Opens nothing yet: the file is opened, and made when it is missing, by the first event.
    pub fn new(data_dir: &Path) -> Self {
        Self(Line::new(data_dir.join(OUTBOX_FILE), &connect::OUTBOX))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Closes the file properly, which folds the write-ahead log into it. Later calls open it again.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

impl Outbox for SqlOutbox {
    fn add<'a>(&'a self, notice: &'a Notice, endpoints: &'a [Arc<str>]) -> Pending<'a, Added> {
        Box::pin(async move {
            let mut connection = self.0.hold().await?;
            let outcome = sql::add(&mut *connection, notice, endpoints).await;
            self.0.done(connection, outcome).await
        })
    }

    fn claim<'a>(&'a self, endpoint: &'a str, now: SystemTime, lease: Duration) -> Pending<'a, Claim> {
        Box::pin(async move {
            let mut connection = self.0.hold().await?;
            let outcome = sql::claim(&mut *connection, endpoint, now, lease).await;
            self.0.done(connection, outcome).await
        })
    }

    fn settle<'a>(&'a self, id: &'a str, reply: &'a Reply) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut connection = self.0.hold().await?;
            let outcome = sql::settle(&mut *connection, id, reply).await;
            self.0.done(connection, outcome).await
        })
    }

    fn list(&self, query: Query) -> Pending<'_, Vec<Delivery>> {
        Box::pin(async move {
            let mut connection = self.0.hold().await?;
            let outcome = sql::list(&mut *connection, query).await;
            self.0.done(connection, outcome).await
        })
    }

    fn again<'a>(&'a self, id: &'a str, now: SystemTime) -> Pending<'a, Option<Delivery>> {
        Box::pin(async move {
            let mut connection = self.0.hold().await?;
            let outcome = sql::again(&mut *connection, id, now).await;
            self.0.done(connection, outcome).await
        })
    }
}

impl fmt::Debug for SqlOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlOutbox").field("path", &self.path()).finish_non_exhaustive()
    }
}
