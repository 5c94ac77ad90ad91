use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::Owner;

/// One response, with what was asked for it. Both texts are whatever the one who keeps them wrote: nobody here reads them.
#[derive(Clone, PartialEq, Eq)]
pub struct Turn {
    /// The response's id.
    pub id: Arc<str>,
    /// Whose it is.
    pub owner: Owner,
    /// The response that it continues.
    pub previous: Option<Arc<str>>,
    /// When it was made.
    pub created: SystemTime,
    /// When it is thrown away.
    pub expires: SystemTime,
    /// The response as it was answered.
    pub response: Bytes,
    /// What was asked for it, without the turns before.
    pub input: Bytes,
    /// The ids of the items in both, by which later requests may name them.
    pub items: Arc<[Arc<str>]>,
}

impl Turn {
    /// The bytes that count against bounds: both texts.
    pub fn size(&self) -> u64 {
        (self.response.len() as u64).saturating_add(self.input.len() as u64)
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What people said is nobody's business in a log.
        f.debug_struct("Turn")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .field("previous", &self.previous)
            .field("created", &self.created)
            .field("expires", &self.expires)
            .field("size", &self.size())
            .finish()
    }
}
