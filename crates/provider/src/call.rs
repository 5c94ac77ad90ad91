use std::sync::Arc;
use std::time::Instant;

use penstock_domain::Request;

/// One attempt at one candidate.
#[derive(Debug, Clone)]
pub struct Call {
    /// The request, shared with the other attempts.
    pub request: Arc<Request>,
    /// The model as the back end names it.
    pub model: Arc<str>,
    /// Which of the back end's credentials is used, from 0 (see [`crate::Provider::credentials`]).
    pub credential: u32,
    /// When the attempt must have ended: the asker's deadline, never restarted by a retry.
    pub deadline: Option<Instant>,
}
