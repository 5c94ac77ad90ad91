//! Records while the program runs: where they are kept, and the end of old ones.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_observe::{RecordStore, Tail, Tally};

use crate::reload::{self, Current};

/// How often old records are looked for.
const SWEEP: Duration = Duration::from_secs(3_600);
/// The first time comes when the start is over.
const FIRST: Duration = Duration::from_secs(5);
/// Between two steps of a sweep: new records are written meanwhile.
const BREATH: Duration = Duration::from_millis(50);

/// The records of the running program.
pub(crate) struct Kept {
    pub(crate) store: Arc<dyn RecordStore>,
    pub(crate) tail: Tail,
}

impl Kept {
    /// Has a tally keep what it counts.
    pub(crate) fn new(store: Arc<dyn RecordStore>, tally: Tally) -> (Self, Tally) {
        let tail = tally.tail();
        let tally = tally.keeping(Arc::clone(&store));
        (Self { store, tail }, tally)
    }
}

/// Deletes what is too old, in small steps, for ever.
pub(crate) async fn sweep(store: Arc<dyn RecordStore>, current: Current) {
    let mut every = tokio::time::interval_at(tokio::time::Instant::now() + FIRST, SWEEP);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let now = SystemTime::now();
        let retention = reload::now(&current).config.records.retention.0;
        let before = now.checked_sub(retention).unwrap_or(SystemTime::UNIX_EPOCH);
        loop {
            match store.expire(before, now).await {
                Ok(true) => tokio::time::sleep(BREATH).await,
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "old records cannot be deleted; tried again in an hour");
                    break;
                }
            }
        }
    }
}
