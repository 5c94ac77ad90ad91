//! Anthropic messages, as a server speaks them.

pub mod error;
pub mod request;
pub mod response;
pub mod stream;
