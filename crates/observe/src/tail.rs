//! Records as they come, for whoever watches.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::{Entry, Record};

/// Records that a watcher may be behind before it has lost some.
const BEHIND: usize = 1_024;

/// Watchers at the same time: each costs a wake-up per batch.
const WATCHERS: usize = 32;

/// Shows every ended request to those who watch, at the moment it is counted. Costs nothing while nobody does. A watcher
/// who is slow loses records and is told so; nobody waits for them.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    sender: Option<broadcast::Sender<Arc<Entry>>>,
    closed: bool,
}

/// Why nobody can watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwatched {
    /// The program ends.
    Closed,
    /// Enough others do.
    Crowded,
}

impl Tail {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the program ends, or too many watch already.
    pub fn watch(&self) -> Result<broadcast::Receiver<Arc<Entry>>, Unwatched> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(Unwatched::Closed);
        }
        let sender = state.sender.get_or_insert_with(|| broadcast::channel(BEHIND).0);
        if sender.receiver_count() >= WATCHERS {
            return Err(Unwatched::Crowded);
        }
        Ok(sender.subscribe())
    }

    /// Ends every watch, and lets none begin.
    pub fn close(&self) {
        *self.0.lock() = State { sender: None, closed: true };
    }

    pub(crate) fn show(&self, batch: &[Record]) {
        let mut state = self.0.lock();
        let Some(sender) = &state.sender else { return };
        if sender.receiver_count() == 0 {
            // Lets go of the records that the channel still holds.
            state.sender = None;
            return;
        }
        for record in batch {
            // The last watcher may leave at any moment.
            let _ = sender.send(Arc::new(Entry::of(record)));
        }
    }
}
