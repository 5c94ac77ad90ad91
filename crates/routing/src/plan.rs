//! The candidates of one request, and which is next.

mod again;
mod busy;
mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_domain::{Error, Remedy};

pub use self::words::{Ask, Candidate, Considered, Pick, Unroutable, Why};
use self::busy::Busy;
use crate::budget::{Budgets, Extra};
use crate::choice::{Choice, choose};
use crate::flight::Terms;
use crate::random::Random;
use crate::target::{Gate, Size, View};
use crate::{Flight, Policy};

/// The most calls that one request may cost, whatever budgets allow.
const ATTEMPTS: u8 = 8;
/// The part of the requests that try a target that is out, while it is due.
const TRIES: f64 = 0.1;
/// Longer prompts are not asked twice at once.
const HEDGED: u64 = 16_000;

/// The candidates for one request.
#[derive(Debug)]
pub struct Plan {
    pub(crate) entries: Vec<Entry>,
    pub(crate) outside: Vec<Considered>,
    /// None for what may not be repeated.
    pub(crate) budgets: Option<Arc<Budgets>>,
    pub(crate) size: Size,
    pub(crate) prefix: Option<u64>,
    pub(crate) policy: Policy,
    pub(crate) random: Random,
    pub(crate) now: Option<Instant>,
    /// Who was asked last, and when.
    pub(crate) current: Option<usize>,
    pub(crate) begun: Option<Instant>,
    pub(crate) attempts: u8,
    /// What failed for want of space had a window of this many tokens.
    pub(crate) larger_than: Option<u32>,
    /// Whom the budget kept from being asked.
    pub(crate) denied: Option<usize>,
    pub(crate) hedged: bool,
    /// When the asker's time is over.
    pub(crate) deadline: Option<Instant>,
    /// How often a target was asked once more after a pause.
    pub(crate) repeats: u8,
    /// No further repeat would be right.
    pub(crate) given_up: bool,
    /// Who had been asked last before the last pick, and when.
    pub(crate) before: (Option<usize>, Option<Instant>),
    /// A further attempt is paid for that was not made.
    pub(crate) credit: bool,
}

/// One candidate with what a choice needs of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) candidate: Candidate,
    /// How many models are preferred to its own.
    pub(crate) rank: u16,
    pub(crate) weight: f64,
    /// How many times as dear as the cheapest.
    pub(crate) price: f64,
    pub(crate) window: Option<u32>,
    pub(crate) internal: bool,
    pub(crate) provisioned: Option<u64>,
    pub(crate) tries: u8,
    /// It would say the same again.
    pub(crate) barred: bool,
    /// The prompt does not fit.
    pub(crate) small: bool,
    /// It has no room.
    pub(crate) busy: Option<Busy>,
}

/// How a candidate stands among the others: less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    resort: Resort,
    /// The models in their order, and in each what is prepaid before the rest.
    rank: u16,
    /// Behind the same door somebody has just failed.
    same_door: bool,
}

/// What it takes for a candidate to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Resort {
    /// Nothing.
    Usual,
    /// It has had its share of traffic on its way back.
    Returning,
    Saturated,
    /// From here on, everybody else is out too.
    Ejected,
    Cooling,
    Retired,
}

/// A candidate as it stands now.
#[derive(Debug, Clone, Copy)]
struct Spot {
    index: usize,
    place: Place,
    view: View,
}

impl Plan {
    /// A plan of one candidate that is asked once.
    pub(crate) fn only(candidate: Candidate) -> Self {
        let entry = Entry {
            candidate,
            rank: 0,
            weight: 1.0,
            price: 1.0,
            window: None,
            internal: false,
            provisioned: None,
            tries: 0,
            barred: false,
            small: false,
            busy: None,
        };
        Self {
            entries: vec![entry],
            outside: Vec::new(),
            budgets: None,
            size: Size { input: 0, whole: 0 },
            prefix: None,
            policy: Policy::default(),
            random: Random::new(0),
            now: None,
            current: None,
            begun: None,
            attempts: 0,
            larger_than: None,
            denied: None,
            hedged: false,
            deadline: None,
            repeats: 0,
            given_up: false,
            before: (None, None),
            credit: false,
        }
    }

    /// Who is tried next: the first, or after a failure, which its flight has already been told, somebody who may do
    /// better. `None` when there is nobody, nothing helps, or the budget for retries or failovers is spent.
    pub fn next(&mut self, after: Option<&Error>, now: Instant) -> Option<Pick> {
        self.now = Some(now);
        if self.attempts >= ATTEMPTS {
            return None;
        }
        match after {
            None => self.first(now),
            Some(error) => self.again(error, now),
        }
    }

    /// How long until the first candidate may be asked again, when all of them cool because their vendors said so; `None` when
    /// another reason keeps anybody away. For the `retry-after` of a request that [`Plan::next`] has nobody for.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let mut least: Option<Duration> = None;
        for entry in self.entries.iter().filter(|entry| self.suits(entry)) {
            let Gate::Cooling { until, .. } = entry.candidate.target.gate(now) else { return None };
            let wait = until.saturating_duration_since(now);
            least = Some(least.map_or(wait, |least| least.min(wait)));
        }
        least
    }

    /// How long after the first attempt's begin a hedge may start, if this request may have one.
    pub fn hedge_after(&self) -> Option<Duration> {
        let now = self.now?;
        if !self.may_hedge(now) || !self.budgets.as_ref()?.has(Extra::Hedge, now) {
            return None;
        }
        self.entries.get(self.current?)?.candidate.target.late_after(self.size.input)
    }

    /// Somebody else to ask beside the attempt under way, if the budget for hedges allows it.
    pub fn hedge(&mut self, now: Instant) -> Option<Pick> {
        self.now = Some(now);
        if !self.may_hedge(now) {
            return None;
        }
        let mut spots = self.spots(true, now);
        spots.retain(|spot| spot.place.resort == Resort::Usual);
        let chosen = self.best(spots)?;
        if !self.pays(Extra::Hedge, now) {
            return None;
        }
        // If its answer is not waited for, this is all that will ever be known of how long it takes.
        if let (Some(slow), Some(begun)) = (self.current.and_then(|at| self.entries.get(at)), self.begun) {
            let waited = now.saturating_duration_since(begun);
            slow.candidate.target.state().latency.late(self.size.input, waited, now);
        }
        self.hedged = true;
        self.pick(chosen, Why::Hedge, Duration::ZERO, now)
    }

    /// Whether there was anything to choose: more than one candidate, or one that was left out.
    pub fn has_choice(&self) -> bool {
        self.entries.len() + self.outside.len() > 1
    }

    /// What was thought of each candidate so far.
    pub fn considered(&self) -> Vec<Considered> {
        let verdict = |(index, entry): (usize, &Entry)| match (entry.tries, self.suits(entry), self.now) {
            (0, true, _) if entry.busy.is_some() => entry.busy.map_or("full", |busy| busy.word),
            (1.., _, _) => "tried",
            (0, false, _) if entry.barred => "same_filter",
            (0, false, _) => "context_window",
            (0, true, _) if self.denied == Some(index) => "budget",
            (0, true, None) => "worse",
            (0, true, Some(now)) => entry.candidate.target.gate(now).word(),
        };
        let inside = self.entries.iter().enumerate().map(|(index, entry)| {
            let target = &entry.candidate.target;
            Considered {
                provider: Arc::clone(&target.provider),
                credential: target.credential,
                model: Arc::clone(&target.model),
                verdict: verdict((index, entry)),
            }
        });
        inside.chain(self.outside.iter().cloned()).collect()
    }

    fn first(&mut self, now: Instant) -> Option<Pick> {
        let spots = self.spots(false, now);
        let best = spots.iter().min_by_key(|spot| spot.place).copied()?;
        if best.place.resort == Resort::Usual && spots.len() > 1 {
            // Only a request that somebody else can answer tries who may fail it, and only who would be preferred.
            let due = spots.iter().find(|spot| {
                matches!(spot.view.gate, Gate::Ejected { due: true, .. } | Gate::Retired { due: true, .. })
                    && self.entries[spot.index].rank <= self.entries[best.index].rank
            });
            if let Some(due) = due.copied()
                && self.random.chance(TRIES)
                && self.entries[due.index].candidate.target.try_again(now)
            {
                return self.pick(due, Why::Probe, Duration::ZERO, now);
            }
        }
        let chosen = self.best(spots)?;
        let why = if chosen.place.resort >= Resort::Ejected { Why::Panic } else { Why::First };
        self.pick(chosen, why, Duration::ZERO, now)
    }

    fn again(&mut self, error: &Error, now: Instant) -> Option<Pick> {
        let current = self.current?;
        match error.remedy() {
            Remedy::None => return None,
            Remedy::Same | Remedy::Other | Remedy::Cool | Remedy::Retire => {}
            Remedy::Larger => self.larger_than = self.larger_than.max(Some(self.entries[current].window?)),
            Remedy::Filtered if self.policy.past_content_filter => self.bar(current),
            Remedy::Filtered => return None,
        }
        // Behind the same door the same fault waits; another credential has money and quota of its own.
        let elsewhere = matches!(error.remedy(), Remedy::Same | Remedy::Other);
        let spots = self.spots(elsewhere, now);
        let chosen = self.best(spots);
        if error.remedy() == Remedy::Same
            && let Some(again) = self.once_more(current, chosen, now)
            && self.pays(Extra::Retry, now)
        {
            return self.pick(again, Why::Retry, Duration::ZERO, now);
        }
        let Some(chosen) = chosen else {
            let (again, pause) = self.later(current, error, now)?;
            if !self.pays(Extra::Retry, now) {
                self.given_up = true;
                return None;
            }
            return self.pick(again, Why::Retry, pause, now);
        };
        let (extra, why) = match chosen.place.resort >= Resort::Ejected {
            true => (Extra::Retry, Why::Panic),
            false => (Extra::Failover, Why::Failover),
        };
        if !self.pays(extra, now) {
            self.denied = Some(chosen.index);
            return None;
        }
        self.pick(chosen, why, Duration::ZERO, now)
    }

    /// The same target again, once, when nobody else of its model is at hand.
    fn once_more(&self, current: usize, other: Option<Spot>, now: Instant) -> Option<Spot> {
        let entry = &self.entries[current];
        let equal = other.is_some_and(|other| {
            other.place.resort == Resort::Usual && self.entries[other.index].rank == entry.rank
        });
        let view = entry.candidate.target.view(self.size, entry.provisioned, now);
        (entry.tries < 2 && entry.busy.is_none() && !equal && matches!(view.gate, Gate::Open(_))).then_some(Spot {
            index: current,
            place: Place { resort: Resort::Usual, rank: 0, same_door: true },
            view,
        })
    }

    fn bar(&mut self, current: usize) {
        let target = Arc::clone(&self.entries[current].candidate.target);
        for entry in &mut self.entries {
            entry.barred |= same_door(&entry.candidate, &target);
        }
    }

    fn may_hedge(&self, now: Instant) -> bool {
        let gate = |entry: &Entry| entry.candidate.target.gate(now);
        self.policy.hedge
            && !self.hedged
            && self.attempts == 1
            && self.size.input <= HEDGED
            && self.entries.len() > 1
            // A second call beside each slow one finishes off whoever is already in need.
            && !self.entries.iter().any(|entry| matches!(gate(entry), Gate::Ejected { .. }))
            && self.entries.iter().any(|entry| self.free(entry) && matches!(gate(entry), Gate::Open(_)))
    }

    fn pays(&mut self, extra: Extra, now: Instant) -> bool {
        if std::mem::take(&mut self.credit) {
            return true;
        }
        self.budgets.as_ref().is_some_and(|budgets| budgets.take(extra, now))
    }

    /// Whether it could answer this request at all.
    fn suits(&self, entry: &Entry) -> bool {
        let large = |least| entry.window.is_some_and(|window| window > least);
        !entry.barred && !entry.small && self.larger_than.is_none_or(large)
    }

    fn free(&self, entry: &Entry) -> bool {
        entry.tries == 0 && entry.busy.is_none() && self.suits(entry)
    }

    /// Everybody who was not asked yet and can be, as they stand now.
    fn spots(&mut self, elsewhere: bool, now: Instant) -> Vec<Spot> {
        let mut spots = Vec::with_capacity(self.entries.len());
        let mut random = Random::new(self.random.next());
        for (index, entry) in self.entries.iter().enumerate().filter(|(_, entry)| self.free(entry)) {
            let view = entry.candidate.target.view(self.size, entry.provisioned, now);
            let resort = match view.gate {
                Gate::Open(share) if share >= 1.0 || random.chance(share) => Resort::Usual,
                Gate::Open(_) => Resort::Returning,
                Gate::Saturated => Resort::Saturated,
                Gate::Ejected { .. } => Resort::Ejected,
                // What a vendor said is kept to, even when there is nobody else.
                Gate::Cooling { stated: true, .. } => continue,
                Gate::Cooling { .. } => Resort::Cooling,
                Gate::Retired { .. } => Resort::Retired,
            };
            // When everybody is out, the order of the models matters less than who fails least.
            let rank = match (resort >= Resort::Ejected, entry.provisioned.is_some(), view.prepaid) {
                (true, _, _) => 0,
                (false, _, true) => 3 * entry.rank,
                (false, false, false) => 3 * entry.rank + 1,
                (false, true, false) => 3 * entry.rank + 2,
            };
            let tried = |target| {
                let mut tried = self.entries.iter().filter(|entry| entry.tries > 0);
                tried.any(|entry| same_door(&entry.candidate, target))
            };
            let same_door = elsewhere && tried(&entry.candidate.target);
            spots.push(Spot { index, place: Place { resort, rank, same_door }, view });
        }
        spots
    }

    /// The best place's candidates, and one of them.
    fn best(&mut self, spots: Vec<Spot>) -> Option<Spot> {
        let best = spots.iter().map(|spot| spot.place).min()?;
        let mut equals = spots.iter().filter(|spot| spot.place == best);
        if let (Some(only), None) = (equals.next(), equals.next()) {
            return Some(*only);
        }
        let equals = spots.iter().filter(|spot| spot.place == best);
        if best.resort >= Resort::Ejected {
            // The least bad; a little chance, so that one bad answer is not the last word.
            let random = &mut self.random;
            let bad = equals.map(|spot| (spot.view.error_rate + 0.1 * random.unit(), spot));
            return bad.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, spot)| *spot);
        }
        let known = equals.clone().filter_map(|spot| spot.view.expected).min_by(f64::total_cmp);
        let choices: Vec<Choice> = equals
            .map(|spot| {
                let entry = &self.entries[spot.index];
                Choice {
                    index: spot.index,
                    weight: entry.weight,
                    // Of whom nothing is known the best is hoped.
                    score: spot.view.expected.or(known).unwrap_or(1.0) * spot.view.load * entry.price,
                    digest: entry.candidate.target.digest,
                }
            })
            .collect();
        let index = choose(&choices, self.prefix, &mut self.random)?;
        spots.into_iter().find(|spot| spot.index == index)
    }

    fn pick(&mut self, spot: Spot, why: Why, pause: Duration, now: Instant) -> Option<Pick> {
        let begun = now + pause;
        let entry = self.entries.get_mut(spot.index)?;
        entry.tries += 1;
        self.attempts += 1;
        self.before = (self.current, self.begun);
        (self.current, self.begun) = (Some(spot.index), Some(begun));
        let terms = Terms {
            prepaid: spot.view.prepaid,
            internal: entry.internal,
            trial: why == Why::Probe,
            repeat: why == Why::Retry,
        };
        let flight = Flight::begin(Arc::clone(&entry.candidate.target), self.size, terms, begun);
        Some(Pick { candidate: entry.candidate.clone(), why, pause, flight })
    }
}

/// Whether both are the same model of the same provider, with whatever credentials.
fn same_door(candidate: &Candidate, target: &crate::Target) -> bool {
    candidate.target.provider == target.provider && candidate.target.model == target.model
}

#[cfg(test)]
mod tests;
