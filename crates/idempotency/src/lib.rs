//! The same request, sent twice, done once.
//!
//! What it is: the [`Key`] that a client puts on a request, the [`Print`] that tells whether it is the same request again,
//! the port under which answers are kept ([`AnswerStore`]) with a version in memory ([`MemoryAnswers`]), and
//! [`Idempotency`], the service over it: who runs, who waits, who gets the answer of before.
//!
//! What it promises: of all who come with one key, one runs at a time; an answer that was kept is given again, byte for
//! byte, until its time is over; what failed, broke off or was given up is not kept, and whoever comes next runs; a runner
//! that died holds others up for one lease and no longer. A store holds nothing that can be read without the key itself:
//! answers are sealed, and keys, tenants and requests are keyed digests. Rows and bytes are bounded.
//!
//! What it refuses to know: HTTP, SQL, who may ask, what an answer says.
//!
//! The rules are those of draft-ietf-httpapi-idempotency-key-header, with what Stripe's API v2 made of failures.

mod answer;
mod key;
mod policy;
mod print;
mod running;
mod service;
mod store;
mod vault;

pub use answer::Kept;
pub use key::Key;
pub use policy::Policy;
pub use print::Print;
pub use running::Running;
pub use service::{Ask, Begun, Idempotency};
pub use store::{
    AnswerStore, Claim, Claimed, MemoryAnswers, Pending, Room, Sealed, Slot, Stored, Tenant, Ticket, weight,
};
