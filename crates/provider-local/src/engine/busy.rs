//! How many engines are at work in this process, so that its end can wait for them.
//!
//! A process that ends destroys what the engine's library keeps for all models, and a thread that is still inside that
//! library then reads freed memory. So whoever ends the process stops the engines first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

static AT_WORK: Mutex<usize> = Mutex::new(0);
static FEWER: Condvar = Condvar::new();
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Held by a thread while it is inside the engine's library, or about to be.
pub(super) struct Busy(());

impl Busy {
    pub(super) fn new() -> Self {
        *AT_WORK.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self(())
    }

    /// Waits for something outside the library: no end of the process has to wait meanwhile.
    pub(super) fn apart<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        leave();
        let got = wait();
        std::mem::forget(Self::new());
        got
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    *AT_WORK.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    FEWER.notify_all();
}

/// Whether the process is about to end: engines begin nothing more.
pub(crate) fn stopping() -> bool {
    STOPPING.load(Ordering::Relaxed)
}

/// Waits until no engine of this process loads or computes, at most `within`; tells whether that came true.
pub fn settle(within: Duration) -> bool {
    let at_work = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = FEWER.wait_timeout_while(at_work, within, |at_work| *at_work > 0);
    *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
}

/// Ends all engines of this process for good: what loads gives up, what generates ends after its step. Waits for that at
/// most `within`; tells whether that came true. Call it before the process ends.
pub fn stop(within: Duration) -> bool {
    STOPPING.store(true, Ordering::Relaxed);
    settle(within)
}
