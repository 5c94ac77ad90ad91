//! The calls of one request: those under way, and what became of the others.
//!
//! What it promises: every call that was begun ends in exactly one [`Attempt`], also when the request is dropped; each
//! that may be billed carries its own tokens and its own cost.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use penstock_admission::ledger::Called;
use penstock_domain::{Code, Cost, Money, Task, Usage};
use penstock_observe::Attempt;
use penstock_routing::{Candidate, Prices, Target};

use crate::doors::Pass;
use crate::tally::{Tally, Used};

/// Which of the calls under way: there is one, and while it is slow there may be one beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Main,
    Beside,
}

/// A call under way.
pub(super) struct Open {
    target: Arc<Target>,
    prices: Option<Arc<Prices>>,
    why: &'static str,
    since: Instant,
    /// Where its provider has bounds.
    pass: Option<Pass>,
}

impl Open {
    pub(super) fn begin(candidate: &Candidate, why: &'static str, since: Instant) -> Self {
        Self {
            target: Arc::clone(&candidate.target),
            prices: candidate.prices.clone(),
            why,
            since,
            pass: None,
        }
    }
}

/// Prices and the moment at which they are looked at.
type Tariffs<'a> = (Option<&'a Prices>, SystemTime);

#[derive(Default)]
pub(super) struct Tries {
    done: Vec<Attempt>,
    main: Option<Open>,
    beside: Option<Box<Open>>,
    /// The call that answers: its place among those that are done, and its prices.
    answers: Option<(usize, Option<Arc<Prices>>)>,
    /// The pass of the call that answers.
    pass: Option<Pass>,
    /// What has to be paid, and to whom.
    paid: Vec<Called>,
}

impl Tries {
    pub(super) fn begin(&mut self, turn: Turn, open: Open) {
        match turn {
            Turn::Main => {
                self.done.reserve_exact(1);
                self.main = Some(open);
            }
            Turn::Beside => self.beside = Some(Box::new(open)),
        }
    }

    /// A call under way went in with this.
    pub(super) fn with(&mut self, turn: Turn, pass: Pass) {
        let open = match turn {
            Turn::Main => self.main.as_mut(),
            Turn::Beside => self.beside.as_deref_mut(),
        };
        if let Some(open) = open {
            open.pass = Some(pass);
        }
    }

    /// The answer has so many tokens so far.
    pub(super) fn generated(&mut self, tokens: u64) {
        if let Some(pass) = &mut self.pass {
            pass.generated(tokens);
        }
    }

    /// Whether no call was ever begun.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.done.len() + usize::from(self.main.is_some()) + usize::from(self.beside.is_some())
    }

    /// Ends a call: its first content is here, or it ended with this code, having used that.
    pub(super) fn close(
        &mut self,
        turn: Turn,
        code: &'static str,
        now: Instant,
        paid: impl FnOnce(Option<&Prices>) -> Paid,
    ) {
        let open = match turn {
            Turn::Main => self.main.take(),
            Turn::Beside => self.beside.take().map(|open| *open),
        };
        let Some(Open { target, prices, why, since, pass }) = open else { return };
        let answers = code == "ok";
        // What the one that answers uses is known at its end.
        let Paid { used, cost } = if answers { Paid::default() } else { paid(prices.as_deref()) };
        if answers {
            self.answers = Some((self.done.len(), prices));
            self.pass = pass;
        } else {
            self.ended(&target.provider, pass, used, cost);
        }
        self.done.push(Attempt {
            provider: Arc::clone(&target.provider),
            credential: target.credential,
            model: Arc::clone(&target.model),
            why,
            code,
            took: now.saturating_duration_since(since),
            usage: used.map(|used| used.usage),
            estimated: used.is_some_and(|used| used.estimated),
            cost,
        });
    }

    /// Ends the answer: what the call behind it used, and with which error it broke.
    pub(super) fn settle(
        &mut self,
        broke: Option<&'static str>,
        paid: impl FnOnce(Option<&Prices>) -> Paid,
    ) -> Option<Usage> {
        let (place, prices) = self.answers.take()?;
        let provider = Arc::clone(&self.done.get(place)?.provider);
        let Paid { used, cost } = paid(prices.as_deref());
        let pass = self.pass.take();
        self.ended(&provider, pass, used, cost);
        let one = self.done.get_mut(place)?;
        one.code = broke.unwrap_or(one.code);
        one.usage = used.map(|used| used.usage);
        one.estimated = used.is_some_and(|used| used.estimated);
        one.cost = cost;
        one.usage
    }

    /// A call has ended: its place is free, and what it cost is paid to its provider.
    fn ended(&mut self, provider: &Arc<str>, pass: Option<Pass>, used: Option<Used>, cost: Cost) {
        let stake = pass.and_then(|pass| pass.end(used.map(|used| used.usage), cost));
        let micros = cost.known().unwrap_or_default().micros();
        if micros > 0 {
            self.paid.push(Called { provider: Arc::clone(provider), micros, stake });
        }
    }

    /// What has to be paid, and to whom.
    pub(super) fn paid(&mut self) -> Vec<Called> {
        std::mem::take(&mut self.paid)
    }

    /// The target of the call that is under way, or of the last that was.
    pub(super) fn target(&self, turn: Turn) -> Option<&Arc<Target>> {
        match turn {
            Turn::Main => self.main.as_ref().map(|open| &open.target),
            Turn::Beside => self.beside.as_ref().map(|open| &open.target),
        }
    }

    /// All calls together: tokens, whether any were estimated, cost.
    pub(super) fn sum(&self) -> (Option<Usage>, bool, Cost) {
        if let [one] = &self.done[..] {
            return (one.usage, one.estimated, one.cost);
        }
        let mut sum = (None, false, Cost::None);
        for one in &self.done {
            let usage = match (sum.0, one.usage) {
                (Some(sum), Some(usage)) => Some(Usage::plus(&sum, &usage)),
                (sum, usage) => sum.or(usage),
            };
            sum = (usage, sum.1 || one.estimated, sum.2.plus(one.cost));
        }
        sum
    }

    pub(super) fn take(&mut self) -> Box<[Attempt]> {
        std::mem::take(&mut self.done).into()
    }
}

/// What a call used and cost.
#[derive(Default)]
pub(super) struct Paid {
    used: Option<Used>,
    cost: Cost,
}

impl Paid {
    /// What a call used that ended so. `complete`: its answer came to its end; `prompt` estimates the request.
    pub(super) fn by(
        task: Option<Task>,
        (code, complete): (&str, bool),
        tally: &Tally,
        prompt: impl FnOnce() -> u64,
        (prices, at): Tariffs<'_>,
    ) -> Self {
        let billed = complete || may_be_billed(code);
        let used = task
            .filter(|task| billed && !matches!(task, Task::CountTokens | Task::Relay))
            .map(|task| tally.settle(task, complete, prompt));
        let cost = match used {
            // Nobody knows what stands in it, let alone what it costs.
            None if task == Some(Task::Relay) => Cost::Unknown,
            None => Cost::Known(Money::ZERO),
            Some(used) => {
                let tariff = prices.and_then(|prices| prices.at(at));
                tariff.map_or(Cost::Unknown, |tariff| tariff.cost(&used.usage))
            }
        };
        Self { used, cost }
    }
}

/// Whether a vendor may bill a call that ended so: it answered, or it was left or fell silent while it worked. One that
/// refused, or was never reached, bills nothing.
fn may_be_billed(code: &str) -> bool {
    const WORKED: [Code; 6] = [
        Code::UpstreamTimeout,
        Code::UpstreamIdleTimeout,
        Code::UpstreamStreamCut,
        Code::UpstreamBadResponse,
        Code::DeadlineExceeded,
        Code::InternalError,
    ];
    matches!(code, "ok" | "cancelled") || WORKED.iter().any(|worked| worked.name() == code)
}
