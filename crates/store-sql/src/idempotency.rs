//! Answers by idempotency key, in `idempotency.db`: a file of its own, because every request with a key writes it twice.
//!
//! One connection: whoever looks for an answer may have to take its slot in the same step. What is removed is overwritten
//! with zeros, and leaves the write-ahead log at the end of the next sweep. A slot that was taken, and an answer that was
//! kept, outlive the process; a power cut may take the newest, and then a request runs again.

pub(crate) mod sql;

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use penstock_idempotency::{AnswerStore, Claim, Claimed, Pending, Room, Sealed, Slot, Stored, Ticket};

use crate::connect;
use crate::line::Line;

/// The file name of the answers in the data folder.
pub const IDEMPOTENCY_FILE: &str = "idempotency.db";

/// The kept answers of one data folder.
pub struct SqlAnswers(Line);

impl SqlAnswers {
    /// The answers of a folder. Opens nothing yet: the file is opened, and made when it is missing, by the first request
    /// that has a key.
    pub fn new(data_dir: &Path) -> Self {
        Self(Line::new(data_dir.join(IDEMPOTENCY_FILE), &connect::IDEMPOTENCY))
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

impl AnswerStore for SqlAnswers {
    fn claim(&self, claim: Claim) -> Pending<'_, Claimed> {
        Box::pin(async move {
            let mut connection = self.0.hold().await?;
            let outcome = sql::claim(&mut *connection, &claim).await;
            self.0.done(connection, outcome).await
        })
    }

    fn renew<'a>(&'a self, held: &'a [(Slot, Ticket)], until: SystemTime) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut connection = self.0.hold().await?;
            let outcome = sql::renew(&mut *connection, held, until).await;
            self.0.done(connection, outcome).await
        })
    }

    fn keep(&self, sealed: Sealed, room: Room) -> Pending<'_, Stored> {
        Box::pin(async move {
            let mut connection = self.0.hold().await?;
            let outcome = match sql::keep_at_once(&mut connection, &sealed, room).await {
                Ok(false) => sql::keep(&mut *connection, &sealed, room).await,
                Ok(true) => Ok(Stored::Stored),
                Err(error) => Err(error),
            };
            self.0.done(connection, outcome).await
        })
    }

    fn release(&self, slot: Slot, ticket: Ticket) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut connection = self.0.hold().await?;
            let outcome = sql::release(&mut *connection, slot, ticket).await;
            self.0.done(connection, outcome).await
        })
    }

    fn expire(&self, now: SystemTime) -> Pending<'_, bool> {
        Box::pin(async move {
            let mut connection = self.0.hold().await?;
            let more = sql::expire(&mut *connection, now).await;
            self.0.swept(connection, more).await
        })
    }
}

impl fmt::Debug for SqlAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlAnswers").field("path", &self.path()).finish_non_exhaustive()
    }
}
