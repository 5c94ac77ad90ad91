//! One account: what is in use, what is held, what was spent.

use std::time::{Duration, SystemTime};

use penstock_config::{AlertAt, Budget, Meter, Per};

use crate::bucket::{Bucket, Fit};
use crate::predict::Sketch;
use crate::rules::{Allowance, Gauge, Need, Rate};
use crate::shared::Seen;
use penstock_domain::calendar;

/// A reservation that is a sixteenth of what is left, or less, need not be exact: it cannot decide anything.
const COARSE: u64 = 16;

/// A budget may be overdrawn by this part of itself by answers that turn out longer than was predicted.
const DEBT: u64 = 10;

/// Why a request does not fit into an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// This many may be in flight, and are.
    Slots(u32),
    /// A rate; without a wait it never fits.
    Rate { meter: Meter, bucket: Bucket, left: u64, ask: u64, wait: Option<Duration> },
    /// A budget; without an end it is never renewed.
    Money { budget: Budget, left: u64, ask: u64, renewed: Option<SystemTime> },
}

/// Money in the current periods, in micro-dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    /// The day, and what was spent in it.
    pub(crate) day: (u64, u64),
    /// The month, and what was spent in it.
    pub(crate) month: (u64, u64),
    /// Ever.
    pub(crate) lifetime: u64,
    /// What may be spent before somebody is to be told; 0: nobody has looked yet.
    alarm: u64,
    /// The parts of the budget that were told, in percent.
    pub(crate) told: AlertAt,
}

impl Default for Spent {
    fn default() -> Self {
        Self { day: (0, 0), month: (0, 0), lifetime: 0, alarm: 0, told: AlertAt::NONE }
    }
}

impl Spent {
    /// Nothing, at this moment.
    pub(crate) fn at(wall: SystemTime) -> Self {
        let mut spent = Self::default();
        spent.turn(wall);
        spent
    }

    /// A period that has begun does not end again because the clock was put back.
    pub(crate) fn turn(&mut self, wall: SystemTime) {
        let day = calendar::day(wall);
        // Every request asks; on a day that has begun the month is the one that has begun.
        if day <= self.day.0 {
            return;
        }
        self.day = (day, 0);
        self.forget_told();
        let month = calendar::month(wall);
        if month > self.month.0 {
            self.month = (month, 0);
        }
    }

    pub(crate) fn add(&mut self, micros: u64) {
        for sum in [&mut self.day.1, &mut self.month.1, &mut self.lifetime] {
            *sum = sum.saturating_add(micros);
        }
    }

    pub(crate) fn within(&self, per: Per) -> u64 {
        match per {
            Per::Day => self.day.1,
            Per::Month => self.month.1,
            Per::Lifetime => self.lifetime,
        }
    }

    /// Has somebody look again what is to be told.
    pub(crate) fn forget_told(&mut self) {
        (self.alarm, self.told) = (0, AlertAt::NONE);
    }

    /// Knows as told what another view of the same account knows.
    pub(crate) fn know(&mut self, other: &Spent) {
        (self.alarm, self.told) = (other.alarm, other.told);
    }

    /// Nothing is to be told before so much is spent.
    pub(crate) fn hush(&mut self, until: u64) {
        self.alarm = until;
    }

    /// When a budget begins anew.
    pub(crate) fn renewed(&self, per: Per) -> Option<SystemTime> {
        match per {
            Per::Day => Some(calendar::day_begins(self.day.0 + 1)),
            Per::Month => Some(calendar::month_begins(self.month.0 + 1)),
            Per::Lifetime => None,
        }
    }
}

/// The state of one account.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) allowance: Allowance,
    pub(crate) in_flight: u32,
    buckets: Vec<Bucket>,
    pub(crate) held: Need,
    pub(crate) spent: Spent,
    /// Of models alone: how long their answers are.
    pub(crate) sketch: Option<Box<Sketch>>,
    /// What all gateways together had left of the budget when they were last asked.
    pub(crate) left_for_all: Option<u64>,
    /// Of the money that is held, what the other gateways are being asked for.
    pub(crate) asking: u64,
    /// How all gateways together saw it, when somebody last looked.
    pub(crate) for_all: Option<Box<Seen>>,
    /// While the other gateways cannot be asked.
    alone: Option<Alone>,
}

/// What an account may do while the other gateways cannot be asked.
#[derive(Debug, Clone, Copy)]
struct Alone {
    /// How many gateways share what there is.
    gateways: u32,
    /// May be spent and held, ever.
    most: u64,
}

impl State {
    /// Takes over what the newest snapshot allows; what was used so far stays used.
    pub(crate) fn adopt(&mut self, allowance: &Allowance, now: u64) {
        if self.allowance == *allowance {
            return;
        }
        let before = std::mem::take(&mut self.buckets);
        let same = |bucket: &&Bucket, meter, span| bucket.meter == meter && bucket.span == span;
        self.buckets = allowance
            .limits
            .rates()
            .map(|(meter, span, limit)| match before.iter().find(|bucket| same(bucket, meter, span)) {
                Some(bucket) => bucket.limited(limit, now),
                None => Bucket::new((meter, span, limit), now),
            })
            .collect();
        self.allowance = *allowance;
        self.spent.forget_told();
        if let Some(Alone { gateways, .. }) = self.alone.take() {
            self.stand_alone(Some(gateways), now);
        }
    }

    /// Goes by this gateway's part of everything, or by the whole again.
    pub(crate) fn stand_alone(&mut self, gateways: Option<u32>, now: u64) {
        if self.alone.map(|alone| alone.gateways) == gateways {
            return;
        }
        let part = u64::from(gateways.unwrap_or(1).max(1));
        self.alone = gateways.map(|gateways| {
            let most = match (self.alone, self.allowance.budget) {
                (Some(alone), _) => alone.most,
                (None, None) => u64::MAX,
                (None, Some(budget)) => {
                    let left = self.left(budget).saturating_add(self.asking);
                    let left = self.left_for_all.map_or(left, |all| all.min(left));
                    // What is asked for is not there yet, and is looked at again.
                    let held = self.held.micros.saturating_sub(self.asking);
                    self.spent.lifetime.saturating_add(held).saturating_add(left / part)
                }
            };
            Alone { gateways, most }
        });
        for (bucket, (_, _, limit)) in self.buckets.iter_mut().zip(self.allowance.limits.rates()) {
            *bucket = bucket.limited((limit / part).max(1), now);
        }
    }

    /// An account as all gateways see it, at the time 0.
    pub(crate) fn seen(allowance: Allowance, seen: &Seen, wall: SystemTime) -> Self {
        let rates = allowance.limits.rates().zip(&seen.rates);
        let mut spent = Spent::default();
        spent.turn(wall);
        (spent.day.1, spent.month.1, spent.lifetime) =
            (seen.spent.day, seen.spent.month, seen.spent.lifetime);
        Self {
            allowance,
            in_flight: seen.in_flight,
            buckets: rates.map(|(rate, level)| Bucket::filled(rate, *level)).collect(),
            held: seen.held,
            spent,
            ..Self::default()
        }
    }

    /// Whether a part of the budget of which nobody was told here may be spent by all gateways together.
    pub(crate) fn is_news_of_all(&self, seen: &Seen) -> bool {
        let spent = |budget: Budget| match budget.per {
            Per::Day => seen.spent.day,
            Per::Month => seen.spent.month,
            Per::Lifetime => seen.spent.lifetime,
        };
        self.allowance.budget.is_some_and(|budget| spent(budget) >= self.spent.alarm)
    }

    /// Whether tokens or money matter here.
    pub(crate) fn weighs(&self) -> bool {
        self.allowance.budget.is_some() || self.buckets.iter().any(|bucket| bucket.meter != Meter::Requests)
    }

    /// What a request with this need lacks, if anything: the worst of it.
    pub(crate) fn lack(&self, need: &Need, now: u64) -> Option<Lack> {
        let rates = self.buckets.iter().filter_map(|bucket| {
            let (held, ask) = (share_of_tokens(bucket.meter, &self.held), share(bucket.meter, need));
            let wait = match bucket.fit(held, ask, now) {
                Fit::Now => return None,
                Fit::After(wait) => Some(wait),
                Fit::Never => None,
            };
            Some(Lack::Rate { meter: bucket.meter, bucket: *bucket, left: bucket.room(held, now), ask, wait })
        });
        let part = self.alone.map_or(1, |alone| alone.gateways.max(1));
        let slots = self.allowance.limits.concurrent_requests.map(|limit| (limit / part).max(1));
        let slots = slots.filter(|limit| self.in_flight >= *limit).map(Lack::Slots);
        rates.chain(self.poor(need.micros)).chain(slots).max_by_key(Lack::rank)
    }

    fn poor(&self, ask: u64) -> Option<Lack> {
        let budget = self.allowance.budget?;
        let left = self.left(budget);
        // What costs nothing may run on an empty budget, too.
        (ask > left).then(|| Lack::Money { budget, left, ask, renewed: self.spent.renewed(budget.per) })
    }

    /// What is left of a budget, reservations taken off.
    pub(crate) fn left(&self, budget: Budget) -> u64 {
        let used = self.spent.within(budget.per).saturating_add(self.held.micros);
        let left = budget.usd.0.micros().saturating_sub(used);
        match self.alone {
            Some(Alone { most, .. }) => {
                left.min(most.saturating_sub(self.spent.lifetime.saturating_add(self.held.micros)))
            }
            None => left,
        }
    }

    /// Whether a need is so small beside what is left that it may be far too large without harm.
    pub(crate) fn is_roomy(&self, need: &Need, now: u64) -> bool {
        let small = |ask: u64, room: u64| ask.saturating_mul(COARSE) <= room;
        self.allowance.budget.is_none_or(|budget| small(need.micros, self.left(budget)))
            && self.buckets.iter().all(|bucket| {
                bucket.meter == Meter::Requests
                    || small(share(bucket.meter, need), bucket.room(share(bucket.meter, &self.held), now))
            })
    }

    /// The most that can ever be held for an answer to a prompt of this length; `parts` of such answers at once.
    pub(crate) fn longest(&self, input: u64, parts: u64) -> u64 {
        let longest = |bucket: &Bucket| match bucket.meter {
            Meter::Output => Some(bucket.limit),
            Meter::Tokens => Some(bucket.limit.saturating_sub(input)),
            Meter::Requests | Meter::Input => None,
        };
        self.buckets.iter().filter_map(longest).min().map_or(u64::MAX, |most| (most / parts).max(1))
    }

    /// Whether so much more may be held on debt.
    pub(crate) fn lends(&self, more: &Need, now: u64) -> bool {
        let rich = self.allowance.budget.is_none_or(|budget| {
            let most = budget.usd.0.micros();
            let used = self.spent.within(budget.per).saturating_add(self.held.micros);
            used.saturating_add(more.micros) <= most.saturating_add(most / DEBT)
        });
        rich && self.buckets.iter().all(|bucket| {
            bucket.lends(share_of_tokens(bucket.meter, &self.held), share_of_tokens(bucket.meter, more), now)
        })
    }

    /// A request begins.
    pub(crate) fn take(&mut self, need: Need, now: u64) {
        self.in_flight += 1;
        self.held = self.held.plus(need);
        for bucket in self.buckets.iter_mut().filter(|bucket| bucket.meter == Meter::Requests) {
            bucket.pour(1, now);
        }
    }

    /// A request has not begun after all.
    pub(crate) fn untake(&mut self, need: Need) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.held = self.held.minus(need);
        for bucket in self.buckets.iter_mut().filter(|bucket| bucket.meter == Meter::Requests) {
            bucket.unpour();
        }
    }

    /// A request ends: what it held is no longer held, what it used is used.
    pub(crate) fn settle(&mut self, held: Need, used: Need, now: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.held = self.held.minus(held);
        for bucket in self.buckets.iter_mut().filter(|bucket| bucket.meter != Meter::Requests) {
            bucket.pour(share(bucket.meter, &used), now);
        }
        self.spent.add(used.micros);
    }

    /// Whether a part of the budget may be spent of which nobody was told.
    pub(crate) fn is_news(&self) -> bool {
        let per = self.allowance.budget.map_or(Per::Lifetime, |budget| budget.per);
        self.spent.within(per) >= self.spent.alarm
    }

    /// Of each kind the rate that binds most, beside those of other accounts.
    pub(crate) fn gauges(&self, rate: &mut Rate, now: u64) {
        for bucket in &self.buckets {
            let place = match bucket.meter {
                Meter::Requests => &mut rate.requests,
                Meter::Tokens => &mut rate.tokens,
                Meter::Input => &mut rate.input,
                Meter::Output => &mut rate.output,
            };
            let gauge = bucket.gauge(share_of_tokens(bucket.meter, &self.held), now);
            if place.is_none_or(|other: Gauge| gauge.remaining < other.remaining) {
                *place = Some(gauge);
            }
        }
    }

    /// Whether an account that begins now would be treated alike.
    pub(crate) fn is_idle(&self, now: u64) -> bool {
        self.in_flight == 0
            && self.spent.lifetime == 0
            && self.sketch.is_none()
            && self.buckets.iter().all(|bucket| bucket.is_empty(now))
    }
}

/// What a need weighs in a rate.
fn share(meter: Meter, need: &Need) -> u64 {
    match meter {
        Meter::Requests => 1,
        meter => share_of_tokens(meter, need),
    }
}

/// The same for what is held: a request is used up when it begins, so none is held.
fn share_of_tokens(meter: Meter, need: &Need) -> u64 {
    match meter {
        Meter::Requests => 0,
        Meter::Input => need.input,
        Meter::Output => need.output,
        Meter::Tokens => need.input.saturating_add(need.output),
    }
}

impl Lack {
    /// What keeps a request out for the longest time.
    pub(crate) fn rank(&self) -> (u8, Duration) {
        match self {
            Lack::Slots(_) => (0, Duration::ZERO),
            Lack::Rate { wait: Some(wait), .. } => (1, *wait),
            Lack::Rate { wait: None, .. } => (3, Duration::ZERO),
            Lack::Money { .. } => (2, Duration::ZERO),
        }
    }
}
