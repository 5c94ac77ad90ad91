//! Who is served next where there is less room than there are requests.
//!
//! What it is: the waiting line before one bottleneck. Tenants of a class are served by virtual token counters (VTC: Sheng et
//! al., "Fairness in Serving Large Language Models", OSDI 2024): each has a counter of the tokens that it was served, divided by
//! its weight, and the one with the least goes first. A dispatch is charged at once with what it will probably use, and
//! corrected as its tokens really come. Who comes back after a pause is lifted to the level of those who wait, so that nobody
//! saves up turns. Among the requests of one tenant the first comes first.
//!
//! What it promises: no class starves, because a less urgent one that has waited for a while gets every eighth turn; between two
//! tenants that always wait the service differs by a bound (theorem 4.4 of the paper); whoever may be served is served, as long
//! as there is room; length, and length for each tenant, are bounded; when the line is full, whoever takes up most of it makes room.
//!
//! What it refuses to know: clocks (times are nanoseconds since some start), tasks, what the bottleneck is.

mod class;

use std::sync::Arc;
use std::time::Duration;

use penstock_domain::Priority;

use class::{Class, Spot};

/// A token of an answer weighs so many times one of a prompt, as in the paper's evaluation.
pub const OUTPUT_WEIGHT: u64 = 2;

/// Classes, by their place in [`Priority::ALL`].
const CLASSES: usize = Priority::ALL.len();
/// A class that has waited too long gets one turn in so many.
const TURNS: u32 = 8;
/// After this part of the longest wait a class has waited too long.
const AGED: u64 = 4;

/// A request that wants to be served.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// The tenant's share, at least 1.
    pub weight: u32,
    /// How urgent it is.
    pub class: Priority,
    /// Of several ways through the bottleneck the one that it takes.
    pub lane: u64,
    /// Tokens of the prompt.
    pub input: u64,
    /// At most so many tokens has the answer.
    pub output: u64,
}

/// How long the line may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// So many may wait; of one tenant half as many.
    pub max_waiting: usize,
    /// So long may one wait.
    pub max_wait: Duration,
}

/// Whether a request that waits can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Now.
    Now,
    /// Not now, but somebody in another lane may.
    Lane,
    /// Nobody can; perhaps after this time.
    Later(Option<Duration>),
    /// Never.
    Never,
}

/// A place in the line.
#[derive(Debug, Clone)]
pub struct Ticket {
    id: u64,
    class: usize,
    tenant: Arc<str>,
}

/// What a dispatch was charged, for its corrections.
#[derive(Debug)]
pub struct Charge {
    class: usize,
    tenant: Arc<str>,
    weight: u32,
    output: u64,
    cost: u64,
    begun: u64,
}

impl Charge {
    /// Tokens of the answer that are charged so far.
    pub fn output(&self) -> u64 {
        self.output
    }

    /// When it was dispatched.
    pub fn begun(&self) -> u64 {
        self.begun
    }
}

/// Why nobody may wait any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The line is full.
    Line,
    /// The tenant has its part of the line.
    Tenant,
}

/// What [`Fair::next`] found.
#[derive(Debug)]
pub enum Next<T> {
    /// This one is served.
    Go(T, Charge),
    /// This one can never be.
    Never(T),
    /// Nobody can be served now; perhaps after this time.
    Wait(Option<Duration>),
}

/// The line before one bottleneck. `T` is how to reach one who waits.
#[derive(Debug)]
pub struct Fair<T> {
    classes: [Class<T>; CLASSES],
    bounds: Bounds,
    next: u64,
    /// Turns since one who had waited too long was served.
    passed: u32,
    /// Which class that was.
    last_aged: usize,
    /// Nanoseconds from dispatch to end, lately.
    service: Option<u64>,
}

impl<T> Fair<T> {
    /// An empty line.
    pub fn new(bounds: Bounds) -> Self {
        let classes = std::array::from_fn(|_| Class::default());
        Self { classes, bounds, next: 0, passed: 0, last_aged: 0, service: None }
    }

    /// Other bounds, for those who come from now on.
    pub fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.classes.iter().map(Class::waiting).sum()
    }

    /// How many of a class wait.
    pub fn waiting_in(&self, class: Priority) -> usize {
        self.classes[place(class)].waiting()
    }

    /// How many wait in a lane.
    pub fn waiting_for(&self, lane: u64) -> usize {
        self.classes.iter().map(|class| class.waiting_for(lane)).sum()
    }

    /// How many tenants are remembered.
    pub fn remembered(&self) -> usize {
        self.classes.iter().map(Class::remembered).sum()
    }

    /// How long a dispatch has lately taken from begin to end, where any has ended.
    pub fn service(&self) -> Option<Duration> {
        self.service.map(Duration::from_nanos)
    }

    /// How many are served before one that comes now, about: everybody who is more urgent, what was there before of its own tenant,
    /// and of every other tenant as much as goes by the weights.
    pub fn ahead(&self, ask: &Ask) -> usize {
        let class = place(ask.class);
        let before: usize = self.classes[..class].iter().map(Class::waiting).sum();
        before + self.classes[class].ahead(&ask.tenant, ask.weight)
    }

    /// Tokens of prompts and answers of all who wait, as they were asked for.
    pub fn tokens(&self) -> (u64, u64) {
        self.classes.iter().map(Class::tokens).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }

    /// Serves one without waiting.
    pub fn serve(&mut self, ask: &Ask, now: u64) -> Charge {
        let class = place(ask.class);
        let (output, cost) = self.classes[class].serve(ask);
        Charge { class, tenant: Arc::clone(&ask.tenant), weight: ask.weight, output, cost, begun: now }
    }

    /// One more waits. When the line is full, the newest of whoever takes up most of it leaves for somebody who is more urgent or
    /// takes up less; how to reach the one who left comes back.
    ///
    /// # Errors
    /// There is no room.
    pub fn arrive(&mut self, ask: Ask, who: T, now: u64) -> Result<(Ticket, Option<T>), Full> {
        let class = place(ask.class);
        let own = self.classes[class].waiting_of(&ask.tenant);
        let all: usize = self.classes.iter().map(|class| class.waiting_of(&ask.tenant)).sum();
        if self.bounds.max_waiting == 0 {
            return Err(Full::Line);
        }
        if all >= self.bounds.max_waiting.div_ceil(2) {
            return Err(Full::Tenant);
        }
        let mut left = None;
        if self.waiting() >= self.bounds.max_waiting {
            left = Some(self.make_room(class, own).ok_or(Full::Line)?);
        }
        self.next += 1;
        let ticket = Ticket { id: self.next, class, tenant: Arc::clone(&ask.tenant) };
        self.classes[class].arrive(ask, who, (self.next, now));
        Ok((ticket, left))
    }

    /// The newest of the largest tenant of the least urgent class, if that is less urgent than `class` or the tenant has at
    /// least two more than `own`.
    fn make_room(&mut self, class: usize, own: usize) -> Option<T> {
        let least = (class..CLASSES).rev().find(|class| self.classes[*class].waiting() > 0)?;
        let more = if least > class { 0 } else { own + 1 };
        self.classes[least].drop_newest_of_largest(more)
    }

    /// One who waited leaves. False when it is no longer there: it was served, or had to make room.
    pub fn leave(&mut self, ticket: &Ticket) -> bool {
        self.classes[ticket.class].leave(&ticket.tenant, ticket.id)
    }

    /// Who is served next, if `fits` says that there is room.
    pub fn next(&mut self, now: u64, mut fits: impl FnMut(&Ask, &T) -> Fit) -> Next<T> {
        let mut shut: Vec<u64> = Vec::new();
        loop {
            let Some((class, spot, aged)) = self.choose(now, &shut) else { return Next::Wait(None) };
            let (ask, who) = self.classes[class].see(&spot);
            match fits(ask, who) {
                Fit::Now => {
                    self.passed = match aged {
                        Aged::Passed => self.passed.saturating_add(1),
                        Aged::Nobody | Aged::Served => 0,
                    };
                    if aged == Aged::Served {
                        self.last_aged = class;
                    }
                    let (who, ask, (output, cost)) = self.classes[class].dispatch(&spot);
                    let (weight, tenant) = (ask.weight, ask.tenant);
                    return Next::Go(who, Charge { class, tenant, weight, output, cost, begun: now });
                }
                Fit::Lane => shut.push(ask.lane),
                Fit::Later(wait) => return Next::Wait(wait),
                Fit::Never => return Next::Never(self.classes[class].remove(&spot)),
            }
        }
    }

    /// The class whose turn it is, and of it the tenant with the least.
    fn choose(&self, now: u64, shut: &[u64]) -> Option<(usize, Spot, Aged)> {
        let found: [_; CLASSES] = std::array::from_fn(|class| self.classes[class].first(shut));
        let usual = found.iter().position(Option::is_some)?;
        let long = u64::try_from(self.bounds.max_wait.as_nanos()).unwrap_or(u64::MAX) / AGED;
        let old = |class: &usize| {
            found[*class].as_ref().is_some_and(|(_, oldest)| now.saturating_sub(*oldest) > long)
        };
        let aged = |class: usize| old(&class);
        let mut late = (usual + 1..CLASSES).filter(old);
        let first = late.next();
        let class = match (first, late.next()) {
            (None, _) => usual,
            (Some(_), _) if self.passed + 1 < TURNS => usual,
            // In turn, if there are two.
            (Some(one), Some(other)) if self.last_aged == one => other,
            (Some(one), _) => one,
        };
        let aged = if class != usual {
            Aged::Served
        } else if (usual + 1..CLASSES).any(aged) {
            Aged::Passed
        } else {
            Aged::Nobody
        };
        let (spot, _) = found.into_iter().nth(class)??;
        Some((class, spot, aged))
    }

    /// A dispatch has generated so many tokens: what goes beyond its charge is charged.
    pub fn progress(&mut self, charge: &mut Charge, output: u64) {
        let more = output.saturating_sub(charge.output);
        if more > 0 {
            let cost = Class::<T>::cost(0, more, charge.weight);
            self.classes[charge.class].more(&charge.tenant, cost);
            charge.output = output;
            charge.cost = charge.cost.saturating_add(cost);
        }
    }

    /// A dispatch has ended. `used`: tokens of prompt and answer, where it was answered.
    pub fn end(&mut self, charge: Charge, used: Option<(u64, u64)>, now: u64) {
        let Charge { class, tenant, weight, cost, begun, .. } = charge;
        let (input, output) = used.unwrap_or((0, 0));
        let really = Class::<T>::cost(input, output, weight);
        self.classes[class].ended(&tenant, (cost, really), used.map(|(_, output)| output));
        if used.is_some() {
            let took = now.saturating_sub(begun);
            // The last ten or so.
            self.service = Some(self.service.map_or(took, |mean| mean - mean / 8 + took / 8));
        }
    }

    /// The counter of a tenant, in weighted tokens, for tests and simulations.
    pub fn counter(&self, class: Priority, tenant: &str) -> Option<u64> {
        self.classes[place(class)].counter(tenant)
    }
}

/// What became of those who had waited too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aged {
    Nobody,
    Passed,
    Served,
}

/// The place of a class, the most urgent first.
const fn place(class: Priority) -> usize {
    match class {
        Priority::Interactive => 0,
        Priority::Standard => 1,
        Priority::Batch => 2,
    }
}

#[cfg(test)]
mod tests;
