//! What a caller's open answers hang on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells those who work for a caller that it may no longer call: its key was revoked, its issuer is no longer trusted.
/// One flag for all answers of a key; looking at it costs one read of memory.
#[derive(Debug, Clone, Default)]
pub struct Leash(Arc<AtomicBool>);

impl Leash {
    /// Whether the caller may no longer call.
    pub fn is_cut(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends it, for good.
    pub(crate) fn cut(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl PartialEq for Leash {
    /// Two callers are equal when they are the same and may do the same; what hangs on them does not matter.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Leash {}
