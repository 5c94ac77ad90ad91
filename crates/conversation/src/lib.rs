//! What was said before.
//!
//! What it is: [`Turn`], one response with what was asked for it; [`Owner`], whose it is; the port under which turns are
//! kept ([`ResponseStore`]) with a version in memory ([`MemoryResponses`]); and [`Conversations`], the service over it:
//! what may be kept, for how long, how far back a conversation reaches.
//!
//! What it promises: a turn is found by its owner and by nobody else; what was kept is there when [`Conversations::keep`]
//! says so, and what it could not keep it does not keep by half; what was deleted, or is too old, is never read again;
//! chains, sizes and totals are bounded.
//!
//! What it refuses to know: HTTP, SQL, what the texts say, who may ask.

mod owner;
mod policy;
mod service;
mod store;
mod turn;

pub use owner::Owner;
pub use policy::Policy;
pub use service::{Conversations, Kept, Notice};
pub use store::{Chain, MemoryResponses, Pending, Reach, ResponseStore, Tail};
pub use turn::Turn;
