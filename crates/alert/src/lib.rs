//! What operators are told of, and that they hear it.
//!
//! What it is: [`Event`], something that happened; [`Alerts`], which writes events down and has them delivered; the ports
//! [`Outbox`], where events wait, and [`Deliver`], which carries one of them; [`Watch`], which makes of a provider's moods what
//! is worth telling.
//!
//! What it promises: an event that was taken by the outbox is delivered at least once, or is seen among the dead; the same event
//! noticed again, after a restart or by another gateway, is one event; an address gets its events in the order in which they
//! happened while it answers, one at a time; what it refuses for its content does not stand in the way of the next; memory,
//! outbox and attempts are bounded, and what is dropped is counted.
//!
//! What it refuses to know: HTTP, signatures, JSON, SQL, budgets, providers, the clock. Time is handed in.

mod alerts;
mod event;
mod memory;
mod outbox;
mod schedule;
mod watch;

pub use alerts::{Alerts, Render, Tally};
pub use event::{Data, Event};
pub use memory::MemoryOutbox;
pub use outbox::{
    Added, Answer, Claim, Deliver, Delivering, Delivery, Endpoint, MOST_DONE, MOST_WAITING, Notice, Outbox,
    Outcome, Parcel, Pending, Query, Reply, State,
};
pub use schedule::{ATTEMPTS, judge, pause};
pub use watch::{Mood, Watch};
