//! Promises of the dialects to those who call them, over whole fixtures: golden files, chunking, hostile bytes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod chunking;
mod counting;
mod fidelity;
mod fuzz;
mod gemini;
mod golden;
mod matrix;
mod messages;
mod responses;
mod schema;
mod support;
