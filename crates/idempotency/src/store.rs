//! The port under which answers are kept.

mod memory;

use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

use bytes::Bytes;
use penstock_domain::Error;

pub use memory::MemoryAnswers;

/// What the methods of [`AnswerStore`] return.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Where an answer lies: a keyed digest of tenant, route and the client's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub [u8; 32]);

/// Whose it is: a keyed digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenant(pub [u8; 32]);

/// Which of all who ever took a slot runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub [u8; 16]);

/// Who wants to run, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// Where the answer will lie.
    pub slot: Slot,
    /// Whose it will be.
    pub tenant: Tenant,
    /// The keyed digest of the request.
    pub print: [u8; 32],
    /// Who runs.
    pub ticket: Ticket,
    /// The time.
    pub now: SystemTime,
    /// When others need not wait any more, unless it is renewed.
    pub until: SystemTime,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody else has it: run.
    Yours,
    /// Somebody runs, or the answer is there, and it is about another request.
    Other,
    /// Somebody runs.
    Running,
    /// The sealed answer.
    Done(Bytes),
}

/// An answer to be kept.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Where it lies.
    pub slot: Slot,
    /// Who ran.
    pub ticket: Ticket,
    /// The sealed bytes.
    pub bytes: Bytes,
    /// When it is forgotten.
    pub until: SystemTime,
}

/// How much may be kept, in bytes as [`weight`] counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// By one tenant; its oldest answers make room for its newest.
    pub tenant: u64,
    /// By all together; nobody's answer makes room for another's.
    pub total: u64,
}

/// What became of an answer that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stored {
    /// It is there.
    Stored,
    /// It is larger than an answer may be.
    Large,
    /// There is no room.
    Full,
    /// Somebody else runs, because this runner was silent for too long.
    Lost,
    /// The store failed or did not answer in time.
    Failed,
}

impl Stored {
    /// The word in headers and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Stored::Stored => "stored",
            Stored::Large => "too-large",
            Stored::Full => "full",
            Stored::Lost => "lost",
            Stored::Failed => "failed",
        }
    }
}

/// What an answer of this many bytes weighs: a row costs something, however small it is, so that bytes bound rows too.
pub const fn weight(bytes: usize) -> u64 {
    bytes as u64 + 512
}

/// Keeps who runs, and answers until they expire. Each change is done whole or not at all, whichever process does it.
pub trait AnswerStore: Send + Sync {
    /// Takes a slot that nobody holds and in which no answer lies `now`, or says what is there. One of all who come at once
    /// gets it.
    ///
    /// # Errors
    /// `store_unavailable`; nothing is taken then.
    fn claim(&self, claim: Claim) -> Pending<'_, Claimed>;

    /// Holds these slots until then, as far as they are still held by these tickets.
    ///
    /// # Errors
    /// `store_unavailable`.
    fn renew<'a>(&'a self, held: &'a [(Slot, Ticket)], until: SystemTime) -> Pending<'a, ()>;

    /// Keeps an answer in the slot that its ticket holds, if there is room. When it returns [`Stored::Stored`], the answer
    /// outlives the process; otherwise the slot is as it was.
    ///
    /// # Errors
    /// `store_unavailable`.
    fn keep(&self, sealed: Sealed, room: Room) -> Pending<'_, Stored>;

    /// Gives back a slot without an answer, if this ticket holds it.
    ///
    /// # Errors
    /// `store_unavailable`.
    fn release(&self, slot: Slot, ticket: Ticket) -> Pending<'_, ()>;

    /// Throws away a small number of rows whose time is over. Says whether there may be more; call it again then, after a
    /// pause.
    ///
    /// # Errors
    /// `store_unavailable`.
    fn expire(&self, now: SystemTime) -> Pending<'_, bool>;
}
