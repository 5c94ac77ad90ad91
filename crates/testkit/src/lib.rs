//! What every back end must do, as functions that a back end's own tests call.
//!
//! What it is: conformance suites for the ports of `penstock-provider` ([`chat_conformance`], [`complete_conformance`],
//! [`embed_conformance`]), [`request`]s made from the JSON that clients send, and a real [`Postgres`] for the stores.
//!
//! What it promises: a suite fails with a sentence that says which promise of the port was broken. It is deterministic:
//! nothing in it sleeps to wait for something else.
//!
//! What it refuses to know: which back end it looks at, and any wire. It is for tests and measurements alone: it panics.
#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a conformance suite speaks by panicking; nothing that ships depends on this crate"
)]

mod fold;
mod postgres;
mod request;
mod suite;

pub use fold::{Seen, collect, fold};
pub use postgres::Postgres;
pub use request::{anthropic, call, openai};
pub use suite::{Sample, chat_conformance, complete_conformance, embed_conformance};
