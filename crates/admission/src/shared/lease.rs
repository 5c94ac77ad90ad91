//! What a permit holds at all gateways together, and how it comes to hold it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::time::SystemTime;

use penstock_domain::Error;

use super::link::Verdict;
use super::{Hold, Link, Place, Seen, Share};
use crate::account::{Lack, State};
use crate::admission::{Account, Claim};
use crate::permit::{Held, Permit};
use crate::refuse;
use crate::rules::{Level, Need, Now, Rate, Rules};

/// Nobody was asked.
const FRESH: u8 = 0;
/// Somebody was asked, and what came of it is not known.
const ASKED: u8 = 1;
/// It runs.
const NOTED: u8 = 2;
/// It does not run: there is no room.
const REFUSED: u8 = 3;

/// A permit's part of what is shared.
pub(crate) struct Lease {
    pub(crate) link: Arc<Link>,
    pub(crate) hold: Hold,
    /// Whether it was reserved by this gateway's part alone.
    alone: bool,
    stage: AtomicU8,
    /// Whether the accounts know that somebody is being asked.
    asking: AtomicBool,
}

impl Lease {
    pub(crate) fn new(
        link: &Arc<Link>,
        (rules, claim): (&Rules, &Claim<'_>),
        need: Need,
        alone: bool,
    ) -> Box<Self> {
        let share = |level, name: &Arc<str>, allowance| {
            let names = if level == Level::Model { rules.names.get(name).cloned() } else { None };
            Share { place: Place { level, name: Arc::clone(name) }, allowance, names }
        };
        let mut shares = vec![share(Level::Key, claim.key, claim.own)];
        shares.extend(claim.team.map(|team| share(Level::Team, team, rules.team(team))));
        shares.push(share(Level::Organisation, &Arc::from(""), rules.organisation()));
        shares.extend(claim.model.map(|model| {
            let (name, allowance) = rules.model(model);
            share(Level::Model, &name, allowance)
        }));
        let hold = Hold { number: link.number(), shares: shares.into(), need };
        Box::new(Self {
            link: Arc::clone(link),
            hold,
            alone,
            stage: AtomicU8::new(FRESH),
            asking: AtomicBool::new(!alone),
        })
    }

    /// Nobody is being asked any more.
    pub(crate) fn answered(&self, accounts: &[Option<Arc<Account>>; 4]) {
        if self.asking.swap(false, Relaxed) {
            for account in accounts.iter().flatten() {
                account.answered(self.hold.need.micros, None);
            }
        }
    }

    /// Whether the other gateways left no room.
    pub(crate) fn is_refused(&self) -> bool {
        self.stage.load(Relaxed) == REFUSED
    }

    /// The permit ends. `kept`: no ledger will tell of it.
    pub(crate) fn ended(&self, used: Need, kept: bool) {
        match self.stage.load(Relaxed) {
            FRESH | REFUSED => {}
            ASKED => self.link.abandon(&self.hold),
            _ => self.link.ended(self.hold.number, used, kept),
        }
    }

    /// Which account has no room, as all gateways see it.
    fn refusal(&self, seen: &[Seen], wall: SystemTime) -> (Error, bool) {
        let lacks = self.hold.shares.iter().zip(seen).filter_map(|(share, seen)| {
            let lack = State::seen(share.allowance, seen, wall).lack(&self.hold.need, 0)?;
            Some((&share.place, lack))
        });
        match lacks.max_by_key(|(_, lack)| lack.rank()) {
            Some((place, lack)) => {
                (refuse::error(place.level, &place.name, lack), matches!(lack, Lack::Slots(_)))
            }
            // It would fit by now.
            None => (refuse::behind_others(), false),
        }
    }

    fn rate(&self, seen: &[Seen], wall: SystemTime) -> Rate {
        let mut rate = Rate::default();
        for (share, seen) in self.hold.shares.iter().zip(seen) {
            State::seen(share.allowance, seen, wall).gauges(&mut rate, 0);
        }
        rate
    }
}

impl Permit {
    /// Whether the other gateways have to be asked before anything runs.
    pub fn is_provisional(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.lease.is_some())
    }

    /// Asks the other gateways: what is held here is held for all of them together, or the request may not run. Returns the
    /// rates of all, where they are known. Dropped in between, everything is given back.
    ///
    /// # Errors
    /// Those of [`crate::Admission::reserve`], and `store_unavailable` where nothing runs without asking.
    pub async fn confirm(&mut self) -> (Option<Rate>, Result<(), Error>) {
        let Some(held) = &mut self.0 else { return (None, Ok(())) };
        let Some(lease) = &held.lease else { return (None, Ok(())) };
        lease.stage.store(ASKED, Relaxed);
        let mut verdict = lease.link.ask(&lease.hold).await;
        let wall = SystemTime::now();
        if let Verdict::Refused(seen) = &verdict
            && lease.refusal(seen, wall).1
            && lease.link.settled().await
        {
            // The slot of a request that has just ended here.
            verdict = lease.link.ask(&lease.hold).await;
        }
        match verdict {
            Verdict::Held(seen) => {
                lease.stage.store(NOTED, Relaxed);
                held.learn(&seen, wall);
                (Some(lease.rate(&seen, wall)), Ok(()))
            }
            Verdict::Refused(seen) => {
                lease.stage.store(REFUSED, Relaxed);
                held.learn(&seen, wall);
                (Some(lease.rate(&seen, wall)), Err(lease.refusal(&seen, wall).0))
            }
            Verdict::Alone => (None, held.go_alone(lease)),
        }
    }
}

impl Held {
    /// Keeps what all gateways together have left, for when they cannot be asked.
    fn learn(&self, seen: &[Seen], wall: SystemTime) {
        let Some(lease) = &self.lease else { return };
        let asked = if lease.asking.swap(false, Relaxed) { lease.hold.need.micros } else { 0 };
        let seen = lease.hold.shares.iter().zip(seen);
        for (account, (share, seen)) in self.accounts.iter().flatten().zip(seen) {
            let budget = share.allowance.budget;
            account
                .answered(asked, budget.map(|budget| State::seen(share.allowance, seen, wall).left(budget)));
        }
    }

    fn go_alone(&self, lease: &Lease) -> Result<(), Error> {
        if !lease.alone {
            self.admission.look_again(self, Now::read())?;
        }
        lease.answered(&self.accounts);
        let gone = lease.link.go_alone(&lease.hold);
        if gone.is_ok() {
            // So much less is this gateway's part, which is so many times less for all of them.
            let used = lease.hold.need.micros.saturating_mul(u64::from(lease.link.gateways().max(1)));
            for account in self.accounts.iter().flatten() {
                account.went_alone(used);
            }
            lease.stage.store(NOTED, Relaxed);
        }
        gone
    }
}
