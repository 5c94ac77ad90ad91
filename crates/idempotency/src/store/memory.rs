//! Answers in memory: for tests, and for whoever has no database. The same as any other store, gone with the process.

use std::collections::HashMap;
use std::future::ready;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use penstock_domain::Error;

use super::{AnswerStore, Claim, Claimed, Pending, Room, Sealed, Slot, Stored, Tenant, Ticket, weight};

/// Keeps answers until they expire.
#[derive(Debug, Default)]
pub struct MemoryAnswers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rows: HashMap<Slot, Row>,
    /// Counts the answers that were kept: the oldest has the smallest number.
    kept: u64,
    failure: Option<Error>,
}

#[derive(Debug)]
struct Row {
    tenant: Tenant,
    print: [u8; 32],
    ticket: Ticket,
    until: SystemTime,
    answer: Option<(u64, Bytes)>,
}

impl Row {
    fn weight(&self) -> u64 {
        self.answer.as_ref().map_or(0, |(_, bytes)| weight(bytes.len()))
    }
}

impl State {
    fn runs(&mut self, slot: Slot, ticket: Ticket) -> Option<&mut Row> {
        self.rows.get_mut(&slot).filter(|row| row.ticket == ticket && row.answer.is_none())
    }

    fn sum(&self, of: Option<Tenant>) -> u64 {
        self.rows.values().filter(|row| of.is_none_or(|tenant| row.tenant == tenant)).map(Row::weight).sum()
    }

    fn oldest(&self, tenant: Tenant) -> Option<Slot> {
        let mine = self.rows.iter().filter(|(_, row)| row.tenant == tenant);
        mine.filter_map(|(slot, row)| Some((row.answer.as_ref()?.0, *slot))).min().map(|(_, slot)| slot)
    }

    fn keep(&mut self, sealed: Sealed, room: Room) -> Stored {
        let Some(row) = self.runs(sealed.slot, sealed.ticket) else { return Stored::Lost };
        let (tenant, size) = (row.tenant, weight(sealed.bytes.len()));
        if size > room.tenant {
            return Stored::Full;
        }
        while self.sum(Some(tenant)).saturating_add(size) > room.tenant {
            let Some(oldest) = self.oldest(tenant) else { return Stored::Full };
            self.rows.remove(&oldest);
        }
        if self.sum(None).saturating_add(size) > room.total {
            return Stored::Full;
        }
        self.kept += 1;
        let number = self.kept;
        if let Some(row) = self.runs(sealed.slot, sealed.ticket) {
            (row.until, row.answer) = (sealed.until, Some((number, sealed.bytes)));
        }
        Stored::Stored
    }
}

impl MemoryAnswers {
    /// Fails every call with this error from now on, or works again: what a full disk looks like.
    pub fn fail(&self, failure: Option<Error>) {
        self.0.lock().failure = failure;
    }

    /// How many rows there are, running ones included.
    pub fn len(&self) -> usize {
        self.0.lock().rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut State) -> T) -> Pending<'static, T> {
        let mut state = self.0.lock();
        let outcome = match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(act(&mut state)),
        };
        Box::pin(ready(outcome))
    }
}

impl AnswerStore for MemoryAnswers {
    fn claim(&self, claim: Claim) -> Pending<'_, Claimed> {
        self.with(|state| match state.rows.get(&claim.slot).filter(|row| row.until > claim.now) {
            Some(row) if row.print != claim.print => Claimed::Other,
            Some(Row { answer: Some((_, answer)), .. }) => Claimed::Done(answer.clone()),
            Some(_) => Claimed::Running,
            None => {
                let Claim { slot, tenant, print, ticket, until, .. } = claim;
                state.rows.insert(slot, Row { tenant, print, ticket, until, answer: None });
                Claimed::Yours
            }
        })
    }

    fn renew<'a>(&'a self, held: &'a [(Slot, Ticket)], until: SystemTime) -> Pending<'a, ()> {
        self.with(|state| {
            for (slot, ticket) in held {
                if let Some(row) = state.runs(*slot, *ticket) {
                    row.until = until;
                }
            }
        })
    }

    fn keep(&self, sealed: Sealed, room: Room) -> Pending<'_, Stored> {
        self.with(|state| state.keep(sealed, room))
    }

    fn release(&self, slot: Slot, ticket: Ticket) -> Pending<'_, ()> {
        self.with(|state| {
            if state.runs(slot, ticket).is_some() {
                state.rows.remove(&slot);
            }
        })
    }

    fn expire(&self, now: SystemTime) -> Pending<'_, bool> {
        self.with(|state| {
            state.rows.retain(|_, row| row.until > now);
            false
        })
    }
}
