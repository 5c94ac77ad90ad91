//! An outbox in memory: for tests, and the plainest way to say what an outbox does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use penstock_domain::Error;

use crate::outbox::{
    Added, Claim, Delivery, MOST_DONE, MOST_WAITING, Notice, Outbox, Outcome, Parcel, Pending, Query, Reply,
    State,
};

/// Forgets everything with the process.
#[derive(Debug, Default)]
pub struct MemoryOutbox(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    events: HashMap<Box<str>, Arc<Notice>>,
    /// In the order in which they were taken.
    rows: Vec<Row>,
    next: u64,
}

#[derive(Debug)]
struct Row {
    shown: Delivery,
    notice: Arc<Notice>,
    due: SystemTime,
    claimed: Option<SystemTime>,
    in_line: bool,
}

impl Shelf {
    fn add(&mut self, notice: &Notice, endpoints: &[Arc<str>]) -> Added {
        if self.events.contains_key(&notice.id) {
            return Added::default();
        }
        self.events.retain(|_, known| known.remember_until.is_none_or(|until| until > notice.at));
        let notice = Arc::new(notice.clone());
        self.events.insert(notice.id.clone(), Arc::clone(&notice));
        let waiting = self.rows.iter().filter(|row| row.shown.state == State::Waiting).count();
        let taken = endpoints.len().min(MOST_WAITING.saturating_sub(waiting));
        for endpoint in &endpoints[..taken] {
            self.rows.push(Row::new(&notice, endpoint, self.next));
            self.next += 1;
        }
        let done = self.rows.iter().filter(|row| row.shown.state != State::Waiting).count();
        let mut rest = done.saturating_sub(MOST_DONE);
        self.rows.retain(|row| {
            let goes = rest > 0 && row.shown.state != State::Waiting;
            rest -= usize::from(goes);
            !goes
        });
        Added { waiting: taken as u64, dropped: (endpoints.len() - taken) as u64 }
    }

    fn claim(&mut self, endpoint: &str, now: SystemTime, lease: Duration) -> Claim {
        let mine = |row: &Row| &*row.shown.endpoint == endpoint && row.shown.state == State::Waiting;
        let head = self.rows.iter().position(|row| mine(row) && row.in_line);
        let alone = self.rows.iter().enumerate().filter(|(_, row)| mine(row) && !row.in_line);
        let places = head.into_iter().chain(alone.map(|(place, _)| place));
        let Some((at, place)) = places.map(|place| (self.rows[place].free_at(), place)).min() else {
            return Claim::Nothing;
        };
        if at > now {
            return Claim::At(at);
        }
        let row = &mut self.rows[place];
        row.claimed = Some(now + lease);
        let Delivery { id, attempts, .. } = &row.shown;
        Claim::Due(Box::new(Parcel {
            id: id.clone(),
            event: row.notice.id.clone(),
            body: row.notice.body.clone(),
            attempts: *attempts,
        }))
    }

    fn find(&mut self, id: &str) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| &*row.shown.id == id)
    }
}

impl Row {
    fn new(notice: &Arc<Notice>, endpoint: &Arc<str>, place: u64) -> Self {
        let shown = Delivery {
            id: notice.delivery(endpoint),
            place,
            event: notice.id.clone(),
            kind: notice.kind.name().into(),
            endpoint: (&**endpoint).into(),
            state: State::Waiting,
            created: notice.at,
            attempts: 0,
            next: Some(notice.at),
            last: None,
            status: None,
            trouble: None,
        };
        Self { shown, notice: Arc::clone(notice), due: notice.at, claimed: None, in_line: true }
    }

    fn free_at(&self) -> SystemTime {
        self.claimed.map_or(self.due, |claimed| claimed.max(self.due))
    }

    fn settle(&mut self, reply: &Reply) {
        let shown = &mut self.shown;
        shown.attempts = shown.attempts.saturating_add(1);
        (shown.last, shown.status) = (Some(reply.at), reply.status);
        shown.trouble.clone_from(&reply.trouble);
        self.claimed = None;
        match reply.outcome {
            Outcome::Again { at, in_line } => {
                self.due = at;
                self.in_line &= in_line;
                shown.next = Some(at);
            }
            outcome => {
                let delivered = outcome == Outcome::Delivered;
                shown.state = if delivered { State::Delivered } else { State::Dead };
                shown.next = None;
            }
        }
    }
}

impl MemoryOutbox {
    fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut Shelf) -> T) -> Pending<'_, T> {
        let done: Result<T, Error> = Ok(act(&mut self.0.lock()));
        Box::pin(std::future::ready(done))
    }
}

impl Outbox for MemoryOutbox {
    fn add<'a>(&'a self, notice: &'a Notice, endpoints: &'a [Arc<str>]) -> Pending<'a, Added> {
        self.with(|shelf| shelf.add(notice, endpoints))
    }

    fn claim<'a>(&'a self, endpoint: &'a str, now: SystemTime, lease: Duration) -> Pending<'a, Claim> {
        self.with(|shelf| shelf.claim(endpoint, now, lease))
    }

    fn settle<'a>(&'a self, id: &'a str, reply: &'a Reply) -> Pending<'a, ()> {
        self.with(|shelf| {
            if let Some(row) = shelf.find(id) {
                row.settle(reply);
            }
        })
    }

    fn list(&self, query: Query) -> Pending<'_, Vec<Delivery>> {
        self.with(|shelf| {
            let rows = shelf.rows.iter().rev().map(|row| &row.shown);
            rows.filter(|row| query.state.is_none_or(|state| row.state == state))
                .filter(|row| query.before.is_none_or(|before| row.place < before))
                .take(query.limit as usize)
                .cloned()
                .collect()
        })
    }

    fn again<'a>(&'a self, id: &'a str, now: SystemTime) -> Pending<'a, Option<Delivery>> {
        self.with(|shelf| {
            let row = shelf.find(id)?;
            (row.due, row.claimed, row.in_line) = (now, None, false);
            (row.shown.state, row.shown.attempts, row.shown.next) = (State::Waiting, 0, Some(now));
            Some(row.shown.clone())
        })
    }
}
