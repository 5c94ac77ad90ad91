//! The response store, in `responses.db`: a file of its own, because it alone holds what people said.
//!
//! Two connections: one writes, one reads, and in WAL mode neither waits for the other. What is removed is overwritten
//! with zeros, and leaves the write-ahead log at the end of the next sweep.

pub(crate) mod sql;

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use penstock_conversation::{Chain, Owner, Pending, Reach, ResponseStore, Turn};
use penstock_domain::{Code, Error};

use crate::connect;
use crate::line::Line;
use crate::trouble;
use sql::Put;

/// The file name of the responses in the data folder.
pub const RESPONSES_FILE: &str = "responses.db";

/// The stored responses of one data folder.
pub struct SqlResponses {
    writes: Line,
    reads: Line,
}

impl SqlResponses {
    /// The responses of a folder. Opens nothing yet: the file is opened, and made when it is missing, by the first call
    /// that needs it, so that a store in trouble does not keep the gateway from starting.
    pub fn new(data_dir: &Path) -> Self {
        let path = data_dir.join(RESPONSES_FILE);
        Self {
            writes: Line::new(path.clone(), &connect::RESPONSES),
            reads: Line::new(path, &connect::RESPONSES_READ),
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

impl ResponseStore for SqlResponses {
    fn put(&self, turn: Turn, most: u64) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut connection = self.writes.hold().await?;
            let outcome = sql::put(&mut *connection, &turn, most).await;
            drop(connection);
            match outcome {
                Ok(Put::Done) => Ok(()),
                Ok(Put::Full) => Err(full()),
                Err(error) if trouble::taken(&error).is_some() => Err(there_already(error)),
                Err(error) => Err(self.writes.failed(error).await),
            }
        })
    }

    fn chain<'a>(
        &'a self,
        owner: &'a Owner,
        id: &'a str,
        reach: Reach,
        now: SystemTime,
    ) -> Pending<'a, Chain> {
        Box::pin(async move {
            let mut connection = self.reads.hold().await?;
            let outcome = sql::chain(&mut *connection, (owner, id), reach, now).await;
            self.reads.done(connection, outcome).await
        })
    }

    fn holding<'a>(
        &'a self,
        owner: &'a Owner,
        items: &'a [String],
        reach: Reach,
        now: SystemTime,
    ) -> Pending<'a, Vec<Turn>> {
        Box::pin(async move {
            let mut connection = self.reads.hold().await?;
            let outcome = sql::holding(&mut *connection, (owner, items), reach, now).await;
            self.reads.done(connection, outcome).await
        })
    }

    fn delete<'a>(&'a self, owner: &'a Owner, id: &'a str, now: SystemTime) -> Pending<'a, bool> {
        Box::pin(async move {
            let mut connection = self.writes.hold().await?;
            let outcome = sql::delete(&mut *connection, (owner, id), now).await;
            self.writes.done(connection, outcome).await
        })
    }

    fn expire(&self, now: SystemTime) -> Pending<'_, bool> {
        Box::pin(async move {
            let mut connection = self.writes.hold().await?;
            let more = sql::expire(&mut *connection, now).await;
            self.writes.swept(connection, more).await
        })
    }
}

pub(crate) fn full() -> Error {
    let say = "this owner keeps as much as it may: delete responses, wait until they expire, or raise \
               responses.max_owner_bytes";
    Error::new(Code::RequestTooLarge, say)
}

pub(crate) fn there_already(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::Conflict, "the owner has a response of this id already").with_source(error)
}

impl fmt::Debug for SqlResponses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlResponses").field("path", &self.path()).finish_non_exhaustive()
    }
}
