//! The embedded engine on the real models, through the provider ports and nothing else.
//!
//! The models must be in the cache: run `./scripts/fetch-models` first. A missing model fails these tests, because a skipped
//! test looks like a passed one.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod ask;
mod constrained;
mod embedding;
mod generation;
mod limits;
mod speed;
