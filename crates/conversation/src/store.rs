//! The port under which turns are kept.

mod memory;

use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

use penstock_domain::Error;

use crate::{Owner, Turn};

pub use memory::MemoryResponses;

/// What the methods of [`ResponseStore`] return.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Keeps turns until they expire.
///
/// Dropping the future of a change that is not done undoes it, as far as it can be undone: whoever drops one and must be
/// sure deletes the turn afterwards.
pub trait ResponseStore: Send + Sync {
    /// Adds a turn, unless its owner would then keep more than `most` bytes. When it returns, the turn outlives the
    /// process.
    ///
    /// # Errors
    /// `conflict` when the owner has a turn of this id; `request_too_large` when there is no room; `store_unavailable`.
    fn put(&self, turn: Turn, most: u64) -> Pending<'_, ()>;

    /// A turn of this owner and those that it continues, newest first, as they stand `now`. Empty when there is no such
    /// turn.
    fn chain<'a>(
        &'a self,
        owner: &'a Owner,
        id: &'a str,
        reach: Reach,
        now: SystemTime,
    ) -> Pending<'a, Chain>;

    /// The turns of this owner that hold one of these items, each once, as they stand `now`; turns beyond the reach are
    /// left out.
    fn holding<'a>(
        &'a self,
        owner: &'a Owner,
        items: &'a [String],
        reach: Reach,
        now: SystemTime,
    ) -> Pending<'a, Vec<Turn>>;

    /// Removes a turn of this owner; says whether it was there `now`.
    fn delete<'a>(&'a self, owner: &'a Owner, id: &'a str, now: SystemTime) -> Pending<'a, bool>;

    /// Throws away a small number of turns whose time is over. Says whether there may be more; call it again then, after
    /// a pause.
    fn expire(&self, now: SystemTime) -> Pending<'_, bool>;
}

/// How far a chain is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Most turns; at least one is read.
    pub turns: usize,
    /// Most bytes of their texts, but for the first turn, which always comes.
    pub bytes: u64,
}

impl Reach {
    /// Only the turn itself.
    pub const ONE: Reach = Reach { turns: 1, bytes: u64::MAX };
}

/// A turn and those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Newest first.
    pub turns: Vec<Turn>,
    /// What comes before the oldest of them.
    pub tail: Tail,
}

/// Where a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// At the beginning of the conversation.
    Begins,
    /// At a turn that was deleted or has expired.
    Gone,
    /// At the reach: there is more.
    More,
}
