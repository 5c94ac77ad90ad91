use std::fmt;

/// The stages of one request, in the order in which they happen. Spans, errors, metrics and docs use these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Bytes become a [`crate::Request`] and a [`crate::Credential`].
    Decode,
    /// The credential becomes a caller.
    Authenticate,
    /// The caller may do this now: scopes, rates, concurrency.
    Admit,
    /// The model behind the name, and its bounds.
    Prepare,
    /// Candidates in order.
    Route,
    /// Every candidate has its hands full: the request waits for its turn.
    Queue,
    /// Candidates are tried until the first delta is in hand.
    Call,
    /// The permit is returned and the record is sent, at the end or on drop.
    Settle,
    /// The answer leaves: whole JSON or server-sent events.
    Reply,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Stage; 9] = [
        Stage::Decode,
        Stage::Authenticate,
        Stage::Admit,
        Stage::Prepare,
        Stage::Route,
        Stage::Queue,
        Stage::Call,
        Stage::Settle,
        Stage::Reply,
    ];

    /// The stage's name in spans, metrics and errors.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::Authenticate => "authenticate",
            Stage::Admit => "admit",
            Stage::Prepare => "prepare",
            Stage::Route => "route",
            Stage::Queue => "queue",
            Stage::Call => "call",
            Stage::Settle => "settle",
            Stage::Reply => "reply",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
