//! OpenAI responses, both ways: as a server speaks them and as a vendor does.
//!
//! What it promises: requests into the shared words and back, answers, typed events and errors likewise; the pure part
//! of conversation state (what a request adds to, what an answer leaves behind). What it refuses to know: where state is
//! kept, and who asks whom.

pub mod chat;
mod draft;
mod envelope;
mod input;
mod item;
mod logprobs;
pub mod raw_lane;
pub mod reader;
pub mod replay;
pub mod request;
pub mod response;
mod sealed;
pub mod state;
pub mod stream;
mod tell;
pub mod told;
mod wire;

/// Whether sealed reasoning is that of a vendor of this dialect, which no other can open.
pub(crate) fn has_sealed(text: &str) -> bool {
    sealed::own(text).is_some()
}
