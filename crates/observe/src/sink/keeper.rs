//! The way to the store: one batch is one transaction, and a store that fails costs memory for a while, never a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use penstock_domain::{Code, Error};
use tokio::time::Instant;

use super::{BATCH, CONTENT, weight};
use crate::{Metrics, Record, RecordStore};

/// Records that wait in memory while the store fails; what comes after them is lost.
const WAITING: usize = 16 * 1024;

/// How long a record may wait for others to be written with it. What a transaction costs beside its rows is as much as thirty
/// rows; with what else may come between (a pause, the write itself) the bound of docs/how-to/find-a-request.md holds.
pub(super) const TOGETHER: Duration = Duration::from_millis(150);

/// How long a store that failed is left alone.
const REST: Duration = Duration::from_secs(1);

/// How often the last records are tried at the end; whoever awaits the end says for how long.
const LAST: Duration = Duration::from_millis(50);

/// Brings records to the store, and holds those that it does not take.
pub(super) struct Keeper {
    store: Option<Arc<dyn RecordStore>>,
    metrics: Arc<Metrics>,
    content: Arc<AtomicUsize>,
    waiting: Vec<Record>,
    /// When what waits is written; `None` while nothing does.
    when: Option<Instant>,
    failing: bool,
    /// Lost since the store began to fail.
    lost: u64,
}

impl Keeper {
    pub(super) fn new(
        store: Option<Arc<dyn RecordStore>>,
        metrics: Arc<Metrics>,
        content: Arc<AtomicUsize>,
    ) -> Self {
        Self { store, metrics, content, waiting: Vec::new(), when: None, failing: false, lost: 0 }
    }

    /// Resolves when what waits should be written; never while nothing does.
    pub(super) async fn due(&self) {
        match self.when {
            Some(when) => tokio::time::sleep_until(when).await,
            None => std::future::pending().await,
        }
    }

    /// Takes a batch, and leaves it empty.
    pub(super) async fn keep(&mut self, batch: &mut Vec<Record>) {
        if self.store.is_none() {
            self.forget(batch);
            batch.clear();
            return;
        }
        let room = WAITING - self.waiting.len();
        if batch.len() > room {
            let beyond = batch.split_off(room);
            self.lose(&beyond);
        }
        if self.waiting.is_empty() {
            std::mem::swap(&mut self.waiting, batch);
        } else {
            self.waiting.append(batch);
        }
        if self.waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        let when = *self.when.get_or_insert(now + TOGETHER);
        // A full batch gains nothing by waiting, and content takes room; but a store that failed is left alone.
        let full = self.waiting.len() >= BATCH || self.content.load(Ordering::Relaxed) >= CONTENT / 4;
        if when <= now || (full && !self.failing) {
            self.write().await;
        }
    }

    /// Tries until everything is kept.
    pub(super) async fn last(mut self) {
        while !self.waiting.is_empty() {
            self.write().await;
            if !self.waiting.is_empty() {
                tokio::time::sleep(LAST).await;
            }
        }
    }

    async fn write(&mut self) {
        let Some(store) = self.store.clone() else { return };
        let mut done = 0;
        while done < self.waiting.len() {
            let end = self.waiting.len().min(done + BATCH);
            let batch = &self.waiting[done..end];
            match store.append(batch).await {
                Ok(()) => self.forget(batch),
                Err(error) if error.code() == Code::StoreUnavailable => {
                    self.failed(&error);
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, count = batch.len(), "records cannot be stored and are lost");
                    self.metrics.lost.inc_by(batch.len() as u64);
                    self.forget(batch);
                }
            }
            done = end;
        }
        self.waiting.drain(..done);
        self.when = (!self.waiting.is_empty()).then(|| Instant::now() + REST);
        if self.waiting.is_empty() && std::mem::replace(&mut self.failing, false) {
            let lost = std::mem::take(&mut self.lost);
            tracing::info!(lost, "records are stored again");
        }
        self.metrics.waiting.set(i64::try_from(self.waiting.len()).unwrap_or(i64::MAX));
    }

    /// Once per trouble, not once per try.
    fn failed(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let source = std::error::Error::source(error);
            tracing::error!(%error, source, "records are not stored; they wait in memory");
        }
    }

    fn lose(&mut self, records: &[Record]) {
        if self.lost == 0 {
            tracing::error!(waiting = WAITING, "records are lost: the store has failed for too long");
        }
        self.lost += records.len() as u64;
        self.metrics.lost.inc_by(records.len() as u64);
        self.forget(records);
    }

    /// Their content no longer waits.
    fn forget(&self, records: &[Record]) {
        let bytes: usize = records.iter().map(weight).sum();
        if bytes > 0 {
            self.content.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if !self.waiting.is_empty() {
            self.metrics.lost.inc_by(self.waiting.len() as u64);
            tracing::error!(count = self.waiting.len(), "the last records were not stored and are lost");
        }
    }
}
