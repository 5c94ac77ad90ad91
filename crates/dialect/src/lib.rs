//! Wire bytes to domain words and back, as pure functions.
//!
//! What it is: the SSE decoder and encoder, the request decoders, the answer folders and encoders, and the error bodies
//! of every dialect, used in both directions: by the edge against clients, by vendors' adapters against vendors.
//!
//! What it promises: no IO, no clock, no state outside the values it hands out. Everything that comes in is hostile
//! until checked: depth, counts and buffers are bounded, and no input makes it panic. Same-dialect bytes pass through
//! without being re-serialised; a truncated event is never handed on as a good one.
//!
//! What it refuses to know: HTTP clients and servers, time-outs, routing, which vendor is behind a body.

pub mod anthropic;
mod asker;
mod bedrock;
pub mod gemini;
mod json;
pub mod json_guard;
pub mod openai;
mod refusal;
pub mod responses;
pub mod splice;
pub mod sse;
mod vendor;

mod request;
mod said;

pub use asker::{Asker, Encode, Fold, asker};
pub use refusal::{Refusal, wait_of};
pub use request::{DecodeLimits, Decoded, Encoded, PenstockOptions};
pub use vendor::{Ask, Chats, Lane, Vendor, vendor};
