//! An engine with so many places before which requests wait, in simulated time: the same arrivals always give the same figures.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use penstock_admission::fair::{Ask, Bounds, Charge, Fair, Fit, Next, OUTPUT_WEIGHT, Ticket};
use penstock_domain::Priority;

/// Nanoseconds that a token of a prompt and of an answer take: 5,000 and 50 per second in each place.
const PROMPT: u64 = 200_000;
const ANSWER: u64 = 20_000_000;
/// An engine tells of its tokens in steps of so many.
const STEP: u64 = 32;

/// One request that will come.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) at: u64,
    pub(crate) tenant: Arc<str>,
    pub(crate) class: Priority,
    pub(crate) weight: u32,
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// It leaves if it has waited so long.
    pub(crate) patience: Option<u64>,
}

/// How the line is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Fair,
    FirstCome,
}

/// What became of a tenant's requests.
#[derive(Debug, Default, Clone)]
pub(crate) struct Told {
    /// Nanoseconds that each served one waited.
    pub(crate) waits: Vec<u64>,
    pub(crate) left: usize,
    pub(crate) refused: usize,
    /// Weighted tokens that it was served.
    pub(crate) tokens: u64,
}

impl Told {
    /// The wait that so many of 1,000 exceed, in seconds.
    pub(crate) fn quantile(&self, per_mille: usize) -> f64 {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        let at = (waits.len() * per_mille / 1_000).min(waits.len().saturating_sub(1));
        waits.get(at).map_or(0.0, |wait| *wait as f64 / 1e9)
    }
}

/// A whole run.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) told: BTreeMap<Arc<str>, Told>,
    /// The most by which the service of two tenants differed over any time in which both waited, in weighted tokens per weight.
    pub(crate) gap: u64,
    /// Nanoseconds in which a place was free although somebody waited.
    pub(crate) wasted: u64,
    pub(crate) ended: u64,
    /// Names in the order in which they were served.
    pub(crate) order: Vec<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ends(usize),
    Tells(usize, u64),
    Arrives(usize),
    Gives(usize),
}

struct Engine<'a> {
    arrivals: &'a [Arrival],
    order: Order,
    places: usize,
    inside: usize,
    fair: Fair<usize>,
    first_come: VecDeque<usize>,
    tickets: BTreeMap<usize, Ticket>,
    charges: BTreeMap<usize, Charge>,
    told: BTreeMap<usize, u64>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    watch: Option<(Arc<str>, Arc<str>)>,
    apart: Option<(i128, i128)>,
    run: Run,
}

/// Runs arrivals through an engine with so many places. `watch`: two tenants whose service is compared while both wait.
pub(crate) fn simulate(
    arrivals: &[Arrival],
    (places, max_waiting): (usize, usize),
    order: Order,
    watch: Option<(&str, &str)>,
) -> Run {
    let bounds = Bounds { max_waiting, max_wait: Duration::from_secs(30) };
    let mut engine = Engine {
        arrivals,
        order,
        places,
        inside: 0,
        fair: Fair::new(bounds),
        first_come: VecDeque::new(),
        tickets: BTreeMap::new(),
        charges: BTreeMap::new(),
        told: BTreeMap::new(),
        events: arrivals.iter().enumerate().map(|(n, one)| Reverse((one.at, Event::Arrives(n)))).collect(),
        watch: watch.map(|(a, b)| (a.into(), b.into())),
        apart: None,
        run: Run::default(),
    };
    let mut last = 0;
    while let Some(Reverse((now, event))) = engine.events.pop() {
        if engine.inside < places && engine.waiting() > 0 {
            engine.run.wasted += now - last;
        }
        last = now;
        engine.happens(event, now);
        engine.serve(now);
        engine.compare();
    }
    engine.run.ended = last;
    engine.run
}

impl Engine<'_> {
    fn waiting(&self) -> usize {
        self.fair.waiting() + self.first_come.len()
    }

    fn ask(&self, n: usize) -> Ask {
        let one = &self.arrivals[n];
        Ask {
            tenant: Arc::clone(&one.tenant),
            weight: one.weight,
            class: one.class,
            lane: 0,
            input: one.input,
            output: 4_096,
        }
    }

    fn of(&mut self, n: usize) -> &mut Told {
        self.run.told.entry(Arc::clone(&self.arrivals[n].tenant)).or_default()
    }

    fn happens(&mut self, event: Event, now: u64) {
        match event {
            Event::Arrives(n) => {
                if self.order == Order::FirstCome {
                    self.first_come.push_back(n);
                } else {
                    match self.fair.arrive(self.ask(n), n, now) {
                        Ok((ticket, made_room)) => {
                            self.tickets.insert(n, ticket);
                            if let Some(other) = made_room {
                                self.of(other).refused += 1;
                            }
                        }
                        Err(_) => return self.of(n).refused += 1,
                    }
                }
                if let Some(patience) = self.arrivals[n].patience {
                    self.events.push(Reverse((now + patience, Event::Gives(n))));
                }
            }
            Event::Gives(n) => {
                let before = self.first_come.len();
                self.first_come.retain(|other| *other != n);
                let gone = self.tickets.get(&n).is_some_and(|ticket| self.fair.leave(ticket));
                if gone || self.first_come.len() < before {
                    self.of(n).left += 1;
                }
            }
            Event::Tells(n, tokens) => {
                if let Some(charge) = self.charges.get_mut(&n) {
                    self.fair.progress(charge, tokens);
                }
                self.count(n, tokens);
            }
            Event::Ends(n) => {
                let (input, output) = (self.arrivals[n].input, self.arrivals[n].output);
                self.count(n, output);
                if let Some(charge) = self.charges.remove(&n) {
                    self.fair.end(charge, Some((input, output)), now);
                }
                self.inside -= 1;
            }
        }
    }

    /// So many tokens of an answer are there.
    fn count(&mut self, n: usize, tokens: u64) {
        let before = self.told.insert(n, tokens).unwrap_or(0);
        self.of(n).tokens += (tokens - before) * OUTPUT_WEIGHT;
    }

    fn serve(&mut self, now: u64) {
        while self.inside < self.places {
            let n = match self.order {
                Order::FirstCome => self.first_come.pop_front(),
                Order::Fair => match self.fair.next(now, |_, _| Fit::Now) {
                    Next::Go(n, charge) => {
                        self.charges.insert(n, charge);
                        Some(n)
                    }
                    Next::Never(_) | Next::Wait(_) => None,
                },
            };
            let Some(n) = n else { return };
            self.inside += 1;
            let Arrival { at, input, output, ref tenant, .. } = self.arrivals[n];
            self.run.order.push(Arc::clone(tenant));
            let told = self.of(n);
            told.waits.push(now - at);
            told.tokens += input;
            let begins = now + input * PROMPT;
            for tokens in (STEP..output).step_by(STEP as usize) {
                self.events.push(Reverse((begins + tokens * ANSWER, Event::Tells(n, tokens))));
            }
            self.events.push(Reverse((begins + output * ANSWER, Event::Ends(n))));
        }
    }

    fn compare(&mut self) {
        let Some((one, other)) = self.watch.clone() else { return };
        let waits = |name: &Arc<str>| self.tickets.keys().any(|n| self.arrivals[*n].tenant == *name);
        let served = |name: &Arc<str>| {
            let weight = self.arrivals.iter().find(|one| one.tenant == *name).map_or(1, |one| one.weight);
            let tokens = self.run.told.get(name).map_or(0, |told| told.tokens);
            i128::from(tokens) / i128::from(weight)
        };
        let backlogged = |name: &Arc<str>| {
            let all = self.arrivals.iter().filter(|one| one.tenant == *name).count();
            let gone = self.run.told.get(name).map_or(0, |told| told.waits.len() + told.left + told.refused);
            waits(name) && gone < all
        };
        if !(backlogged(&one) && backlogged(&other)) {
            self.apart = None;
            return;
        }
        let difference = served(&one) - served(&other);
        let (least, most) = self.apart.unwrap_or((difference, difference));
        let (least, most) = (least.min(difference), most.max(difference));
        self.apart = Some((least, most));
        self.run.gap = self.run.gap.max(u64::try_from(most - least).unwrap_or(u64::MAX));
    }
}
