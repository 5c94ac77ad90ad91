//! The way to the store: one batch is one transaction, and a store that fails costs memory for a while, never a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use penstock_domain::{Code, Error};
use tokio::time::Instant;

use super::{BATCH, weight};
use crate::{Metrics, Record, RecordStore};

/// Records that wait in memory while the store fails; what comes after them is lost.
const WAITING: usize = 16 * 1024;

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
    /// Set while the store fails: when to try again.
    again: Option<Instant>,
    /// Lost since the store began to fail.
    lost: u64,
}

impl Keeper {
    pub(super) fn new(
        store: Option<Arc<dyn RecordStore>>,
        metrics: Arc<Metrics>,
        content: Arc<AtomicUsize>,
    ) -> Self {
        Self { store, metrics, content, waiting: Vec::new(), again: None, lost: 0 }
    }

    /// Resolves when a store that failed should be tried again; never while it works.
    pub(super) async fn due(&self) {
        match self.again {
            Some(again) => tokio::time::sleep_until(again).await,
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
        if self.again.is_none_or(|again| again <= Instant::now()) {
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
        if self.waiting.is_empty() && self.again.take().is_some() {
            let lost = std::mem::take(&mut self.lost);
            tracing::info!(lost, "records are stored again");
        }
        self.metrics.waiting.set(i64::try_from(self.waiting.len()).unwrap_or(i64::MAX));
    }

    /// Once per trouble, not once per try.
    fn failed(&mut self, error: &Error) {
        if self.again.is_none() {
            let source = std::error::Error::source(error);
            tracing::error!(%error, source, "records are not stored; they wait in memory");
        }
        self.again = Some(Instant::now() + REST);
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
