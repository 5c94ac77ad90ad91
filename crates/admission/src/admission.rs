//! The accounts, and how a request takes from all of its own at once.
//!
//! A request has at most one account of each [`Level`], and accounts are locked in the order of their levels, so nobody waits
//! in a circle. All are looked at under their locks before anything is taken from any: nothing has ever to be put back.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Instant, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use penstock_domain::{Error, RequestId, Tags, Tariff};
use tokio::sync::mpsc;

use crate::account::{Lack, Spent, State};
use crate::alert::{Bell, Crossing};
use crate::ledger::{Book, LedgerStore, Open, Recovered, Sums, Writer};
use crate::permit::{Held, Permit};
use crate::refuse;
use crate::rules::{Allowance, Level, Need, Now, Rate, Rules};
use crate::shared::lease::Lease;
use crate::shared::{Link, Seen};

const SHARDS: usize = 16;
/// A shard looks for idle accounts when it has grown to this many, and then whenever it has doubled.
const FIRST_SWEEP: usize = 64;

/// So many answers of unknown length are to find room beside each other.
const CROWD: u64 = 4;

/// Decides whether a request may run now.
pub struct Admission {
    pub(crate) start: Instant,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    organisation: Arc<Account>,
    /// Of those that were ever called and had to be paid, or have bounds.
    pub(crate) providers: Mutex<HashMap<Arc<str>, Arc<Account>>>,
    pub(crate) book: Option<Book>,
    /// Reservations that were given back whole.
    pub(crate) refunds: AtomicU64,
    /// Who is told of spent budgets.
    pub(crate) bell: Option<Bell>,
    /// The other gateways.
    pub(crate) link: Option<Arc<Link>>,
}

struct Shard {
    /// Keys, teams and models.
    accounts: [HashMap<Arc<str>, Arc<Account>, RandomState>; 3],
    sweep_at: usize,
}

/// One account, shared by the permits that hold something of it.
pub(crate) struct Account {
    pub(crate) name: Arc<str>,
    pub(crate) state: Mutex<State>,
}

type Guards<'a> = [Option<MutexGuard<'a, State>>; 4];

/// How long an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// At most this long: the asker or the task said so.
    Bound(u64),
    /// As long as the model likes: this is held until enough of its answers are known to predict the next.
    Free {
        /// The model's own bound for all choices together.
        cold: u64,
        /// How many answers were asked for.
        choices: u64,
    },
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The request.
    pub id: &'a RequestId,
    /// Its labels.
    pub tags: &'a Tags,
    /// The caller's key.
    pub key: &'a Arc<str>,
    /// What the key allows.
    pub own: Allowance,
    /// The caller's team.
    pub team: Option<&'a Arc<str>>,
    /// The model's name in the catalogue.
    pub model: Option<&'a Arc<str>>,
    /// At most so many tokens has the prompt.
    pub input: u64,
    /// How long the answer may be.
    pub output: Output,
    /// The dearest prices that it may be billed at; `None` when nobody knows.
    pub tariff: Option<&'a Tariff>,
}

/// One account as it stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Whose.
    pub level: Level,
    /// Its name; empty for the organisation.
    pub name: Arc<str>,
    /// What it allows.
    pub allowance: Allowance,
    /// Requests in flight.
    pub in_flight: u32,
    /// What is held for them.
    pub held: Need,
    /// Money spent.
    pub spent: Sums,
    /// What is left of its budget, in micro-dollars.
    pub left: Option<u64>,
    /// When its budget begins anew.
    pub renewed: Option<SystemTime>,
    /// Its rates.
    pub rate: Rate,
}

impl Standing {
    /// An account of which nothing was used.
    pub fn new(level: Level, name: Arc<str>) -> Self {
        Self {
            level,
            name,
            allowance: Allowance::default(),
            in_flight: 0,
            held: Need::default(),
            spent: Sums::default(),
            left: None,
            renewed: None,
            rate: Rate::default(),
        }
    }

    /// Shows it with what it allows, which its next request will put in force.
    pub fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
        self.left = allowance.budget.map(|budget| {
            let used = self.spent.within(budget.per);
            budget.usd.0.micros().saturating_sub(used)
        });
    }
}

impl Admission {
    /// Counts from `start` on; every later time must not lie before it. Nothing is kept.
    pub fn new(start: Instant) -> Self {
        let hasher = RandomState::new();
        let shard = || Mutex::new(Shard::new(&hasher));
        Self {
            start,
            shards: std::array::from_fn(|_| shard()),
            organisation: Account::new("".into()),
            providers: Mutex::default(),
            book: None,
            bell: None,
            refunds: AtomicU64::new(0),
            link: None,
            hasher,
        }
    }

    /// The same, with a ledger: run the writer as a task.
    pub fn with_ledger(start: Instant, store: Arc<dyn LedgerStore>) -> (Self, Writer) {
        let (book, writer) = Book::new(store);
        (Self { book: Some(book), ..Self::new(start) }, writer)
    }

    /// The same, and parts of budgets that are spent can be heard of. What waits when nobody listens is bounded.
    pub fn with_bell(self) -> (Self, mpsc::Receiver<Crossing>) {
        let (bell, crossings) = Bell::new();
        (Self { bell: Some(bell), ..self }, crossings)
    }

    /// The same, for gateways that keep their limits and budgets together: every permit has to be confirmed.
    pub fn share(self, link: Arc<Link>) -> Self {
        Self { link: Some(link), ..self }
    }

    /// The link with the other gateways.
    pub fn link(&self) -> Option<&Arc<Link>> {
        self.link.as_ref()
    }

    /// Takes over what was spent before the start. Models go by the name of their account.
    pub fn restore(&self, rules: &Rules, recovered: &Recovered, wall: SystemTime) {
        for (level, name, sums) in &recovered.spent {
            let name: Arc<str> = (&**name).into();
            let account = match level {
                Level::Organisation => Arc::clone(&self.organisation),
                Level::Model => self.account(Level::Model, &rules.model(&name).0, 0),
                level => self.account(*level, &name, 0),
            };
            let mut state = account.state.lock();
            state.spent.turn(wall);
            let Spent { day, month, lifetime, .. } = &mut state.spent;
            for (sum, more) in [(&mut day.1, sums.day), (&mut month.1, sums.month), (lifetime, sums.lifetime)]
            {
                *sum = sum.saturating_add(more);
            }
        }
    }

    /// Has the ledger end once everything is written.
    pub fn close(&self) {
        if let Some(book) = &self.book {
            book.end();
        }
    }

    /// Takes a slot, a request, tokens and money from all accounts of a request, or from none. `count` counts the prompt more
    /// exactly; it is asked only where that can change anything. The rates come back for the headers of the answer, on a
    /// refusal too.
    ///
    /// # Errors
    /// `rate_limit_exceeded` with the time after which the same request fits, or without one when it never does;
    /// `concurrency_limit_exceeded`; `budget_exceeded`; `price_unknown` where a budget holds and nobody knows the price;
    /// `store_unavailable` when the ledger cannot be written for too long.
    pub fn reserve(
        self: &Arc<Self>,
        rules: &Rules,
        claim: Claim<'_>,
        now: Now,
        count: impl FnOnce() -> u64,
    ) -> (Rate, Result<Permit, Error>) {
        let at = self.nanos(now.at);
        let place = match self.book.as_ref().map(Book::place) {
            Some(None) => return (Rate::default(), Err(refuse::behind())),
            place => place.flatten(),
        };
        let accounts = self.accounts(rules, &claim, at);
        let part = self.link.as_ref().and_then(|link| link.alone());
        let alone = self.stand_alone(&accounts, part, at);
        let mut input = claim.input;
        let mut guards = Self::lock(&accounts);
        let predicted =
            guards[Level::Model as usize].as_ref().and_then(|model| model.sketch.as_ref()?.predict());
        let (output, predicted, grows) = match claim.output {
            Output::Bound(most) => (most, None, false),
            Output::Free { cold, choices } => match predicted {
                Some(each) => {
                    let all = each.saturating_mul(choices);
                    (all, Some(all), true)
                }
                None => (cold, None, true),
            },
        };
        // What grows as it goes need not fit as a whole, and a guess is to leave room for others.
        let parts = if predicted.is_some() { 1 } else { CROWD };
        let held = |guards: &Guards<'_>, input: u64| {
            let longest = guards.iter().flatten().map(|state| state.longest(input, parts)).min();
            let output = if grows { output.min(longest.unwrap_or(output)) } else { output };
            Need::of(input, output, claim.tariff)
        };
        let mut need = held(&guards, input);
        let coarse =
            input > 0 && guards.iter().flatten().any(|state| state.weighs() && !state.is_roomy(&need, at));
        if coarse {
            // Counting takes longer than anybody may hold a lock.
            drop(guards);
            input = input.min(count());
            guards = Self::lock(&accounts);
            need = held(&guards, input);
        }
        for state in guards.iter_mut().flatten() {
            state.spent.turn(now.wall);
        }
        if let Err(error) = Self::check(&guards, &accounts, (&need, claim.tariff), at) {
            self.refused(&mut guards, &accounts, &need);
            return (Self::gauges(&guards, at), Err(error));
        }
        let asks = self.link.is_some() && !alone;
        for state in guards.iter_mut().flatten() {
            state.take(need, at);
            state.asking += if asks { need.micros } else { 0 };
        }
        let rate = Self::gauges(&guards, at);
        drop(guards);
        let lease = self.link.as_ref().map(|link| Lease::new(link, (rules, &claim), need, alone));
        let open = self.open(&claim, (need, lease.as_ref().map_or(0, |lease| lease.hold.number)), now);
        let admission = Arc::clone(self);
        let calls = Vec::new();
        (
            rate,
            Ok(Permit::new(Held { admission, accounts, open, place, need, predicted, grows, lease, calls })),
        )
    }

    fn open(&self, claim: &Claim<'_>, (need, number): (Need, u64), now: Now) -> Arc<Open> {
        let open = Open {
            id: claim.id.clone(),
            begun: now.wall,
            key: Arc::clone(claim.key),
            team: claim.team.map(Arc::clone),
            model: claim.model.map(Arc::clone),
            tags: claim.tags.clone(),
            reserved: need,
            tariff: claim.tariff.copied(),
            input: AtomicU64::new(need.input),
            seen: AtomicU64::new(0),
            number,
            provider: Mutex::default(),
        };
        let open = Arc::new(open);
        if let Some(book) = &self.book {
            book.opened(Arc::clone(&open));
        }
        open
    }

    /// Has accounts go by this gateway's part while the others cannot be asked.
    fn stand_alone(&self, accounts: &[Option<Arc<Account>>; 4], part: Option<u32>, at: u64) -> bool {
        if self.link.is_some() {
            for account in accounts.iter().flatten() {
                account.state.lock().stand_alone(part, at);
            }
        }
        part.is_some()
    }

    /// Looks at a reservation again that was made by the whole of everything: whether it fits into this gateway's part.
    pub(crate) fn look_again(&self, held: &Held, now: Now) -> Result<(), Error> {
        let at = self.nanos(now.at);
        // One question that failed is no reason to take more than this gateway's part, either.
        let part = self.link.as_ref().map(|link| link.gateways().max(1));
        self.stand_alone(&held.accounts, part, at);
        let mut guards = Self::lock(&held.accounts);
        guards.iter_mut().flatten().for_each(|state| state.untake(held.need));
        let verdict = Self::check(&guards, &held.accounts, (&held.need, held.open.tariff.as_ref()), at);
        guards.iter_mut().flatten().for_each(|state| state.take(held.need, at));
        verdict
    }

    /// Whether a need fits everywhere; if not, what keeps it out for the longest time.
    fn check(
        guards: &Guards<'_>,
        accounts: &[Option<Arc<Account>>; 4],
        (need, tariff): (&Need, Option<&Tariff>),
        now: u64,
    ) -> Result<(), Error> {
        let mut worst: Option<(usize, Lack)> = None;
        for (level, state) in guards.iter().enumerate() {
            let Some(state) = state else { continue };
            if tariff.is_none() && state.allowance.budget.is_some() {
                let name = accounts[level].as_ref().map_or("", |account| &*account.name);
                return Err(refuse::unpriced(Level::ALL[level], name));
            }
            if let Some(lack) = state.lack(need, now)
                && worst.is_none_or(|(_, other)| lack.rank() > other.rank())
            {
                worst = Some((level, lack));
            }
        }
        let Some((level, lack)) = worst else { return Ok(()) };
        let name = accounts[level].as_ref().map_or("", |account| &*account.name);
        Err(refuse::error(Level::ALL[level], name, lack))
    }

    /// A refusal may mean that a budget is exhausted.
    fn refused(&self, guards: &mut Guards<'_>, accounts: &[Option<Arc<Account>>; 4], need: &Need) {
        let Some(bell) = &self.bell else { return };
        for (level, (state, account)) in Level::ALL.into_iter().zip(guards.iter_mut().zip(accounts)) {
            if let (Some(state), Some(account)) = (state, account) {
                bell.refused(level, &account.name, need, state);
            }
        }
    }

    fn gauges(guards: &Guards<'_>, now: u64) -> Rate {
        let mut rate = Rate::default();
        for state in guards.iter().flatten() {
            state.gauges(&mut rate, now);
        }
        rate
    }

    /// The accounts of a request, with what the newest snapshot allows.
    fn accounts(&self, rules: &Rules, claim: &Claim<'_>, now: u64) -> [Option<Arc<Account>>; 4] {
        let adopted = |account: Arc<Account>, allowance: &Allowance| {
            account.state.lock().adopt(allowance, now);
            account
        };
        let key = adopted(self.account(Level::Key, claim.key, now), &claim.own);
        let team = claim.team.map(|team| adopted(self.account(Level::Team, team, now), &rules.team(team)));
        let organisation = adopted(Arc::clone(&self.organisation), &rules.organisation());
        let model = claim.model.map(|model| {
            let (name, allowance) = rules.model(model);
            adopted(self.account(Level::Model, &name, now), &allowance)
        });
        [Some(key), team, Some(organisation), model]
    }

    /// Locks all accounts of a request, in the one order that everybody keeps.
    pub(crate) fn lock(accounts: &[Option<Arc<Account>>; 4]) -> Guards<'_> {
        // Maps an array in the order of its elements.
        std::array::from_fn(|level| accounts[level].as_ref().map(|account| account.state.lock()))
    }

    /// Every account that has limits, a budget, or has spent something; keys by their ids.
    pub fn standings(&self, rules: &Rules, now: Now) -> Vec<Standing> {
        let at = self.nanos(now.at);
        for (level, name, allowance) in rules.limited() {
            let account = match level {
                Level::Organisation => Arc::clone(&self.organisation),
                level => self.account(level, &name.into(), at),
            };
            account.state.lock().adopt(&allowance, at);
        }
        let mut all = self.all();
        all.sort_by(|(a, x), (b, y)| (a, &x.name).cmp(&(b, &y.name)));
        // Those of providers are shown by whoever knows which of them there are: [`crate::Quota::standing`].
        let own = all.into_iter().filter(|(level, _)| *level != Level::Provider);
        let shown = own.map(|(level, account)| account.standing(level, at, now.wall));
        shown.filter(|one| one.allowance != Allowance::default() || one.spent.lifetime > 0).collect()
    }

    pub(crate) fn all(&self) -> Vec<(Level, Arc<Account>)> {
        let mut all = vec![(Level::Organisation, Arc::clone(&self.organisation))];
        for shard in &self.shards {
            let shard = shard.lock();
            for (level, accounts) in [Level::Key, Level::Team, Level::Model].into_iter().zip(&shard.accounts)
            {
                all.extend(accounts.values().map(|account| (level, Arc::clone(account))));
            }
        }
        let providers = self.providers.lock();
        all.extend(providers.values().map(|account| (Level::Provider, Arc::clone(account))));
        all
    }

    /// How many reservations were given back whole since the start.
    pub fn refunds(&self) -> u64 {
        self.refunds.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// How many ends of requests wait to be written to the ledger.
    pub fn unwritten(&self) -> u64 {
        self.book.as_ref().map_or(0, Book::unwritten)
    }

    /// How many requests of the key are in flight.
    pub fn in_flight(&self, key: &str) -> u32 {
        let shard = self.shard(key).lock();
        shard.accounts[0].get(key).map_or(0, |account| account.state.lock().in_flight)
    }

    /// How many accounts of keys, teams and models are remembered.
    pub fn remembered(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    fn shard(&self, name: &str) -> &Mutex<Shard> {
        // The upper bits: the map inside uses the lower ones of the same hash.
        &self.shards[(self.hasher.hash_one(name) >> 60) as usize % SHARDS]
    }

    /// Finds or opens an account. The organisation has its own place.
    fn account(&self, level: Level, name: &Arc<str>, now: u64) -> Arc<Account> {
        let place = match level {
            Level::Key => 0,
            Level::Team => 1,
            Level::Model => 2,
            Level::Organisation => return Arc::clone(&self.organisation),
            Level::Provider => return self.provider(name),
        };
        let mut shard = self.shard(name).lock();
        if let Some(account) = shard.accounts[place].get(name) {
            return Arc::clone(account);
        }
        if shard.len() >= shard.sweep_at {
            shard.sweep(now);
        }
        let account = Account::new(Arc::clone(name));
        shard.accounts[place].insert(Arc::clone(name), Arc::clone(&account));
        account
    }
}

impl Shard {
    fn new(hasher: &RandomState) -> Self {
        let map = || HashMap::with_hasher(hasher.clone());
        Self { accounts: [map(), map(), map()], sweep_at: FIRST_SWEEP }
    }

    fn len(&self) -> usize {
        self.accounts.iter().map(HashMap::len).sum()
    }

    /// Forgets accounts that new ones would equal. Nobody can be between finding such an account and using it, because that
    /// holds a second reference.
    fn sweep(&mut self, now: u64) {
        for accounts in &mut self.accounts {
            accounts
                .retain(|_, account| Arc::strong_count(account) > 1 || !account.state.lock().is_idle(now));
        }
        self.sweep_at = (self.len() * 2).max(FIRST_SWEEP);
        for accounts in &mut self.accounts {
            accounts.shrink_to(self.sweep_at);
        }
    }
}

impl Account {
    /// The other gateways have answered about so much money, and have so much left.
    pub(crate) fn answered(&self, asked: u64, left: Option<u64>) {
        let mut state = self.state.lock();
        state.asking = state.asking.saturating_sub(asked);
        state.left_for_all = left.or(state.left_for_all);
    }

    /// So much money is used that the other gateways do not know of.
    pub(crate) fn went_alone(&self, micros: u64) {
        let mut state = self.state.lock();
        state.left_for_all = state.left_for_all.map(|left| left.saturating_sub(micros));
    }

    /// What it allows.
    pub(crate) fn allowance(&self) -> Allowance {
        self.state.lock().allowance
    }

    pub(crate) fn look_like(&self, seen: Option<Seen>) {
        self.state.lock().for_all = seen.map(Box::new);
    }

    pub(crate) fn new(name: Arc<str>) -> Arc<Self> {
        Arc::new(Self { name, state: Mutex::default() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn standing(&self, level: Level, at: u64, wall: SystemTime) -> Standing {
        let mut own = self.state.lock();
        own.spent.turn(wall);
        let for_all = own.for_all.as_deref().map(|seen| State::seen(own.allowance, seen, wall));
        let (state, at) = match &for_all {
            Some(state) => (state, 0),
            None => (&*own, at),
        };
        let mut rate = Rate::default();
        state.gauges(&mut rate, at);
        let budget = state.allowance.budget;
        Standing {
            level,
            name: Arc::clone(&self.name),
            allowance: state.allowance,
            in_flight: state.in_flight,
            held: state.held,
            spent: Sums {
                day: state.spent.day.1,
                month: state.spent.month.1,
                lifetime: state.spent.lifetime,
            },
            left: budget.map(|budget| state.left(budget)),
            renewed: budget.and_then(|budget| state.spent.renewed(budget.per)),
            rate,
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("remembered", &self.remembered()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
