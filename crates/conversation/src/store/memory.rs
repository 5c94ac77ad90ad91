//! Turns in memory, for tests: the same answers as any other store, gone with the process.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use penstock_domain::{Code, Error};

use super::{Chain, Pending, Reach, ResponseStore, Tail};
use crate::{Owner, Turn};

/// Keeps every turn until it expires.
#[derive(Debug, Default)]
pub struct MemoryResponses(Mutex<State>);

type Turns = BTreeMap<(Owner, Arc<str>), Turn>;

#[derive(Debug, Default)]
struct State {
    turns: Turns,
    failure: Option<Error>,
}

impl MemoryResponses {
    /// Fails every call with this error from now on, or works again: what a full disk looks like.
    pub fn fail(&self, failure: Option<Error>) {
        self.0.lock().failure = failure;
    }

    /// How many turns there are.
    pub fn len(&self) -> usize {
        self.0.lock().turns.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Turns) -> Result<T, Error>,
    ) -> Pending<'static, T> {
        let mut state = self.0.lock();
        let outcome = match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => act(&mut state.turns),
        };
        Box::pin(ready(outcome))
    }
}

impl ResponseStore for MemoryResponses {
    fn put(&self, turn: Turn, most: u64) -> Pending<'_, ()> {
        self.with(|turns| {
            let kept: u64 = turns.values().filter(|other| other.owner == turn.owner).map(Turn::size).sum();
            if kept.saturating_add(turn.size()) > most {
                return Err(no_room());
            }
            let key = (turn.owner.clone(), Arc::clone(&turn.id));
            if turns.contains_key(&key) {
                return Err(taken());
            }
            turns.insert(key, turn);
            Ok(())
        })
    }

    fn chain<'a>(
        &'a self,
        owner: &'a Owner,
        id: &'a str,
        reach: Reach,
        now: SystemTime,
    ) -> Pending<'a, Chain> {
        self.with(|turns| {
            let mut chain = Chain { turns: Vec::new(), tail: Tail::Begins };
            let (mut next, mut bytes) = (Some(Arc::from(id)), 0_u64);
            while let Some(id) = next {
                let Some(turn) = turns.get(&(owner.clone(), id)).filter(|turn| turn.expires > now) else {
                    chain.tail = Tail::Gone;
                    break;
                };
                bytes = bytes.saturating_add(turn.size());
                if !chain.turns.is_empty() && (chain.turns.len() >= reach.turns || bytes > reach.bytes) {
                    chain.tail = Tail::More;
                    break;
                }
                next = turn.previous.clone();
                chain.turns.push(turn.clone());
            }
            Ok(chain)
        })
    }

    fn holding<'a>(
        &'a self,
        owner: &'a Owner,
        items: &'a [String],
        reach: Reach,
        now: SystemTime,
    ) -> Pending<'a, Vec<Turn>> {
        self.with(|turns| {
            let holds = |turn: &&Turn| turn.items.iter().any(|item| items.iter().any(|id| **id == **item));
            let mine = turns.values().filter(|turn| turn.owner == *owner && turn.expires > now).filter(holds);
            let mut bytes = 0_u64;
            let within = mine.take(reach.turns).take_while(|turn| {
                bytes = bytes.saturating_add(turn.size());
                bytes <= reach.bytes
            });
            Ok(within.cloned().collect())
        })
    }

    fn delete<'a>(&'a self, owner: &'a Owner, id: &'a str, now: SystemTime) -> Pending<'a, bool> {
        self.with(|turns| {
            Ok(turns.remove(&(owner.clone(), id.into())).is_some_and(|turn| turn.expires > now))
        })
    }

    fn expire(&self, now: SystemTime) -> Pending<'_, bool> {
        self.with(|turns| {
            turns.retain(|_, turn| turn.expires > now);
            Ok(false)
        })
    }
}

/// The refusal of a second turn with the same id.
fn taken() -> Error {
    Error::new(Code::Conflict, "there is a response of this id already")
}

/// The refusal of a turn that is too much for its owner.
fn no_room() -> Error {
    let say = "what this caller has stored is as much as it may be: delete responses, wait until they expire, or raise responses.max_owner_bytes";
    Error::new(Code::RequestTooLarge, say)
}
