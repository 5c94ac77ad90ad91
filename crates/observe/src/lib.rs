//! What the gateway tells about itself.
//!
//! What it is: the table of metric names ([`names`]), the [`Record`] that every request ends in, the [`Recorder`] port
//! that takes records, the [`Sink`] that turns them into metrics and log lines, the port [`RecordStore`] under which they
//! are kept, and the [`Tail`] that shows them as they come.
//!
//! What it promises: recording never blocks and never fails a request. Labels are bounded: names from the
//! configuration and codes from a closed table, never a key, a prompt or a request id.
//!
//! What it refuses to know: HTTP, stages' inner workings, prompt or answer text.

pub mod names;

mod gaps;
mod line;
mod metrics;
mod record;
mod sink;
pub mod store;
mod tail;

pub use gaps::Gaps;
pub use line::{Format, Lines};
pub use metrics::{BudgetState, MoneyState};
pub use metrics::{Metrics, QueueState, Reload, SharedState, TargetState};
pub use record::{Attempt, Captured, Considered, Form, Outcome, Record, Recorder, Timings};
pub use sink::{Sink, Tally};
pub use store::{Entry, RecordStore};
pub use tail::{Tail, Unwatched};
