//! The doors to providers that have bounds: how many go in at once, how much everybody together may ask, who waits.
//!
//! What it is: one [`Door`] per bounded provider, shared by all snapshots as accounts are; a [`Pass`] for each call that went
//! in, which gives its place back when it ends; a [`Place`] in the line for each request that waits.
//!
//! What it promises: nobody is let in beyond a bound; a place that is free and can be used is given to whoever
//! [`penstock_admission::fair`] says is next; what went in or waits leaves nothing behind, however it ends. Rates and money
//! hold for all gateways where these share their limits: whoever is let in here asks them ([`Pass::confirm`]), and those who
//! wait ask one after another.
//!
//! What it refuses to know: which provider a request should go to, and what its answer is.

mod pass;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use penstock_admission::fair::{Ask, Bounds, Fair, Fit, Full, Next, Ticket};
use penstock_admission::{Admission, Allowance, Need, Now, Quota, Short, Stake, Standing};
use penstock_domain::{Code, Error, Priority, Retry};
use penstock_routing::Target;
use tokio::sync::oneshot;

pub(crate) use pass::{Asking, Pass};

/// The longest time for which a line before a rate is not looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What is said to those who ask when nothing is known of how long anything takes.
const SOON: Duration = Duration::from_secs(1);

/// Each target of a provider may have a bound of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lanes {
    /// It has none.
    #[default]
    Open,
    /// What was learnt from when it turned calls away.
    Learnt,
    /// So many calls at once.
    Fixed(u32),
}

/// What bounds the calls of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorRules {
    /// So many calls at once.
    pub slots: Option<u32>,
    /// The same, for each of its targets.
    pub lanes: Lanes,
    /// Rates and money of everybody together.
    pub allowance: Allowance,
    /// Who may wait.
    pub line: Bounds,
}

impl DoorRules {
    /// Whether they bound anything.
    pub fn bind(&self) -> bool {
        self.slots.is_some() || self.lanes != Lanes::Open || self.allowance != Allowance::default()
    }
}

/// Every door, kept when the configuration changes.
#[derive(Debug)]
pub struct Doors {
    start: Instant,
    /// Has the accounts; without it each door has one of its own.
    admission: Option<Arc<Admission>>,
    all: Mutex<HashMap<Arc<str>, Arc<Door>>>,
}

impl Default for Doors {
    fn default() -> Self {
        Self { start: Instant::now(), admission: None, all: Mutex::default() }
    }
}

impl Doors {
    /// Doors whose accounts are the admission's: what was spent before the start counts, and what other gateways use where
    /// they share their limits.
    pub fn of(admission: &Arc<Admission>) -> Self {
        Self { admission: Some(Arc::clone(admission)), ..Self::default() }
    }

    fn door(&self, name: &Arc<str>, rules: DoorRules) -> Arc<Door> {
        let quota = match &self.admission {
            Some(admission) => Quota::of(admission, name),
            None => Quota::new(Arc::clone(name), self.start),
        };
        Door::new(Arc::clone(name), rules, self.start, quota)
    }

    /// The doors of a configuration, by provider. Those that were there before keep who is in, who waits and what was used.
    pub fn adopt(
        &self,
        rules: impl IntoIterator<Item = (Arc<str>, DoorRules)>,
    ) -> HashMap<Arc<str>, Arc<Door>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = HashMap::new();
        for (name, rules) in rules {
            let door = match all.get(&name) {
                Some(door) => Arc::clone(door),
                None if !rules.bind() => continue,
                None => self.door(&name, rules),
            };
            door.adopt(rules);
            all.insert(Arc::clone(&name), Arc::clone(&door));
            now.insert(name, door);
        }
        now
    }
}

/// The door to one provider.
pub struct Door {
    name: Arc<str>,
    start: Instant,
    quota: Arc<Quota>,
    state: Mutex<State>,
}

struct State {
    room: Room,
    fair: Fair<Waiter>,
    /// The last look found that nobody could be let in, whatever their lane.
    stopped: bool,
    /// Somebody looks again after a while.
    watched: bool,
}

/// Who is inside, and who may be.
struct Room {
    rules: DoorRules,
    inside: u32,
    /// Calls inside by target, where targets have bounds.
    lanes: HashMap<u64, u32>,
}

/// What one who waits is told in the end.
type Verdict = Result<Pass, Shut>;

/// One who waits.
struct Waiter {
    target: Arc<Target>,
    need: Need,
    tell: oneshot::Sender<Verdict>,
}

/// A call that wants in.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) target: Arc<Target>,
    pub(crate) ask: Ask,
    pub(crate) need: Need,
    /// Whether it is known what it costs.
    pub(crate) priced: bool,
}

/// Why a call cannot go in now.
#[derive(Debug, Clone)]
pub(crate) struct Shut {
    pub(crate) error: Error,
    /// The word for explanations: `quota` or `full`.
    pub(crate) word: &'static str,
    /// Whether waiting is of any use.
    pub(crate) waits: bool,
}

impl Door {
    fn new(name: Arc<str>, rules: DoorRules, start: Instant, quota: Quota) -> Arc<Self> {
        let room = Room { rules, inside: 0, lanes: HashMap::new() };
        let state = State { room, fair: Fair::new(rules.line), stopped: false, watched: false };
        Arc::new(Self { name, start, quota: Arc::new(quota), state: Mutex::new(state) })
    }

    fn adopt(self: &Arc<Self>, rules: DoorRules) {
        self.quota.adopt(&rules.allowance, Instant::now());
        let mut state = self.state();
        state.room.rules = rules;
        state.fair.bound(rules.line);
        drop(state);
        self.look();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// What everybody together has used, and may.
    pub fn standing(&self) -> Standing {
        self.quota.standing(Now::read())
    }

    /// How many of a class wait.
    pub fn waiting(&self, class: Priority) -> usize {
        self.state().fair.waiting_in(class)
    }

    /// Goes in without waiting.
    ///
    /// # Errors
    /// There is no room, or others wait for it already.
    pub(crate) fn enter(self: &Arc<Self>, wish: &Wish, now: Now) -> Result<Pass, Shut> {
        let mut state = self.state();
        if !wish.priced
            && let Some(short) = self.quota.short(&wish.need, false, now)
            && short.wait.is_none()
        {
            return Err(Shut { error: short.error, word: "quota", waits: false });
        }
        let first =
            state.fair.waiting() == 0 || (!state.stopped && state.fair.waiting_for(wish.ask.lane) == 0);
        if first {
            match self.fits(&state.room, (&wish.ask, &wish.target, &wish.need), false, now) {
                (Fit::Now, _) => return Ok(self.let_in(&mut state, wish, now)),
                (Fit::Never, Some(short)) => {
                    return Err(Shut { error: short.error, word: "quota", waits: false });
                }
                _ => {}
            }
        }
        Err(self.shut(&state, wish, now))
    }

    /// Waits for its turn, unless there is no room for one more, or it would take longer than `patience`.
    ///
    /// # Errors
    /// As it would have to be told to the asker.
    pub(crate) fn join(self: &Arc<Self>, wish: &Wish, patience: Duration, now: Now) -> Result<Place, Shut> {
        let mut state = self.state();
        let predicted = self.predict(&state, wish, now);
        if predicted > patience.min(state.room.rules.line.max_wait) {
            return Err(self.shut(&state, wish, now));
        }
        let (tell, told) = oneshot::channel();
        let waiter = Waiter { target: Arc::clone(&wish.target), need: wish.need, tell };
        let nanos = self.nanos(now.at);
        match state.fair.arrive(wish.ask.clone(), waiter, nanos) {
            Err(full) => {
                let shut = self.shut(&state, wish, now);
                drop(state);
                Err(Shut { error: self.crowded(full, &shut), ..shut })
            }
            Ok((ticket, left)) => {
                let shut = left.as_ref().map(|_| self.shut(&state, wish, now));
                drop(state);
                if let (Some(waiter), Some(shut)) = (left, shut) {
                    // Whoever has gone meanwhile need not be told.
                    let _ = waiter.tell.send(Err(Shut { error: self.crowded(Full::Line, &shut), ..shut }));
                }
                self.look();
                Ok(Place { door: Arc::clone(self), ticket, told })
            }
        }
    }

    /// How long a call would wait, about.
    pub(crate) fn predicts(&self, wish: &Wish, now: Now) -> Duration {
        self.predict(&self.state(), wish, now)
    }

    /// How long one may wait at most.
    pub(crate) fn max_wait(&self) -> Duration {
        self.state().room.rules.line.max_wait
    }

    fn predict(&self, state: &State, wish: &Wish, now: Now) -> Duration {
        let ahead = state.fair.ahead(&wish.ask);
        let most = state.room.rules.slots.into_iter().chain(state.room.lane(&wish.target)).min();
        let by_slots = match (most, state.fair.service()) {
            (Some(most), Some(service)) if state.room.inside >= most || ahead > 0 => {
                service.mul_f64((ahead + 1) as f64 / f64::from(most.max(1)))
            }
            _ => Duration::ZERO,
        };
        let short = self.quota.short(&wish.need, wish.priced, now).and_then(|short| short.wait);
        let by_rate = match (short, state.fair.waiting()) {
            (None, _) => Duration::ZERO,
            (Some(wait), 0) => wait,
            (Some(wait), waiting) => {
                let (input, output) = state.fair.tokens();
                let part = |tokens: u64| tokens.saturating_mul(ahead as u64) / waiting as u64;
                wait + self.quota.drains(ahead as u64, (part(input), part(output)))
            }
        };
        by_slots.max(by_rate)
    }

    /// Whether one may go in now, from the `line` or past it; what it lacks, where that is a limit of everybody together.
    fn fits(
        &self,
        room: &Room,
        (ask, target, need): (&Ask, &Target, &Need),
        line: bool,
        now: Now,
    ) -> (Fit, Option<Short>) {
        if room.rules.slots.is_some_and(|most| room.inside >= most) {
            return (Fit::Later(None), None);
        }
        let inside = room.lanes.get(&ask.lane).copied().unwrap_or(0);
        if room.lane(target).is_some_and(|most| inside >= most) {
            return (Fit::Lane, None);
        }
        match self.quota.shut(need, line, now) {
            None => (Fit::Now, None),
            Some(short) => match short.wait {
                Some(wait) => (Fit::Later(Some(wait)), Some(short)),
                None => (Fit::Never, Some(short)),
            },
        }
    }

    fn let_in(self: &Arc<Self>, state: &mut State, wish: &Wish, now: Now) -> Pass {
        let charge = state.fair.serve(&wish.ask, self.nanos(now.at));
        let stake = self.count_in(&mut state.room, wish.ask.lane, wish.need, now);
        Pass::new(Arc::clone(self), wish.ask.lane, stake, charge)
    }

    fn count_in(&self, room: &mut Room, lane: u64, need: Need, now: Now) -> Stake {
        room.inside += 1;
        if room.rules.lanes != Lanes::Open {
            *room.lanes.entry(lane).or_default() += 1;
        }
        self.quota.take(need, now)
    }

    /// The other gateways have answered somebody: the next of those who wait may ask them.
    fn next_asks(self: &Arc<Self>) {
        if self.state().fair.waiting() > 0 {
            self.look();
        }
    }

    /// Lets in whoever is next, as long as there is room.
    fn look(self: &Arc<Self>) {
        let now = Now::read();
        let mut told = Vec::new();
        let mut state = self.state();
        let wait = self.next(&mut state, &mut told, now);
        let watch = wait.is_some() && !state.watched;
        state.watched |= watch;
        drop(state);
        for (tell, what) in told {
            // Whoever has gone gives the place back by dropping it.
            let _ = tell.send(what);
        }
        if let (true, Some(wait)) = (watch, wait) {
            self.watch(wait);
        }
    }

    fn next(
        self: &Arc<Self>,
        state: &mut State,
        told: &mut Vec<(oneshot::Sender<Verdict>, Verdict)>,
        now: Now,
    ) -> Option<Duration> {
        let State { room, fair, stopped, .. } = state;
        loop {
            let mut lacks = None;
            *stopped = false;
            let next = fair.next(self.nanos(now.at), |ask, waiter| {
                let (fit, short) = self.fits(room, (ask, &waiter.target, &waiter.need), true, now);
                *stopped = matches!(fit, Fit::Later(_));
                lacks = short;
                fit
            });
            match next {
                Next::Wait(wait) => return wait,
                Next::Go(waiter, charge) => {
                    let Waiter { target, need, tell } = waiter;
                    let lane = target.digest();
                    let stake = self.count_in(room, lane, need, now);
                    told.push((tell, Ok(Pass::new(Arc::clone(self), lane, stake, charge))));
                }
                Next::Never(waiter) => {
                    let error = lacks.map_or_else(|| self.full(None), |short: Short| short.error);
                    told.push((waiter.tell, Err(Shut { error, word: "quota", waits: false })));
                }
            }
        }
    }

    /// Looks again when time may have made room, until nobody waits for it.
    fn watch(self: &Arc<Self>, wait: Duration) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let door = Arc::downgrade(self);
        runtime.spawn(async move {
            tokio::time::sleep(wait.clamp(Duration::from_millis(1), LOOK)).await;
            if let Some(door) = door.upgrade() {
                door.state().watched = false;
                door.look();
            }
        });
    }

    /// What is said to one who finds no room now.
    fn shut(&self, state: &State, wish: &Wish, now: Now) -> Shut {
        let predicted = self.predict(state, wish, now);
        let wait = if predicted.is_zero() { SOON } else { predicted };
        match self.quota.short(&wish.need, wish.priced, now) {
            Some(short) => {
                let waits = short.wait.is_some();
                let error = match short.wait {
                    Some(least) => short.error.with_retry(Retry::After(wait.max(least))),
                    None => short.error,
                };
                Shut { error, word: "quota", waits }
            }
            None => Shut { error: self.full(Some(wait)), word: "full", waits: true },
        }
    }

    fn full(&self, wait: Option<Duration>) -> Error {
        let say = format!(
            "the provider {} answers as many requests as it can at once, and waiting would take too long: try again later",
            self.name
        );
        let error = Error::new(Code::Overloaded, say);
        wait.map_or(error.clone(), |wait| error.with_retry(Retry::After(wait)))
    }

    /// What is said to one for whom there is no room in the line.
    fn crowded(&self, full: Full, shut: &Shut) -> Error {
        if shut.word == "quota" {
            return shut.error.clone();
        }
        let who = match full {
            Full::Line => "requests",
            Full::Tenant => "requests of this team or key",
        };
        let say = format!(
            "as many {who} as may (providers.{}.queue.max_waiting) wait for the provider {}: try again later",
            self.name, self.name
        );
        Error::new(Code::Overloaded, say).with_retry(shut.error.retry())
    }

    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Room {
    /// The bound of a target of its own.
    fn lane(&self, target: &Target) -> Option<u32> {
        match self.rules.lanes {
            Lanes::Open => None,
            Lanes::Learnt => target.most(),
            Lanes::Fixed(most) => Some(most),
        }
    }

    /// One call leaves.
    fn count_out(&mut self, lane: u64) {
        self.inside = self.inside.saturating_sub(1);
        if let Some(inside) = self.lanes.get_mut(&lane) {
            *inside = inside.saturating_sub(1);
            if *inside == 0 {
                self.lanes.remove(&lane);
            }
        }
    }
}

/// A place in the line. Dropped, it is left, or what it was given meanwhile is given back.
pub(crate) struct Place {
    door: Arc<Door>,
    ticket: Ticket,
    told: oneshot::Receiver<Verdict>,
}

impl Place {
    /// Waits for the turn; nobody waits for ever, so bound it.
    ///
    /// # Errors
    /// Others needed the room, or it can never be let in.
    pub(crate) async fn turn(&mut self) -> Result<Pass, Option<Shut>> {
        match (&mut self.told).await {
            Ok(Ok(pass)) => Ok(pass),
            Ok(Err(shut)) => Err(Some(shut)),
            Err(_) => Err(None),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.door.state();
        let left = state.fair.leave(&self.ticket);
        drop(state);
        if left {
            // Whoever was behind may fit where this one did not.
            self.door.look();
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Door")
            .field("name", &self.name)
            .field("inside", &state.room.inside)
            .field("waiting", &state.fair.waiting())
            .finish_non_exhaustive()
    }
}
