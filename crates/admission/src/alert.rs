//! What of a budget is spent, told to whoever wants to know.
//!
//! An account that is settled compares what it has spent with the next part of its budget that nobody has heard of: one
//! comparison under a lock that is held anyway. Only where that part is passed does anything more happen. Whoever listens may
//! hear the same twice, after a restart or at the beginning of a day; who must not has to remember.

use std::sync::Arc;
use std::time::SystemTime;

use penstock_config::{Budget, Per};
use penstock_domain::Money;
use tokio::sync::mpsc;

use crate::account::{Spent, State};
use crate::admission::Standing;
use crate::rules::{Level, Need};
use penstock_domain::calendar;

/// Crossings that may wait to be heard; what finds no room is told at the account's next settlement.
const WAITING: usize = 1_024;

/// From this part of a budget on, in percent, a refusal for want of money means that it is exhausted: what is left is too
/// little for what people ask. Before, it means that somebody asked for much.
const NEARLY: u8 = 90;

/// A part of a budget was spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// Whose budget.
    pub level: Level,
    /// The account's name; empty for the organisation.
    pub name: Arc<str>,
    /// The budget.
    pub budget: Budget,
    /// The part, in percent; at 100 no more can be spent.
    pub percent: u8,
    /// What was spent of it so far, requests in flight not counted.
    pub spent: Money,
    /// When the day or the month began; 1970 for a budget that is never renewed.
    pub begun: SystemTime,
    /// When the budget begins anew.
    pub renewed: Option<SystemTime>,
}

impl Crossing {
    /// Every part of an account's budget that is spent as it stands at this moment.
    pub fn of(standing: &Standing, wall: SystemTime) -> Vec<Crossing> {
        let Some(budget) = standing.allowance.budget else { return Vec::new() };
        let spent = standing.spent.within(budget.per);
        // What a standing says is of the window that its account was last used in; shown, it is of this moment's.
        let renewed = Spent::at(wall).renewed(budget.per);
        let passed = budget.alert_at.iter().filter(|percent| spent >= budget.part(*percent));
        let crossing = |percent| Crossing {
            level: standing.level,
            name: Arc::clone(&standing.name),
            budget,
            percent,
            spent: Money::from_micros(spent),
            begun: begun(budget.per, renewed),
            renewed,
        };
        passed.map(crossing).collect()
    }
}

/// When the time began that ends at a moment.
fn begun(per: Per, renewed: Option<SystemTime>) -> SystemTime {
    let Some(renewed) = renewed else { return SystemTime::UNIX_EPOCH };
    match per {
        Per::Day => calendar::day_begins(calendar::day(renewed).saturating_sub(1)),
        Per::Month => calendar::month_begins(calendar::month(renewed).saturating_sub(1)),
        Per::Lifetime => SystemTime::UNIX_EPOCH,
    }
}

/// Where crossings go.
#[derive(Debug, Clone)]
pub(crate) struct Bell(mpsc::Sender<Crossing>);

impl Bell {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Crossing>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Tells of every part that was passed and not told.
    pub(crate) fn ring(&self, level: Level, name: &Arc<str>, state: &mut State) {
        let Some(budget) = state.allowance.budget else { return state.spent.hush(u64::MAX) };
        let spent = state.spent.within(budget.per);
        for percent in budget.alert_at.without(state.spent.told).iter() {
            if spent < budget.part(percent) {
                return state.spent.hush(budget.part(percent));
            }
            if !self.tell((level, name), budget, percent, state) {
                return;
            }
        }
        state.spent.hush(u64::MAX);
    }

    /// Tells that a budget is exhausted where a refused need would not fit even if nobody else held anything, and little is
    /// left.
    pub(crate) fn refused(&self, level: Level, name: &Arc<str>, need: &Need, state: &mut State) {
        let Some(budget) = state.allowance.budget else { return };
        let spent = state.spent.within(budget.per);
        let untold = budget.alert_at.without(state.spent.told).contains(100);
        let full = spent.saturating_add(need.micros) > budget.part(100) && spent >= budget.part(NEARLY);
        if untold && full {
            self.tell((level, name), budget, 100, state);
        }
    }

    /// The same by what all gateways together have spent: another one may have passed a part and not know it. `refused` is what
    /// they had no room for.
    pub(crate) fn hear(
        &self,
        level: Level,
        name: &Arc<str>,
        (own, all): (&mut State, &mut State),
        refused: Option<&Need>,
    ) {
        all.spent.know(&own.spent);
        if all.is_news() {
            self.ring(level, name, all);
        }
        if let Some(need) = refused {
            self.refused(level, name, need, all);
        }
        own.spent.know(&all.spent);
    }

    fn tell(
        &self,
        (level, name): (Level, &Arc<str>),
        budget: Budget,
        percent: u8,
        state: &mut State,
    ) -> bool {
        let renewed = state.spent.renewed(budget.per);
        let crossing = Crossing {
            level,
            name: Arc::clone(name),
            budget,
            percent,
            spent: Money::from_micros(state.spent.within(budget.per)),
            begun: begun(budget.per, renewed),
            renewed,
        };
        // Where nobody listens any more there is nothing to remember either.
        let told = !matches!(self.0.try_send(crossing), Err(mpsc::error::TrySendError::Full(_)));
        if told {
            state.spent.told = state.spent.told.with(percent);
        }
        told
    }
}

#[cfg(test)]
mod tests;
