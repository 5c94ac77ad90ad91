//! The wires on which clients ask: one row per dialect.
//!
//! What it promises: every delta of the shared alphabet can be written in each of them, whoever the vendor was; a
//! failure becomes that dialect's terminal error. What it refuses to know: HTTP, routes, statuses.

use bytes::{Bytes, BytesMut};
use penstock_domain::{Delta, Dialect, Error, RawEvents, Request, RequestId, Task};

use crate::{DecodeLimits, Decoded, anthropic, openai, responses};

/// Writes deltas as events.
pub trait Encode: Send {
    /// Appends the events of one delta; a [`Delta::Failed`] becomes the terminal error event, after which nothing more
    /// is written.
    fn encode(&mut self, delta: Delta, out: &mut BytesMut);

    /// Notes that these raw events were sent past the encoder.
    fn passed(&mut self, _raw: &RawEvents) {}

    /// Ends the stream as the dialect ends a complete answer. Later calls write nothing.
    fn finish(&mut self, out: &mut BytesMut);
}

/// Folds deltas into one body.
pub trait Fold: Send {
    /// Takes the next delta.
    ///
    /// # Errors
    /// The error of a broken answer, or of one that grew beyond what is kept.
    fn push(&mut self, delta: Delta) -> Result<(), Error>;

    /// The body of a complete answer.
    ///
    /// # Errors
    /// `upstream_bad_response` when what came is no whole answer.
    fn finish(self: Box<Self>) -> Result<Bytes, Error>;
}

/// A dialect as a client's wire.
pub trait Asker: Sync {
    /// Reads a request body.
    ///
    /// # Errors
    /// What is wrong with it, with the member's name.
    fn decode(&self, task: Task, bytes: Bytes, limits: &DecodeLimits) -> Result<Decoded, Error>;

    /// What writes the answer to this request as events; `created` in seconds since the Unix epoch.
    fn encoder(&self, request: &Request, created: u64) -> Box<dyn Encode>;

    /// What folds the answer to this request into one body; `created` in seconds since the Unix epoch.
    fn folder(&self, request: &Request, created: u64) -> Box<dyn Fold>;

    /// An error as this dialect's clients expect it.
    fn error_body(&self, error: &Error, request_id: &RequestId) -> Bytes;
}

/// The wire of a dialect; `None` for one that no client asks in.
pub fn asker(dialect: Dialect) -> Option<&'static dyn Asker> {
    match dialect {
        Dialect::OpenAi => Some(&OpenAi),
        Dialect::Anthropic => Some(&Anthropic),
        Dialect::Responses => Some(&Responses),
        Dialect::Gemini | Dialect::Bedrock => None,
    }
}

struct OpenAi;

impl Asker for OpenAi {
    fn decode(&self, task: Task, bytes: Bytes, limits: &DecodeLimits) -> Result<Decoded, Error> {
        openai::request::decode(task, bytes, limits)
    }

    fn encoder(&self, request: &Request, created: u64) -> Box<dyn Encode> {
        Box::new(openai::stream::StreamEncoder::new(request, created))
    }

    fn folder(&self, request: &Request, created: u64) -> Box<dyn Fold> {
        Box::new(openai::response::Folder::new(request, created))
    }

    fn error_body(&self, error: &Error, request_id: &RequestId) -> Bytes {
        openai::error::error_body(error, request_id)
    }
}

struct Anthropic;

impl Asker for Anthropic {
    fn decode(&self, task: Task, bytes: Bytes, limits: &DecodeLimits) -> Result<Decoded, Error> {
        anthropic::request::decode(task, bytes, limits)
    }

    fn encoder(&self, request: &Request, _created: u64) -> Box<dyn Encode> {
        Box::new(anthropic::stream::StreamEncoder::new(request))
    }

    fn folder(&self, request: &Request, _created: u64) -> Box<dyn Fold> {
        Box::new(anthropic::response::Folder::new(request))
    }

    fn error_body(&self, error: &Error, request_id: &RequestId) -> Bytes {
        anthropic::error::error_body(error, request_id)
    }
}

struct Responses;

impl Asker for Responses {
    fn decode(&self, task: Task, bytes: Bytes, limits: &DecodeLimits) -> Result<Decoded, Error> {
        responses::request::decode(task, bytes, limits)
    }

    fn encoder(&self, request: &Request, created: u64) -> Box<dyn Encode> {
        Box::new(responses::stream::StreamEncoder::new(request, created))
    }

    fn folder(&self, request: &Request, created: u64) -> Box<dyn Fold> {
        Box::new(responses::response::Folder::new(request, created))
    }

    fn error_body(&self, error: &Error, request_id: &RequestId) -> Bytes {
        openai::error::error_body(error, request_id)
    }
}
