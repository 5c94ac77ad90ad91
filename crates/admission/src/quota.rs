//! What everybody together may ask of one provider, and spend there.
//!
//! What it promises: the arithmetic of every other account: what is taken is held until it is known what was used, and then
//! poured into the rates and the budget. A call takes from its provider when it begins and settles when it ends; a hedge or a
//! fail-over takes from its own. Where gateways share their limits, a call asks all of them in one round trip of its own
//! ([`Stake::question`]), because only then it is known which provider is called.
//!
//! What it refuses to know: who waits for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use penstock_config::Meter;
use penstock_domain::{Error, Tariff};

use crate::account::{Lack, State};
use crate::admission::{Account, Admission, Standing};
use crate::alert::Bell;
use crate::ledger::Called;
use crate::refuse;
use crate::rules::{Allowance, Level, Need, Now};
use crate::shared::{Link, Seen};

mod stake;

pub use stake::{Question, Stake};

/// So many answers of unknown length are to find room beside each other.
const CROWD: u64 = 4;
/// The longest time for which what all gateways had left is gone by after a refusal: somebody may have ended meanwhile.
const AGAIN: Duration = Duration::from_millis(250);
/// The same, where only the end of a call can make room.
const SLOT: Duration = Duration::from_millis(50);
/// The shortest time after which one asks again.
const SOON: Duration = Duration::from_millis(5);
/// So long after a refusal those who wait ask one after another.
const CAREFUL: Duration = Duration::from_secs(1);

/// The account of one provider.
pub struct Quota {
    start: Instant,
    account: Arc<Account>,
    /// The other gateways.
    link: Option<Arc<Link>>,
    bell: Option<Bell>,
    /// Whether a ledger keeps what is spent.
    kept: bool,
    /// How all gateways together saw it, since they refused something.
    others: Mutex<Option<Others>>,
    /// Calls that ask the other gateways at this moment.
    asking: AtomicU32,
}

/// How all gateways together saw the account.
struct Others {
    state: State,
    /// When, in nanoseconds.
    at: u64,
    /// From when on they may be asked again whatever they said.
    again: u64,
    /// When they last refused something.
    refused: u64,
}

/// Why a call does not fit.
#[derive(Debug, Clone)]
pub struct Short {
    /// In words: which limit, whose, how much is left, and when it will be enough.
    pub error: Error,
    /// After this time it fits, if nothing comes in between; `None` when waiting is no use.
    pub wait: Option<Duration>,
}

impl Admission {
    /// The account of a provider, of which there are as many as the configuration or the ledger ever named.
    pub(crate) fn provider(&self, name: &Arc<str>) -> Arc<Account> {
        let mut providers = self.providers.lock();
        if let Some(account) = providers.get(name) {
            return Arc::clone(account);
        }
        let account = Account::new(Arc::clone(name));
        providers.insert(Arc::clone(name), Arc::clone(&account));
        account
    }

    /// Adds what was paid to providers whose accounts do not have it yet.
    pub(crate) fn pay(&self, calls: &[Called], wall: SystemTime) {
        for call in calls.iter().filter(|call| call.stake.is_none() && call.micros > 0) {
            let account = self.provider(&call.provider);
            let mut state = account.lock();
            state.spent.turn(wall);
            state.spent.add(call.micros);
        }
    }
}

impl Quota {
    /// An account of which nothing was used; later times must not lie before `start`.
    pub fn new(name: Arc<str>, start: Instant) -> Self {
        Self::with(start, Account::new(name))
    }

    /// The account that the admission has of a provider: with what was spent there before, and for all gateways that share
    /// their limits.
    pub fn of(admission: &Admission, name: &Arc<str>) -> Self {
        Self {
            link: admission.link.clone(),
            bell: admission.bell.clone(),
            kept: admission.book.is_some(),
            ..Self::with(admission.start, admission.provider(name))
        }
    }

    fn with(start: Instant, account: Arc<Account>) -> Self {
        let (others, asking) = (Mutex::default(), AtomicU32::new(0));
        Self { start, account, link: None, bell: None, kept: false, others, asking }
    }

    /// Takes over what the newest configuration allows; what was used so far stays used.
    pub fn adopt(&self, allowance: &Allowance, now: Instant) {
        let at = self.nanos(now);
        let mut state = self.account.lock();
        if state.allowance != *allowance {
            *self.others.lock() = None;
        }
        state.adopt(allowance, at);
    }

    /// What a call may need. An answer whose asker named no bound `grows`, and need not fit as a whole.
    pub fn need(&self, (input, output): (u64, u64), grows: bool, tariff: Option<&Tariff>) -> Need {
        let longest = if grows { self.account.lock().longest(input, CROWD) } else { u64::MAX };
        Need::of(input, output.min(longest), tariff)
    }

    /// What a call lacks, if anything, for whoever is to be told. `priced`: whether it is known what it costs.
    pub fn short(&self, need: &Need, priced: bool, now: Now) -> Option<Short> {
        let own = self.own(need, priced, now);
        match (self.lacks(need, now), own) {
            (Some(lack), Some(own)) if own.wait.is_none() || own.wait >= wait(&lack) => Some(own),
            (Some(lack), _) => Some(self.told(lack)),
            (None, own) => own,
        }
    }

    /// What keeps a call from beginning, or from asking the other gateways. Of those who wait in a `line` one asks after
    /// another, once there was a refusal.
    pub fn shut(&self, need: &Need, line: bool, now: Now) -> Option<Short> {
        if let Some(short) = self.own(need, true, now) {
            return Some(short);
        }
        let at = self.nanos(now.at);
        let again = self.others.lock().as_ref().map(|others| others.again)?;
        if at < again
            && let Some(lack) = self.lacks(need, now)
        {
            return Some(self.told(lack));
        }
        let asked = line && self.asking.load(Relaxed) > 0;
        asked.then(|| Short { error: refuse::behind_others(), wait: Some(SOON) })
    }

    /// What a call lacks at this gateway.
    fn own(&self, need: &Need, priced: bool, now: Now) -> Option<Short> {
        let at = self.nanos(now.at);
        let mut state = self.account.lock();
        if state.allowance == Allowance::default() {
            return None;
        }
        state.spent.turn(now.wall);
        if !priced && state.allowance.budget.is_some() {
            let error = refuse::unpriced(Level::Provider, &self.account.name);
            return Some(Short { error, wait: None });
        }
        self.stand(&mut state, at);
        let lack = state.lack(need, at)?;
        if let (Some(bell), Lack::Money { .. }) = (&self.bell, &lack) {
            bell.refused(Level::Provider, &self.account.name, need, &mut state);
        }
        drop(state);
        Some(self.told(lack))
    }

    /// Goes by this gateway's part while the others cannot be asked.
    fn stand(&self, state: &mut State, at: u64) {
        if let Some(link) = &self.link {
            state.stand_alone(link.alone(), at);
        }
    }

    /// What a call lacked as all gateways together last saw it, time taken into account. Money is always asked for.
    fn lacks(&self, need: &Need, now: Now) -> Option<Lack> {
        let at = self.nanos(now.at);
        let others = self.others.lock();
        let others = others.as_ref()?;
        let lack = others.state.lack(need, at.saturating_sub(others.at));
        lack.filter(|lack| wait(lack).is_some())
    }

    fn told(&self, lack: Lack) -> Short {
        let wait = wait(&lack);
        Short { error: refuse::error(Level::Provider, &self.account.name, lack), wait }
    }

    /// The other gateways have no room for a call: what it is told, and for how long it is gone by.
    fn refused(&self, seen: &Seen, need: &Need, now: Now) -> Short {
        let at = self.nanos(now.at);
        let allowance = self.account.allowance();
        let state = State::seen(allowance, seen, now.wall);
        let Some(lack) = state.lack(need, 0) else {
            return Short { error: refuse::behind_others(), wait: Some(SOON) };
        };
        if let Some(wait) = wait(&lack) {
            let rest = if wait.is_zero() { SLOT } else { wait.clamp(SOON, AGAIN) };
            let again = at.saturating_add(nanos(rest));
            *self.others.lock() = Some(Others { state, at, again, refused: at });
        }
        self.told(lack)
    }

    /// The other gateways agreed to a call.
    fn agreed(&self, seen: &Seen, now: Now) {
        let at = self.nanos(now.at);
        let mut others = self.others.lock();
        let Some(known) = &mut *others else { return };
        if at.saturating_sub(known.refused) > nanos(CAREFUL) {
            *others = None;
        } else {
            known.state = State::seen(known.state.allowance, seen, now.wall);
            (known.at, known.again) = (at, at);
        }
    }

    /// Tells what all gateways together have spent of the budget; `refused`: what did not fit any more.
    fn hear(&self, seen: &Seen, refused: Option<&Need>, wall: SystemTime) {
        let Some(bell) = &self.bell else { return };
        let mut own = self.account.lock();
        own.spent.turn(wall);
        if refused.is_some() || own.is_news_of_all(seen) {
            let mut all = State::seen(own.allowance, seen, wall);
            bell.hear(Level::Provider, &self.account.name, (&mut own, &mut all), refused);
        }
    }

    /// A call has ended here: there may be room.
    fn ask_again(&self) {
        if let Some(others) = &mut *self.others.lock() {
            others.again = 0;
        }
    }

    /// How long it takes until so many requests with so many tokens have gone through, at the rates alone.
    pub fn drains(&self, requests: u64, tokens: (u64, u64)) -> Duration {
        let state = self.account.lock();
        let share = |meter| match meter {
            Meter::Requests => requests,
            Meter::Input => tokens.0,
            Meter::Output => tokens.1,
            Meter::Tokens => tokens.0.saturating_add(tokens.1),
        };
        let each = state.allowance.limits.rates().map(|(meter, span, limit)| {
            let nanos = u128::from(share(meter)) * u128::from(span.nanos()) / u128::from(limit.max(1));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        });
        each.max().unwrap_or_default()
    }

    /// The account as it stands, for all gateways where somebody has looked.
    pub fn standing(&self, now: Now) -> Standing {
        self.account.standing(Level::Provider, self.nanos(now.at), now.wall)
    }

    fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.start))
    }
}

/// How long it takes until there is enough; `None` when waiting is no use.
fn wait(lack: &Lack) -> Option<Duration> {
    match lack {
        Lack::Rate { wait, .. } => *wait,
        // Whoever is in flight ends.
        Lack::Slots(_) => Some(Duration::ZERO),
        Lack::Money { .. } => None,
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota").field("name", &self.account.name).finish_non_exhaustive()
    }
}
