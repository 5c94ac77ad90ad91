//! What a caller's open answers hang on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells those who work for a caller that it may no longer call: its key or token was revoked, its issuer is no longer trusted.
/// One flag for all answers of a key; looking at it costs one read of memory, or two for a token that its issuer vouches for.
#[derive(Debug, Clone, Default)]
pub struct Leash {
    own: Arc<AtomicBool>,
    /// What it hangs on itself.
    upper: Option<Arc<AtomicBool>>,
}

impl Leash {
    /// Whether the caller may no longer call.
    pub fn is_cut(&self) -> bool {
        let cut = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        cut(&self.own) || self.upper.as_deref().is_some_and(cut)
    }

    /// Ends it, for good.
    pub fn cut(&self) {
        self.own.store(true, Ordering::Relaxed);
    }

    /// Whether anybody has a clone of it beside the one that is asked.
    pub fn holds_anybody(&self) -> bool {
        Arc::strong_count(&self.own) > 1
    }

    /// A clone that is also cut when another leash is.
    pub(crate) fn hanging_on(&self, upper: &Leash) -> Self {
        Self { own: Arc::clone(&self.own), upper: Some(Arc::clone(&upper.own)) }
    }
}

impl PartialEq for Leash {
    /// Two callers are equal when they are the same and may do the same; what hangs on them does not matter.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Leash {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leash_that_hangs_on_another_is_cut_with_either() {
        let (issuer, token) = (Leash::default(), Leash::default());
        let (one, other) = (token.hanging_on(&issuer), Leash::default().hanging_on(&issuer));
        assert!(token.holds_anybody() && !one.is_cut());
        token.cut();
        assert!(one.is_cut() && !other.is_cut() && !issuer.is_cut(), "one token is not its issuer");
        issuer.cut();
        assert!(other.is_cut());
        drop(one);
        assert!(!token.holds_anybody());
    }
}
