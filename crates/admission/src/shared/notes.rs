//! What this gateway has open, and what of it the others do not know yet.
//!
//! Bounded by the requests in flight, the entries that wait for the ledger, and the accounts: what has ended while nobody
//! could be told is added up by account.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use super::{Changes, Debt, Phase, Place, Put, Share};
use crate::rules::{Level, Need};

/// Requests brought at once.
const MANY: usize = 512;

/// The notes of one gateway.
#[derive(Debug, Default)]
pub(super) struct Notes {
    records: HashMap<u64, Record>,
    /// Numbers of records that changed.
    changed: Vec<u64>,
    totals: HashMap<(Place, Arc<str>), u64>,
    /// The accounts of models by their names in the ledger, where these differ.
    models: HashMap<Arc<str>, Arc<str>>,
    debts: HashMap<Place, Debt>,
    /// Debts on their way, and the number of that turn.
    owed: Option<Vec<(Place, Debt)>>,
    turn: u64,
    /// Accounts that were used since somebody last asked.
    touched: HashMap<Place, Share>,
}

#[derive(Debug)]
struct Record {
    shares: Arc<[Share]>,
    need: Need,
    /// What it used, once it has ended.
    used: Option<Need>,
    written: bool,
    /// What the others know of it.
    told: Option<Phase>,
    queued: bool,
    /// They may have forgotten it already.
    forgotten: bool,
    overdrawn: bool,
}

impl Record {
    fn put(&self, number: u64) -> Put {
        let (phase, amount) = match self.used {
            None => (Phase::Held, self.need),
            Some(used) if self.written => (Phase::Gone, used),
            Some(used) => (Phase::Ended, used),
        };
        Put { number, phase, amount, shares: Arc::clone(&self.shares) }
    }
}

impl Notes {
    /// A request runs. `told`: the others know.
    pub(super) fn begin(&mut self, number: u64, (shares, need): (&Arc<[Share]>, Need), told: bool) {
        for share in shares.iter() {
            if !self.touched.contains_key(&share.place) {
                self.touched.insert(share.place.clone(), share.clone());
                for name in share.names.iter().flat_map(|names| names.iter()) {
                    self.models.insert(Arc::clone(name), Arc::clone(&share.place.name));
                }
            }
        }
        let told = told.then_some(Phase::Held);
        let shares = Arc::clone(shares);
        let record = Record {
            shares,
            need,
            used: None,
            written: false,
            told,
            queued: false,
            forgotten: false,
            overdrawn: false,
        };
        self.records.insert(number, record);
        if told.is_none() {
            self.change(number);
        }
    }

    /// A request that may be known to the others is not to run.
    pub(super) fn abandon(&mut self, number: u64, shares: &Arc<[Share]>) {
        self.begin(number, (shares, Need::default()), true);
        self.end(number, Need::default(), true);
    }

    /// A request holds so much now. Says whether it holds more than may be lent.
    pub(super) fn grow(&mut self, number: u64, need: Need) -> bool {
        let Some(record) = self.records.get_mut(&number) else { return false };
        record.need = need;
        let overdrawn = record.overdrawn;
        self.change(number);
        overdrawn
    }

    /// A request has ended.
    pub(super) fn end(&mut self, number: u64, used: Need, written: bool) {
        if let Some(record) = self.records.get_mut(&number) {
            record.used = Some(used);
            record.written |= written;
            self.change(number);
        }
    }

    /// The ledger has the ends of these requests, and these are the sums of its accounts.
    pub(super) fn written(&mut self, numbers: impl Iterator<Item = u64>, totals: &[(Level, Box<str>, u64)]) {
        for number in numbers {
            if let Some(record) = self.records.get_mut(&number) {
                record.written = true;
                self.change(number);
            }
        }
        for (level, name, total) in totals {
            let name: Arc<str> = (&**name).into();
            let account = match level {
                Level::Model => self.models.get(&name).unwrap_or(&name),
                _ => &name,
            };
            let place = Place { level: *level, name: Arc::clone(account) };
            let known = self.totals.entry((place, name)).or_default();
            *known = (*known).max(*total);
        }
    }

    fn change(&mut self, number: u64) {
        if let Some(record) = self.records.get_mut(&number)
            && !mem::replace(&mut record.queued, true)
        {
            self.changed.push(number);
        }
    }

    /// Whether the others do not know everything.
    pub(super) fn has_news(&self) -> bool {
        !self.changed.is_empty() || !self.totals.is_empty() || !self.debts.is_empty() || self.owed.is_some()
    }

    /// What the others do not know, as much of it as goes at once.
    pub(super) fn news(&mut self) -> Changes {
        let take = self.changed.len().min(MANY);
        let numbers: Vec<u64> = self.changed.drain(..take).collect();
        let mut puts = Vec::with_capacity(numbers.len());
        for number in numbers {
            let Some(record) = self.records.get_mut(&number) else { continue };
            record.queued = false;
            if record.written && record.told.is_none() {
                self.fold(number);
            } else {
                puts.push(record.put(number));
            }
        }
        if self.owed.is_none() && !self.debts.is_empty() {
            self.turn += 1;
            self.owed = Some(mem::take(&mut self.debts).into_iter().collect());
        }
        let totals = mem::take(&mut self.totals).into_iter();
        Changes {
            puts,
            totals: totals.map(|((place, name), total)| (place, name, total)).collect(),
            debts: self.owed.as_ref().map(|owed| (self.turn, owed.clone())),
            ..Changes::default()
        }
    }

    /// Nobody knows of this request and nobody has to: what it used is added to its accounts' debts.
    fn fold(&mut self, number: u64) {
        let Some(record) = self.records.remove(&number) else { return };
        let used = record.used.unwrap_or_default();
        for share in record.shares.iter() {
            let debt = self.debts.entry(share.place.clone()).or_default();
            debt.requests += 1;
            debt.input = debt.input.saturating_add(used.input);
            debt.output = debt.output.saturating_add(used.output);
        }
    }

    /// The others know this.
    pub(super) fn told(&mut self, changes: &Changes, overdrawn: &[u64]) {
        for put in &changes.puts {
            let Some(record) = self.records.get_mut(&put.number) else { continue };
            record.told = Some(put.phase);
            record.overdrawn |= overdrawn.contains(&put.number);
            if put.phase == Phase::Gone {
                self.records.remove(&put.number);
            }
        }
        if changes.debts.as_ref().is_some_and(|(turn, _)| *turn == self.turn) {
            self.owed = None;
        }
    }

    /// Whether the others know this is not known: it is told again.
    pub(super) fn untold(&mut self, changes: Changes) {
        for put in &changes.puts {
            if let Some(record) = self.records.get_mut(&put.number) {
                record.forgotten |= put.phase == Phase::Gone;
            }
            self.change(put.number);
        }
        for (place, name, total) in changes.totals {
            let known = self.totals.entry((place, name)).or_default();
            *known = (*known).max(total);
        }
    }

    /// Everything that is open is told again. `numbers` are those that the others know; of the rest they know nothing.
    pub(super) fn recall(&mut self, numbers: &[u64]) {
        let known: std::collections::HashSet<u64> = numbers.iter().copied().collect();
        self.changed.clear();
        self.records.retain(|number, record| !record.forgotten || known.contains(number));
        for (number, record) in &mut self.records {
            record.told = known.contains(number).then(|| record.told.unwrap_or(Phase::Held));
            record.queued = true;
            self.changed.push(*number);
        }
    }

    /// Those of the numbers that belong to nothing here.
    pub(super) fn strangers(&self, numbers: &[u64], below: u64) -> Vec<Put> {
        let strange = numbers.iter().filter(|number| **number < below && !self.records.contains_key(number));
        let gone = |number: &u64| Put {
            number: *number,
            phase: Phase::Gone,
            amount: Need::default(),
            shares: Arc::default(),
        };
        strange.map(gone).collect()
    }

    /// The accounts that were used since this was last asked.
    pub(super) fn touched(&mut self) -> Vec<Share> {
        mem::take(&mut self.touched).into_values().collect()
    }
}
