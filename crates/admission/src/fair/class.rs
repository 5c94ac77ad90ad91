//! The tenants of one class and their counters.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{Ask, OUTPUT_WEIGHT};

/// A counter is kept in this part of a token, so that dividing by a weight loses nothing that matters.
const UNIT: u64 = 1_024;
/// What a tenant's answers are taken to be before any has ended.
const ANSWER: u64 = 128;
/// Idle tenants are looked through when there are so many, and then whenever they have doubled.
const FIRST_SWEEP: usize = 64;

/// One class.
#[derive(Debug)]
pub(super) struct Class<T> {
    /// Those of whom somebody waits.
    active: HashMap<Arc<str>, Tenant<T>>,
    /// Those who are served, or were lately.
    idle: HashMap<Arc<str>, Tenant<T>>,
    /// The counter of whoever was the last to wait.
    level: u64,
    waiting: usize,
    sweep_at: usize,
}

/// One tenant.
#[derive(Debug)]
struct Tenant<T> {
    /// What it was served, as far as that is known.
    settled: u64,
    /// What those under way will probably use.
    pending: u64,
    weight: u32,
    running: u32,
    /// How long its answers lately were, in tokens.
    usual: u64,
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    since: u64,
    ask: Ask,
    who: T,
}

/// One who waits.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    tenant: Arc<str>,
    at: usize,
}

/// Counter, requests under way, number: less goes first.
type Rank = (u64, u32, u64);

impl<T> Default for Class<T> {
    fn default() -> Self {
        Self { active: HashMap::new(), idle: HashMap::new(), level: 0, waiting: 0, sweep_at: FIRST_SWEEP }
    }
}

impl<T> Default for Tenant<T> {
    fn default() -> Self {
        Self { settled: 0, pending: 0, weight: 1, running: 0, usual: ANSWER, waiting: VecDeque::new() }
    }
}

impl<T> Class<T> {
    /// What so many tokens add to the counter of a tenant of this weight.
    pub(super) fn cost(input: u64, output: u64, weight: u32) -> u64 {
        let tokens = input.saturating_add(output.saturating_mul(OUTPUT_WEIGHT)).max(1);
        tokens.saturating_mul(UNIT) / u64::from(weight.max(1))
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn waiting_of(&self, tenant: &str) -> usize {
        self.active.get(tenant).map_or(0, |tenant| tenant.waiting.len())
    }

    pub(super) fn waiting_for(&self, lane: u64) -> usize {
        let all = self.active.values().flat_map(|tenant| &tenant.waiting);
        all.filter(|one| one.ask.lane == lane).count()
    }

    pub(super) fn remembered(&self) -> usize {
        self.active.len() + self.idle.len()
    }

    pub(super) fn tokens(&self) -> (u64, u64) {
        let all = self.active.values().flat_map(|tenant| &tenant.waiting);
        all.fold((0, 0), |(input, output), one| (input + one.ask.input, output + one.ask.output))
    }

    pub(super) fn counter(&self, tenant: &str) -> Option<u64> {
        let tenant = self.active.get(tenant).or_else(|| self.idle.get(tenant))?;
        Some(tenant.counter() / UNIT)
    }

    /// How many of this class are served before the next of a tenant.
    pub(super) fn ahead(&self, tenant: &str, weight: u32) -> usize {
        let own = self.waiting_of(tenant);
        let others = self.active.iter().filter(|(name, _)| ***name != *tenant);
        let theirs: u64 = others
            .map(|(_, other)| {
                let turns = (own as u64 + 1) * u64::from(other.weight.max(1)) / u64::from(weight.max(1));
                turns.max(1).min(other.waiting.len() as u64)
            })
            .sum();
        own + usize::try_from(theirs).unwrap_or(usize::MAX)
    }

    /// What those who wait have got, at least; nobody who comes anew has less. What is only predicted is no reason to lift anybody:
    /// it may turn out to be much less, and whoever was lifted to it would wait for nothing.
    fn floor(&self) -> u64 {
        self.active.values().map(|tenant| tenant.settled).min().unwrap_or(self.level)
    }

    /// Serves one who did not wait. Gives the tokens of the answer that were charged, and the charge.
    pub(super) fn serve(&mut self, ask: &Ask) -> (u64, u64) {
        if let Some(tenant) = self.active.get_mut(&ask.tenant) {
            return tenant.charge(ask);
        }
        let floor = self.floor();
        self.sweep(floor);
        let tenant = match self.idle.get_mut(&ask.tenant) {
            Some(tenant) => tenant,
            None => self.idle.entry(Arc::clone(&ask.tenant)).or_default(),
        };
        tenant.lift(floor);
        tenant.weight = ask.weight;
        let charged = tenant.charge(ask);
        if self.active.is_empty() {
            self.level = self.level.max(tenant.settled);
        }
        charged
    }

    pub(super) fn arrive(&mut self, ask: Ask, who: T, (id, since): (u64, u64)) {
        if !self.active.contains_key(&ask.tenant) {
            let floor = self.floor();
            self.sweep(floor);
            let mut tenant = self.idle.remove(&ask.tenant).unwrap_or_default();
            tenant.lift(floor);
            self.active.insert(Arc::clone(&ask.tenant), tenant);
        }
        if let Some(tenant) = self.active.get_mut(&ask.tenant) {
            tenant.weight = ask.weight;
            tenant.waiting.push_back(Waiting { id, since, ask, who });
            self.waiting += 1;
        }
    }

    /// Of those in no lane of `shut` the first of the tenant with the least, and since when anybody of them waits.
    pub(super) fn first(&self, shut: &[u64]) -> Option<(Spot, u64)> {
        let open = |one: &Waiting<T>| !shut.contains(&one.ask.lane);
        let mut best: Option<(Rank, &Arc<str>, usize)> = None;
        let mut oldest = u64::MAX;
        for (name, tenant) in &self.active {
            let Some(at) = tenant.waiting.iter().position(open) else { continue };
            let since = tenant.waiting[at].since;
            oldest = oldest.min(since);
            // Of equals who has less under way, then who waits longest: the order of a map is nobody's merit.
            let place = (tenant.counter(), tenant.running, tenant.waiting[at].id);
            if best.is_none_or(|(best, ..)| place < best) {
                best = Some((place, name, at));
            }
        }
        best.map(|(_, name, at)| (Spot { tenant: Arc::clone(name), at }, oldest))
    }

    pub(super) fn see(&self, spot: &Spot) -> (&Ask, &T) {
        let one = &self.active[&spot.tenant].waiting[spot.at];
        (&one.ask, &one.who)
    }

    /// Serves one who waited. Gives how to reach it, what it asked for, and what [`Class::serve`] gives.
    pub(super) fn dispatch(&mut self, spot: &Spot) -> (T, Ask, (u64, u64)) {
        let one = self.take(spot);
        let charged = self.active.get_mut(&spot.tenant).map_or((0, 0), |tenant| tenant.charge(&one.ask));
        self.rest(&spot.tenant);
        (one.who, one.ask, charged)
    }

    /// Takes one out who is never served.
    pub(super) fn remove(&mut self, spot: &Spot) -> T {
        let one = self.take(spot);
        self.rest(&spot.tenant);
        one.who
    }

    #[expect(
        clippy::expect_used,
        reason = "a spot is made from what stands there, and used before anything changes"
    )]
    fn take(&mut self, spot: &Spot) -> Waiting<T> {
        self.waiting -= 1;
        let tenant = self.active.get_mut(&spot.tenant).expect("somebody of the tenant waits");
        tenant.waiting.remove(spot.at).expect("a spot that was found")
    }

    pub(super) fn leave(&mut self, tenant: &Arc<str>, id: u64) -> bool {
        let Some(own) = self.active.get_mut(tenant) else { return false };
        let Some(at) = own.waiting.iter().position(|one| one.id == id) else { return false };
        own.waiting.remove(at);
        self.waiting -= 1;
        self.rest(tenant);
        true
    }

    /// The newest of the tenant with most, if it has more than so many.
    pub(super) fn drop_newest_of_largest(&mut self, more_than: usize) -> Option<T> {
        let (name, _) = self
            .active
            .iter()
            .filter(|(_, tenant)| tenant.waiting.len() > more_than)
            .max_by_key(|(_, tenant)| (tenant.waiting.len(), tenant.counter()))?;
        let name = Arc::clone(name);
        let newest = self.active.get_mut(&name)?.waiting.pop_back()?;
        self.waiting -= 1;
        self.rest(&name);
        Some(newest.who)
    }

    /// A tenant of whom nobody waits any more is idle.
    fn rest(&mut self, name: &Arc<str>) {
        if self.active.get(name).is_some_and(|tenant| tenant.waiting.is_empty())
            && let Some(tenant) = self.active.remove(name)
        {
            self.level = self.level.max(tenant.settled);
            self.idle.insert(Arc::clone(name), tenant);
        }
    }

    /// One under way uses more than was thought.
    pub(super) fn more(&mut self, name: &Arc<str>, more: u64) {
        if let Some(tenant) = self.tenant(name) {
            tenant.pending = tenant.pending.saturating_add(more);
        }
    }

    fn tenant(&mut self, name: &Arc<str>) -> Option<&mut Tenant<T>> {
        match self.active.get_mut(name) {
            Some(tenant) => Some(tenant),
            None => self.idle.get_mut(name),
        }
    }

    /// One that was charged so much has ended, and has used so much, with an answer of so many tokens, if there was one.
    pub(super) fn ended(&mut self, name: &Arc<str>, (charged, used): (u64, u64), output: Option<u64>) {
        let nobody_waits = self.active.is_empty();
        if let Some(tenant) = self.tenant(name) {
            tenant.pending = tenant.pending.saturating_sub(charged);
            tenant.settled = tenant.settled.saturating_add(used);
            tenant.running = tenant.running.saturating_sub(1);
            if let Some(output) = output {
                // The last five count, as in the paper.
                tenant.usual = (tenant.usual * 4 + output) / 5;
            }
            let settled = tenant.settled;
            if nobody_waits {
                self.level = self.level.max(settled);
            }
        }
    }

    /// Forgets those who would be lifted above what is known of them.
    fn sweep(&mut self, floor: u64) {
        if self.idle.len() < self.sweep_at {
            return;
        }
        self.idle.retain(|_, tenant| tenant.running > 0 || tenant.settled > floor);
        self.sweep_at = (self.idle.len() * 2).max(FIRST_SWEEP);
    }
}

impl<T> Tenant<T> {
    fn lift(&mut self, floor: u64) {
        self.settled = self.settled.max(floor);
    }

    fn counter(&self) -> u64 {
        self.settled.saturating_add(self.pending)
    }

    /// Charges a request as it is served, with an answer as its answers usually are.
    fn charge(&mut self, ask: &Ask) -> (u64, u64) {
        let output = self.usual.min(ask.output);
        let cost = Class::<T>::cost(ask.input, output, ask.weight);
        self.running += 1;
        self.pending = self.pending.saturating_add(cost);
        (output, cost)
    }
}
