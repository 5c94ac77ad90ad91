//! The scripted provider from outside: every directive over a raw connection, in both dialects, with its own count
//! right after each fault.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests, though clippy sees only functions with the attribute"
)]

#[path = "it/answers.rs"]
mod answers;
#[path = "it/faults.rs"]
mod faults;
#[path = "it/hostile.rs"]
mod hostile;
#[path = "it/in_process.rs"]
mod in_process;
#[path = "it/load.rs"]
mod load;
#[path = "it/responses.rs"]
mod responses;
#[path = "it/scripts.rs"]
mod scripts;
#[path = "it/support.rs"]
mod support;
