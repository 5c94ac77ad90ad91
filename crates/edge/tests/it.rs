//! The edge on a real socket, in front of a real flow with a scripted provider.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests speak by panicking")]

#[path = "it/bad_input.rs"]
mod bad_input;
#[path = "it/bench.rs"]
mod bench;
#[path = "it/drain.rs"]
mod drain;
#[path = "it/hostile.rs"]
mod hostile;
#[path = "it/idempotency.rs"]
mod idempotency;
#[path = "it/load.rs"]
mod load;
#[path = "it/messages.rs"]
mod messages;
#[path = "it/pages.rs"]
mod pages;
#[path = "it/relay.rs"]
mod relay;
#[path = "it/responses.rs"]
mod responses;
#[path = "it/rights.rs"]
mod rights;
#[path = "it/stream.rs"]
mod stream;
#[path = "it/two.rs"]
mod two;
#[path = "it/wire.rs"]
mod wire;
