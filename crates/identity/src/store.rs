//! The port under which keys are kept.

use std::future::Future;
use std::pin::Pin;

use penstock_domain::Error;

use crate::KeyRecord;

/// What the methods of [`KeyStore`] return.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// All keys as they stood at one moment.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The store's revision at that moment.
    pub revision: u64,
    /// The keys.
    pub keys: Vec<KeyRecord>,
}

/// Keeps keys for good. Several processes may hold the same store at once.
pub trait KeyStore: Send + Sync {
    /// All keys, revoked ones included, in the order of their ids, with the revision that they belong to.
    fn list(&self) -> Pending<'_, Listing>;

    /// Adds a key. Durable when it returns. `conflict` when the id, the name or the digest is taken.
    fn insert(&self, record: KeyRecord) -> Pending<'_, ()>;

    /// Writes back a changed key whose `version` is the one that was read, and returns it with its next version.
    /// Durable when it returns. `conflict` when somebody else changed it meanwhile, `not_found` when it is not there.
    fn update(&self, record: KeyRecord) -> Pending<'_, KeyRecord>;

    /// A number that grows with every change, by whichever process. Cheap: it is asked twice a second.
    fn revision(&self) -> Pending<'_, u64>;
}
