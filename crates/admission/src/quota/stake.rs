//! What one call holds of its provider, at this gateway and at all gateways together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Quota, Short};
use crate::rules::{Allowance, Level, Need, Now};
use crate::shared::lease::Lease;
use crate::shared::link::Verdict;
use crate::shared::{Place, Share};

/// What a call holds until it ends; every one has to be ended.
#[must_use = "what is held and not ended is held for ever"]
pub struct Stake {
    quota: Arc<Quota>,
    need: Need,
    lease: Option<Arc<Lease>>,
    question: Option<Question>,
}

/// What is to be asked of the other gateways before a call begins.
pub struct Question {
    quota: Arc<Quota>,
    lease: Arc<Lease>,
}

impl Quota {
    /// A call begins that lacks nothing here.
    pub fn take(self: &Arc<Self>, need: Need, now: Now) -> Stake {
        let at = self.nanos(now.at);
        let mut state = self.account.lock();
        state.take(need, at);
        let allowance = state.allowance;
        let link = self.link.as_ref().filter(|_| allowance != Allowance::default());
        let lease = link.map(|link| {
            let alone = link.alone().is_some();
            state.asking += if alone { 0 } else { need.micros };
            let place = Place { level: Level::Provider, name: Arc::clone(&self.account.name) };
            let shares = [Share { place, allowance, names: None }];
            Arc::new(Lease::on(link, shares.into(), need, alone))
        });
        drop(state);
        let question = lease.as_ref().map(|lease| {
            self.asking.fetch_add(1, Relaxed);
            Question { quota: Arc::clone(self), lease: Arc::clone(lease) }
        });
        Stake { quota: Arc::clone(self), need, lease, question }
    }
}

impl Stake {
    /// What has to be asked of the other gateways, once; `None` where there are none.
    pub fn question(&mut self) -> Option<Question> {
        self.question.take()
    }

    /// The answer has so many tokens so far; no answer is cut for its provider's sake.
    pub fn grow(&mut self, output: u64) {
        let Some(more) = output.checked_sub(self.need.output).filter(|more| *more > 0) else { return };
        let more = Need { output: more, ..Need::default() };
        self.need = self.need.plus(more);
        let mut state = self.quota.account.lock();
        state.held = state.held.plus(more);
        drop(state);
        if let Some(lease) = &self.lease {
            let _overdrawn = lease.link.grown(lease.hold.number, self.need);
        }
    }

    /// The call has ended and used this. Gives the number by which the ledger is to say that it has what was paid.
    pub fn end(self, used: Need, now: Now) -> u64 {
        let Self { quota, need, lease, .. } = self;
        let at = quota.nanos(now.at);
        let mut state = quota.account.lock();
        if lease.as_ref().is_some_and(|lease| lease.is_refused()) {
            state.untake(need);
        } else {
            state.spent.turn(now.wall);
            state.settle(need, used, at);
            if state.is_news()
                && let Some(bell) = &quota.bell
            {
                bell.ring(Level::Provider, &quota.account.name, &mut state);
            }
        }
        drop(state);
        quota.ask_again();
        let Some(lease) = lease else { return 0 };
        lease.answered([&quota.account]);
        // What costs nothing is in no ledger.
        lease.ended(used, used.micros == 0 || !quota.kept);
        lease.hold.number
    }
}

impl Question {
    /// Asks. Dropped in between, what is held is given back when the stake ends.
    ///
    /// # Errors
    /// The other gateways have no room, or nothing runs without asking them: the stake has to be ended with nothing.
    pub async fn ask(self) -> Result<(), Short> {
        let Self { quota, lease } = &self;
        let account = [&quota.account];
        let (verdict, wall) = lease.ask(|lack| super::wait(lack).is_some()).await;
        let now = Now { wall, ..Now::read() };
        match verdict {
            Verdict::Held(seen) => {
                lease.learn(account, &seen, wall);
                if let Some(seen) = seen.first() {
                    quota.hear(seen, None, wall);
                    quota.agreed(seen, now);
                }
                Ok(())
            }
            Verdict::Refused(seen) => {
                lease.learn(account, &seen, wall);
                let seen = seen.first().cloned().unwrap_or_default();
                quota.hear(&seen, Some(&lease.hold.need), wall);
                Err(quota.refused(&seen, &lease.hold.need, now))
            }
            Verdict::Alone => {
                *quota.others.lock() = None;
                if !lease.is_alone() {
                    quota.look_again(&lease.hold.need, now)?;
                }
                lease.go_alone(account).map_err(|error| Short { error, wait: None })
            }
        }
    }
}

impl Quota {
    /// Looks at a call again that was let in by the whole of everything: whether it fits into this gateway's part.
    fn look_again(&self, need: &Need, now: Now) -> Result<(), Short> {
        let at = self.nanos(now.at);
        let mut state = self.account.lock();
        // One question that failed is no reason to take more than this gateway's part, either.
        let part = self.link.as_ref().map(|link| link.gateways().max(1));
        state.stand_alone(part, at);
        state.untake(*need);
        let lack = state.lack(need, at);
        state.take(*need, at);
        drop(state);
        lack.map_or(Ok(()), |lack| Err(self.told(lack)))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.quota.asking.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Stake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stake").field(&self.need).finish()
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Question").field(&self.lease.hold.number).finish()
    }
}
