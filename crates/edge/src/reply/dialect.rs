//! An answer in the dialect in which it was asked for.

use bytes::{Bytes, BytesMut};
use penstock_dialect::{anthropic, openai};
use penstock_domain::{Delta, Dialect, Error, Request};

/// Writes deltas as events.
pub(crate) enum Encoder {
    OpenAi(openai::stream::StreamEncoder),
    Anthropic(anthropic::stream::StreamEncoder),
}

impl Encoder {
    /// An encoder for the answer to this request; `created` in seconds since the Unix epoch.
    pub(crate) fn new(request: &Request, created: u64) -> Self {
        match request.body.dialect() {
            Dialect::OpenAi => Self::OpenAi(openai::stream::StreamEncoder::new(request, created)),
            Dialect::Anthropic => Self::Anthropic(anthropic::stream::StreamEncoder::new(request)),
        }
    }

    pub(crate) fn encode(&mut self, delta: Delta, out: &mut BytesMut) {
        match self {
            Self::OpenAi(encoder) => encoder.encode(delta, out),
            Self::Anthropic(encoder) => encoder.encode(delta, out),
        }
    }

    /// Notes that raw events were sent past the encoder.
    pub(crate) fn passed(&mut self) {
        match self {
            // Its end marker is never among them.
            Self::OpenAi(_) => {}
            Self::Anthropic(encoder) => encoder.passed(),
        }
    }

    pub(crate) fn finish(&mut self, out: &mut BytesMut) {
        match self {
            Self::OpenAi(encoder) => encoder.finish(out),
            Self::Anthropic(encoder) => encoder.finish(out),
        }
    }
}

/// Folds deltas into one body.
pub(crate) enum Folder {
    OpenAi(openai::response::Folder),
    Anthropic(anthropic::response::Folder),
}

impl Folder {
    /// A folder for the answer to this request; `created` in seconds since the Unix epoch.
    pub(crate) fn new(request: &Request, created: u64) -> Self {
        match request.body.dialect() {
            Dialect::OpenAi => Self::OpenAi(openai::response::Folder::new(request, created)),
            Dialect::Anthropic => Self::Anthropic(anthropic::response::Folder::new(request)),
        }
    }

    pub(crate) fn push(&mut self, delta: Delta) -> Result<(), Error> {
        match self {
            Self::OpenAi(folder) => folder.push(delta),
            Self::Anthropic(folder) => folder.push(delta),
        }
    }

    pub(crate) fn finish(self) -> Result<Bytes, Error> {
        match self {
            Self::OpenAi(folder) => folder.finish(),
            Self::Anthropic(folder) => folder.finish(),
        }
    }
}
