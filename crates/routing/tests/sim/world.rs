//! A world in which time and chance are handed in: requests arrive, providers answer or fail, and routing decides. The same seed
//! gives the same world, whatever the machine.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_domain::{Code, Error};
use penstock_routing::{Ask, Catalogue, Deployment, Fleet, Flight, Model, Plan, Policy, TargetReport};

/// How a provider behaves at a time, in seconds.
pub(crate) type Mood = Box<dyn Fn(f64) -> Temper>;

/// A provider's behaviour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Temper {
    /// The part of attempts that fail.
    pub(crate) fails: f64,
    /// How.
    pub(crate) with: Code,
    /// Seconds until a failure shows.
    pub(crate) shows: f64,
    /// Seconds until the first token, on average.
    pub(crate) begins: f64,
}

impl Default for Temper {
    fn default() -> Self {
        Self { fails: 0.005, with: Code::UpstreamError, shows: 0.2, begins: 0.5 }
    }
}

/// Always the same part of attempts fails.
pub(crate) fn steady(fails: f64) -> Mood {
    Box::new(move |_| Temper { fails, ..Temper::default() })
}

/// What happened.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) calls: u64,
    pub(crate) hedges: u64,
    /// Calls to each provider.
    pub(crate) to: Vec<u64>,
    /// Seconds from arrival to the first token, where there was one.
    pub(crate) waits: Vec<f64>,
}

/// The chance of the world itself, apart from that of routing (xorshift64*, Vigna 2016).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

enum What {
    Arrive,
    Fails(Box<Under>, Code),
    Begins(Box<Under>),
    Ends(Flight),
}

/// A request whose attempt is under way.
struct Under {
    plan: Plan,
    flight: Flight,
    arrived: f64,
}

struct Event(f64, u64, What);

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) tally: Tally,
    /// Seconds since the beginning.
    pub(crate) time: f64,
    catalogue: Catalogue,
    asked: Arc<str>,
    base: Instant,
    moods: Vec<Mood>,
    per_second: f64,
    dice: Dice,
    events: BinaryHeap<Reverse<Event>>,
    serial: u64,
}

impl World {
    /// One model with a deployment at each of some providers, asked so many times a second.
    pub(crate) fn new(seed: u64, per_second: f64, moods: Vec<Mood>) -> Self {
        Self::with(seed, per_second, moods, Policy::default())
    }

    pub(crate) fn with(seed: u64, per_second: f64, moods: Vec<Mood>, policy: Policy) -> Self {
        let deployments = (0..moods.len()).map(|n| Deployment::new(n.to_string(), Some("m".into())));
        let model = Model { deployments: deployments.collect(), policy, ..Model::single("model", "0", None) };
        let tally = Tally { to: vec![0; moods.len()], ..Tally::default() };
        let mut world = Self {
            fleet: Fleet::seeded(seed),
            tally,
            time: 0.0,
            catalogue: Catalogue::new([model]),
            asked: "model".into(),
            base: Instant::now(),
            moods,
            per_second,
            dice: Dice::new(seed),
            events: BinaryHeap::new(),
            serial: 0,
        };
        world.at(0.0, What::Arrive);
        world
    }

    pub(crate) fn now(&self) -> Instant {
        self.base + Duration::from_secs_f64(self.time)
    }

    /// Lets so many more requests arrive, with all that happens meanwhile.
    pub(crate) fn requests(&mut self, more: u64) {
        let until = self.tally.requests + more;
        while self.tally.requests < until {
            self.step();
        }
    }

    /// Lets so many seconds pass.
    pub(crate) fn seconds(&mut self, more: f64) {
        let until = self.time + more;
        while self.events.peek().is_some_and(|Reverse(event)| event.0 < until) {
            self.step();
        }
        self.time = until;
    }

    /// What is known of a provider.
    pub(crate) fn report(&self, provider: usize) -> Option<TargetReport> {
        let name = provider.to_string();
        self.fleet.report(self.now()).into_iter().find(|report| *report.provider == *name)
    }

    fn at(&mut self, time: f64, what: What) {
        self.serial += 1;
        self.events.push(Reverse(Event(time, self.serial, what)));
    }

    fn step(&mut self) {
        let Some(Reverse(Event(time, _, what))) = self.events.pop() else { return };
        self.time = time;
        let now = self.now();
        match what {
            What::Arrive => self.arrive(),
            What::Fails(under, code) => {
                let Under { mut plan, flight, arrived } = *under;
                let error = Error::new(code, "simulated");
                flight.failed(&error, now);
                match self.attempt(&mut plan, Some(&error)) {
                    Some((flight, to, pause)) => self.launch(Under { plan, flight, arrived }, to, pause),
                    None => self.tally.failed += 1,
                }
            }
            What::Begins(mut under) => {
                under.flight.first_content(now);
                self.tally.answered += 1;
                self.tally.waits.push(time - under.arrived);
                let lasts = self.dice.unit() * 2.0;
                self.at(time + lasts, What::Ends(under.flight));
            }
            What::Ends(flight) => flight.complete(600, now),
        }
    }

    fn arrive(&mut self) {
        let pause = -(1.0 - self.dice.unit()).ln() / self.per_second;
        self.at(self.time + pause, What::Arrive);
        self.tally.requests += 1;
        let model = self.catalogue.find(&self.asked).expect("it is there");
        let ask = Ask {
            model,
            asked: &self.asked,
            input: 400,
            output: Some(200),
            bounds: None,
            residency: None,
            prefix: None,
            now: self.now(),
        };
        let mut plan = self.catalogue.plan(&self.fleet, ask).expect("there are providers");
        let arrived = self.time;
        match self.attempt(&mut plan, None) {
            Some((flight, to, pause)) => self.launch(Under { plan, flight, arrived }, to, pause),
            None => self.tally.failed += 1,
        }
    }

    fn attempt(&mut self, plan: &mut Plan, after: Option<&Error>) -> Option<(Flight, usize, f64)> {
        let pick = plan.next(after, self.now())?;
        let to: usize = pick.candidate.target.provider.parse().expect("providers are numbers");
        self.tally.calls += 1;
        self.tally.to[to] += 1;
        Some((pick.flight, to, pick.pause.as_secs_f64()))
    }

    fn launch(&mut self, mut under: Under, to: usize, pause: f64) {
        let (temper, takes) = self.fate(to);
        if self.dice.unit() < temper.fails {
            return self.at(self.time + pause + temper.shows, What::Fails(Box::new(under), temper.with));
        }
        // A hedge is decided when it is launched: its fate is known, so that the loser need not be played to its end.
        if let Some(after) = under.plan.hedge_after().map(|after| after.as_secs_f64())
            && after < takes
        {
            let time = self.time;
            self.time += after;
            if let Some(pick) = under.plan.hedge(self.now()) {
                let second: usize = pick.candidate.target.provider.parse().expect("providers are numbers");
                self.tally.hedges += 1;
                self.tally.calls += 1;
                let (_, second_takes) = self.fate(second);
                if after + second_takes < takes {
                    let Under { plan, arrived, .. } = under;
                    let winner = Under { plan, flight: pick.flight, arrived };
                    let begins = self.time + second_takes;
                    self.time = time;
                    return self.at(begins, What::Begins(Box::new(winner)));
                }
            }
            self.time = time;
        }
        self.at(self.time + pause + takes, What::Begins(Box::new(under)));
    }

    /// How a provider behaves now, and after how many seconds it would begin: two thirds of its average and an exponential rest.
    fn fate(&mut self, to: usize) -> (Temper, f64) {
        let temper = self.moods[to](self.time);
        let rest = -(1.0 - self.dice.unit()).ln() / 3.0;
        (temper, temper.begins * (2.0 / 3.0 + rest))
    }
}

/// Calls per request until the sick one of three providers is ejected, over so many worlds.
pub(crate) fn calls_before_ejection(worlds: u64) -> f64 {
    let (mut calls, mut requests) = (0, 0);
    for seed in 0..worlds {
        let mut world = World::new(seed, 50.0, vec![steady(0.30), steady(0.005), steady(0.005)]);
        while world.report(0).is_none_or(|report| report.ejections == 0) {
            world.requests(1);
        }
        calls += world.tally.calls;
        requests += world.tally.requests;
    }
    calls as f64 / requests as f64
}

/// A world in which the first of three providers is dead from the tenth second until so many seconds later.
pub(crate) fn outage(seed: u64, lasts: f64, temper: Temper) -> World {
    let mood = move |time: f64| match (10.0..10.0 + lasts).contains(&time) {
        true => Temper { fails: 1.0, ..temper },
        false => Temper::default(),
    };
    let mut world = World::new(seed, 50.0, vec![Box::new(mood), steady(0.005), steady(0.005)]);
    world.seconds(10.0 + lasts);
    assert!(world.report(0).is_some_and(|report| report.share < 1.0), "the outage is noticed");
    world
}

/// What happens in so many seconds after all of so many providers began to fail, at so many requests a second.
pub(crate) fn all_fail(providers: usize, temper: Temper, per_second: f64, seconds: f64) -> Tally {
    let mood = || -> Mood {
        Box::new(move |time| if time < 10.0 { Temper::default() } else { Temper { fails: 1.0, ..temper } })
    };
    let mut world = World::new(1, per_second, (0..providers).map(|_| mood()).collect());
    world.seconds(10.0);
    world.tally = Tally { to: vec![0; providers], ..Tally::default() };
    world.seconds(seconds);
    world.tally
}
