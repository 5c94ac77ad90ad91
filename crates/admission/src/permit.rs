//! The right to run, and what it holds.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use penstock_domain::{Cost, Error, Usage};

use crate::admission::{Account, Admission};
use crate::ledger::{Called, End, Entry, Open, Place};
use crate::refuse;
use crate::rules::{Level, Need, Now};
use crate::shared::lease::Lease;

/// What a request turned out to use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Truth {
    /// Tokens; `None` when no answer began.
    pub usage: Option<Usage>,
    /// Whether the tokens are our own count.
    pub estimated: bool,
    /// What it cost.
    pub cost: Cost,
    /// The answer is as long as the model wanted it: nothing cut it short.
    pub whole: bool,
}

/// The right to run. What it holds goes back when it is settled; dropped before, all of it is given back. The request stays
/// counted in the rates of requests.
#[must_use = "a permit that is dropped at once holds nothing"]
pub struct Permit(pub(crate) Option<Box<Held>>);

pub(crate) struct Held {
    pub(crate) admission: Arc<Admission>,
    /// In the order of [`Level`].
    pub(crate) accounts: [Option<Arc<Account>>; 4],
    pub(crate) open: Arc<Open>,
    /// Where the end goes in the ledger.
    pub(crate) place: Option<Place>,
    pub(crate) need: Need,
    /// The length of the answer that was predicted, where the asker named no bound.
    pub(crate) predicted: Option<u64>,
    /// Whether the answer may grow beyond what is held: the asker named no bound.
    pub(crate) grows: bool,
    /// What is asked of all gateways together, where there are several.
    pub(crate) lease: Option<Box<Lease>>,
    /// What its calls cost, and where.
    pub(crate) calls: Vec<Called>,
}

impl Permit {
    pub(crate) fn new(held: Held) -> Self {
        Self(Some(Box::new(held)))
    }

    /// A provider is called: from now on something may have to be paid.
    pub fn calling(&self, provider: &Arc<str>) {
        self.asks(provider);
        self.used(None, 0);
    }

    /// Of the providers that were called this one answers.
    pub fn asks(&self, provider: &Arc<str>) {
        if let Some(held) = &self.0 {
            held.open.asks(provider);
        }
    }

    /// What its calls cost, by provider. To be said before the end.
    pub fn called(&mut self, calls: Vec<Called>) {
        if let Some(held) = &mut self.0 {
            held.calls = calls;
        }
    }

    /// So many tokens were generated so far; `prompt` replaces the bound of the prompt's tokens. For the ledger's journal.
    pub fn used(&self, prompt: Option<u64>, output: u64) {
        if let Some(held) = &self.0 {
            held.open.used(prompt, output);
        }
    }

    /// From how many generated tokens on [`Permit::top_up`] is to be asked: four fifths of what is held. Never, where the
    /// asker named a bound.
    pub fn watch(&self) -> u64 {
        match &self.0 {
            Some(held) if held.grows => held.need.output / 5 * 4,
            _ => u64::MAX,
        }
    }

    /// Holds more for an answer that has used four fifths: half as much again. Where an account has no more, on debt: at most
    /// another bucket of each rate, and a tenth of each budget. Returns the next [`Permit::watch`].
    ///
    /// # Errors
    /// `rate_limit_exceeded` or `budget_exceeded` when there is no more debt to be had: the answer has to end.
    pub fn top_up(&mut self, used: u64, now: Now) -> Result<u64, Error> {
        let Some(held) = &mut self.0 else { return Ok(u64::MAX) };
        if !held.grows {
            return Ok(u64::MAX);
        }
        let before = held.need;
        let output = used.max(before.output).saturating_add((before.output / 2).max(64));
        let after = Need::of(before.input, output, held.open.tariff.as_ref());
        let more = after.minus(before);
        let at = held.admission.nanos(now.at);
        let mut accounts = Admission::lock(&held.accounts);
        for (level, state) in accounts.iter_mut().enumerate() {
            let Some(state) = state else { continue };
            state.spent.turn(now.wall);
            if !state.lends(&more, at) {
                let account = held.accounts[level].as_ref();
                let name = account.map_or("", |account| &*account.name);
                let money = !state.lends(&Need { micros: more.micros, ..Need::default() }, at);
                return Err(refuse::cut(Level::ALL[level], name, money));
            }
        }
        for state in accounts.iter_mut().flatten() {
            state.held = state.held.plus(more);
        }
        drop(accounts);
        held.need = before.plus(more);
        if let Some(lease) = &held.lease
            && lease.link.grown(lease.hold.number, held.need)
        {
            return Err(refuse::cut_by_all());
        }
        Ok(self.watch().max(used.saturating_add(1)))
    }

    /// What is held.
    pub fn held(&self) -> Need {
        self.0.as_ref().map_or_else(Need::default, |held| held.need)
    }

    /// Ends it with what was used.
    pub fn settle(mut self, truth: Truth, ended: SystemTime, now: Now) {
        if let Some(held) = self.0.take() {
            (*held).end(truth, ended, now);
        }
    }
}

impl Held {
    fn end(self, truth: Truth, ended: SystemTime, now: Now) {
        let usage = truth.usage.unwrap_or_default();
        let micros = truth.cost.known().unwrap_or_default().micros();
        let used = Need { input: usage.input, output: usage.output, micros };
        let at = self.admission.nanos(now.at);
        let mut accounts = Admission::lock(&self.accounts);
        for (level, state) in accounts.iter_mut().enumerate() {
            let Some(state) = state else { continue };
            state.spent.turn(ended);
            state.settle(self.need, used, at);
            if state.is_news()
                && let (Some(bell), Some(account)) = (&self.admission.bell, &self.accounts[level])
            {
                bell.ring(Level::ALL[level], &account.name, state);
            }
        }
        if truth.whole
            && self.grows
            && let Some(model) = &mut accounts[Level::Model as usize]
        {
            model.sketch.get_or_insert_default().learn(usage.output, self.predicted);
        }
        drop(accounts);
        self.admission.pay(&self.calls, ended);
        if let Some(lease) = &self.lease {
            lease.answered(self.accounts.iter().flatten());
            lease.ended(used, self.place.is_none());
        }
        if let Some(place) = self.place {
            let nothing = truth.usage.is_none() && micros == 0 && truth.cost != Cost::Unknown;
            if nothing {
                self.admission.refunds.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            let refused = self.lease.is_some_and(|lease| lease.is_refused());
            let entry = Entry {
                open: self.open,
                held: self.need,
                end: if nothing { End::Refunded } else { End::Settled },
                at: ended,
                usage: truth.usage,
                estimated: truth.estimated,
                cost: truth.cost,
                calls: self.calls.into(),
                kept: false,
            };
            if refused { place.void(entry) } else { place.closed(entry) }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            let now = Now::read();
            (*held).end(Truth::default(), now.wall, now);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.0.as_ref().map(|held| held.need)).finish()
    }
}
