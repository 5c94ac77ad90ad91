use std::time::Duration;

use penstock_config::Responses;

use crate::Reach;

/// The most turns that one conversation reaches back.
const MAX_DEPTH: usize = 1_000;

/// What is kept, for how long and how much of it: one configuration snapshot's say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether anything is kept at all.
    pub store: bool,
    /// How long a turn is kept.
    pub retention: Duration,
    /// Most bytes of one turn, and of the turns that one request is merged with.
    pub max_bytes: u64,
    /// Most bytes that one owner keeps.
    pub max_owner_bytes: u64,
}

impl Policy {
    /// How far a request may reach back.
    pub const fn reach(&self) -> Reach {
        Reach { turns: MAX_DEPTH, bytes: self.max_bytes }
    }
}

impl From<&Responses> for Policy {
    fn from(config: &Responses) -> Self {
        Self {
            store: config.store,
            retention: config.retention.0,
            max_bytes: config.max_bytes.0,
            max_owner_bytes: config.max_owner_bytes.0,
        }
    }
}

impl Default for Policy {
    /// As the configuration's own default.
    fn default() -> Self {
        Self::from(&Responses::default())
    }
}
