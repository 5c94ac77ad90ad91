//! Vendors by HTTP, against a server whose every byte is scripted.

#![expect(clippy::expect_used, clippy::panic, reason = "the helpers of tests fail the test")]

mod connections;
mod detection;
mod failures;
mod gemini;
mod messages;
mod presets;
mod relay;
mod responses;
mod secrets;
mod streams;
mod support;
mod taxonomy;
mod tls;
mod whole;
