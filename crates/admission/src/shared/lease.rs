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
        Box::new(Self::on(link, shares.into(), need, alone))
    }

    /// On accounts that are known.
    pub(crate) fn on(link: &Arc<Link>, shares: Arc<[Share]>, need: Need, alone: bool) -> Self {
        Self {
            link: Arc::clone(link),
            hold: Hold { number: link.number(), shares, need },
            alone,
            stage: AtomicU8::new(FRESH),
            asking: AtomicBool::new(!alone),
        }
    }

    /// Whether it was reserved by this gateway's part alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Asks the other gateways. A refusal that something which has just ended here may lift is asked about again, where
    /// `patient` says so.
    pub(crate) async fn ask(&self, patient: fn(&Lack) -> bool) -> (Verdict, SystemTime) {
        self.stage.store(ASKED, Relaxed);
        let mut verdict = self.link.ask(&self.hold).await;
        let wall = SystemTime::now();
        if let Verdict::Refused(seen) = &verdict
            && self.lack(seen, wall).is_some_and(|(_, lack)| patient(&lack))
            && self.link.settled().await
        {
            verdict = self.link.ask(&self.hold).await;
        }
        match &verdict {
            Verdict::Held(_) => self.stage.store(NOTED, Relaxed),
            Verdict::Refused(_) => self.stage.store(REFUSED, Relaxed),
            Verdict::Alone => {}
        }
        (verdict, wall)
    }

    /// Nobody is being asked any more.
    pub(crate) fn answered<'a>(&self, accounts: impl IntoIterator<Item = &'a Arc<Account>>) {
        if self.asking.swap(false, Relaxed) {
            for account in accounts {
                account.answered(self.hold.need.micros, None);
            }
        }
    }

    /// Keeps what all gateways together have left, for when they cannot be asked.
    pub(crate) fn learn<'a>(
        &self,
        accounts: impl IntoIterator<Item = &'a Arc<Account>>,
        seen: &[Seen],
        wall: SystemTime,
    ) {
        let asked = if self.asking.swap(false, Relaxed) { self.hold.need.micros } else { 0 };
        let seen = self.hold.shares.iter().zip(seen);
        for (account, (share, seen)) in accounts.into_iter().zip(seen) {
            let budget = share.allowance.budget;
            account
                .answered(asked, budget.map(|budget| State::seen(share.allowance, seen, wall).left(budget)));
        }
    }

    /// Runs without the others having agreed.
    ///
    /// # Errors
    /// `store_unavailable` where nothing runs without asking.
    pub(crate) fn go_alone<'a>(
        &self,
        accounts: impl IntoIterator<Item = &'a Arc<Account>> + Clone,
    ) -> Result<(), Error> {
        self.answered(accounts.clone());
        self.link.go_alone(&self.hold)?;
        // So much less is this gateway's part, which is so many times less for all of them.
        let used = self.hold.need.micros.saturating_mul(u64::from(self.link.gateways().max(1)));
        for account in accounts {
            account.went_alone(used);
        }
        self.stage.store(NOTED, Relaxed);
        Ok(())
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

    /// Which account has no room, as all gateways see it; `None`: it would fit by now.
    fn lack(&self, seen: &[Seen], wall: SystemTime) -> Option<(&Place, Lack)> {
        let lacks = self.hold.shares.iter().zip(seen).filter_map(|(share, seen)| {
            let lack = State::seen(share.allowance, seen, wall).lack(&self.hold.need, 0)?;
            Some((&share.place, lack))
        });
        lacks.max_by_key(|(_, lack)| lack.rank())
    }

    fn refusal(&self, seen: &[Seen], wall: SystemTime) -> Error {
        match self.lack(seen, wall) {
            Some((place, lack)) => refuse::error(place.level, &place.name, lack),
            None => refuse::behind_others(),
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
        // The slot of a request that has just ended here.
        let (verdict, wall) = lease.ask(|lack| matches!(lack, Lack::Slots(_))).await;
        match verdict {
            Verdict::Held(seen) => {
                lease.learn(held.accounts.iter().flatten(), &seen, wall);
                held.hear((&lease.hold, &seen), wall, false);
                (Some(lease.rate(&seen, wall)), Ok(()))
            }
            Verdict::Refused(seen) => {
                lease.learn(held.accounts.iter().flatten(), &seen, wall);
                held.hear((&lease.hold, &seen), wall, true);
                (Some(lease.rate(&seen, wall)), Err(lease.refusal(&seen, wall)))
            }
            Verdict::Alone => (None, held.go_alone(lease)),
        }
    }
}

impl Held {
    /// Tells what all gateways together have spent of budgets.
    fn hear(&self, (hold, seen): (&Hold, &[Seen]), wall: SystemTime, refused: bool) {
        let Some(bell) = &self.admission.bell else { return };
        let accounts = Level::ALL.into_iter().zip(&self.accounts);
        let accounts = accounts.filter_map(|(level, account)| Some((level, account.as_ref()?)));
        for ((level, account), (share, seen)) in accounts.zip(hold.shares.iter().zip(seen)) {
            let mut own = account.state.lock();
            own.spent.turn(wall);
            if refused || own.is_news_of_all(seen) {
                let mut all = State::seen(share.allowance, seen, wall);
                bell.hear(level, &account.name, (&mut own, &mut all), refused.then_some(&hold.need));
            }
        }
    }

    fn go_alone(&self, lease: &Lease) -> Result<(), Error> {
        if !lease.alone {
            self.admission.look_again(self, Now::read())?;
        }
        lease.go_alone(self.accounts.iter().flatten())
    }
}
