use std::time::Duration;

use penstock_config::Idempotency;

use crate::Room;

/// What is kept, for how long and how much of it: one configuration snapshot's say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long an answer is kept.
    pub retention: Duration,
    /// How long a runner that says nothing more is waited for.
    pub lease: Duration,
    /// Largest answer that is kept, in bytes.
    pub max_body: usize,
    /// How much is kept together.
    pub room: Room,
}

impl From<&Idempotency> for Policy {
    fn from(config: &Idempotency) -> Self {
        Self {
            retention: config.retention.0,
            lease: config.lease.0,
            max_body: usize::try_from(config.max_body.0).unwrap_or(usize::MAX),
            room: Room { tenant: config.max_key_bytes.0, total: config.max_bytes.0 },
        }
    }
}

impl Default for Policy {
    /// As the configuration's own default.
    fn default() -> Self {
        Self::from(&Idempotency::default())
    }
}
