//! What is kept of answers, for clients that send the same request again.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{ByteSize, DurationText, Problem};

/// The shortest lease: what is shorter runs out while a busy machine looks away.
const SHORTEST_LEASE: Duration = Duration::from_secs(2);

/// What is kept of answers to requests with the header `idempotency-key`, so that the same request sent again is not done
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Idempotency {
    /// How long an answer is kept. Default 24h.
    pub retention: DurationText,
    /// How long a request that died with its gateway holds up the next one of the same key, at least 2s. Default 30s.
    pub lease: DurationText,
    /// Largest answer that is kept; a request whose answer is larger is done again. Default 4MiB.
    pub max_body: ByteSize,
    /// Most that is kept for one key or token subject; its oldest answers make room for its newest. Default 64MiB.
    pub max_key_bytes: ByteSize,
    /// Most that is kept for all together; what is more is answered and not kept. Default 1GiB.
    pub max_bytes: ByteSize,
}

impl Default for Idempotency {
    fn default() -> Self {
        Self {
            retention: DurationText(Duration::from_secs(86_400)),
            lease: DurationText(Duration::from_secs(30)),
            max_body: ByteSize(4 << 20),
            max_key_bytes: ByteSize(64 << 20),
            max_bytes: ByteSize(1 << 30),
        }
    }
}

/// Finds what no schema can say of the section.
pub(crate) fn check(retention: Option<Duration>, lease: Option<Duration>, found: &mut Vec<Problem>) {
    if retention.is_some_and(|time| time.is_zero()) {
        found.push(Problem::error("idempotency.retention", "must be more than zero"));
    }
    if lease.is_some_and(|time| time < SHORTEST_LEASE) {
        found.push(Problem::error("idempotency.lease", "must be at least 2s"));
    }
}
