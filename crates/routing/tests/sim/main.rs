//! The promises of routing, held in simulated worlds: seeded, with a clock of their own, and the same on every machine.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests speak by panicking")]

mod alone;
mod bounds;
mod budget;
mod detection;
mod recovery;
mod world;
