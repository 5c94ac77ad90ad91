//! The path of one request.
//!
//! What it is: the one place that knows the order. [`Flow::run`] reads downward in time; each stage is a file in
//! `stage/`, and the types carry the order: only `admit` makes an `Admitted`, only `prepare` a `Prepared`, only `route` a
//! `Routed`, so that skipping a stage does not compile.
//!
//! What it promises: every entry (whole answers, streams, later jobs and agents) runs through the same stages; one
//! request sees one configuration snapshot from beginning to end; every request that begins ends in exactly one record,
//! whichever way it ends; dropping the answer cancels the call.
//!
//! What it refuses to know: HTTP, JSON, vendors, databases.

mod answer;
mod capture;
mod doors;
mod gateway;
mod journey;
mod run;
mod stage;
mod tally;

pub use answer::{Answer, Bill, Head, Refusal};
pub use capture::Captures;
pub use doors::{Door, DoorRules, Doors, Lanes};
pub use gateway::{Flow, Gateway, ModelInfo, Parts, Share, Shares};
pub use penstock_admission::{Gauge, Rate};
pub use penstock_identity::{Caller, Scope};
pub use run::Seen;

#[cfg(test)]
mod tests;
