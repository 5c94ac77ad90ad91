//! What is learnt of a request on its way, and the promise that it ends in exactly one record.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use penstock_admission::Rate;
use penstock_domain::{
    Code, Cost, Delta, Dialect, Error, FinishReason, Money, Relayed, Request, RequestId, Stage, Tags, Task,
};
use penstock_identity::Caller;
use penstock_observe::{Attempt, Gaps, Outcome, Record, Recorder, Timings};
use penstock_routing::{Candidate, Prices};
use penstock_tokenizer::estimate_json;

use crate::capture::{Captures, Capturing};
use crate::tally::{Tally, Used};
use crate::{Bill, Head};

/// The longest name of a model version that is kept.
const MAX_VERSION: usize = 256;

/// One request's notes. Dropped before [`Journey::end`], it ends as cancelled: the asker went away.
pub(crate) struct Journey {
    recorder: Arc<dyn Recorder>,
    id: RequestId,
    at: SystemTime,
    start: Instant,
    task: Option<Task>,
    stream: bool,
    dialect: Option<Dialect>,
    asked: Option<Arc<str>>,
    tags: Tags,
    caller: Option<Arc<Caller>>,
    pub(crate) model: Option<Arc<str>>,
    provider: Option<Arc<str>>,
    upstream_model: Option<Arc<str>>,
    version: Option<Arc<str>>,
    tries: Vec<Attempt>,
    /// Since when a call is under way.
    trying: Option<Instant>,
    prices: Option<Arc<Prices>>,
    /// Kept while the prompt may have to be counted.
    request: Option<Arc<Request>>,
    prompt: Option<u64>,
    pub(crate) rate: Option<Rate>,
    pub(crate) dropped: Vec<String>,
    /// The answer is a count of tokens that was estimated.
    pub(crate) counted: bool,
    timings: Timings,
    /// The stage that the request is in, and since when.
    stage: Option<(Stage, Instant)>,
    tally: Tally,
    finish: Option<FinishReason>,
    /// The status of a relayed answer.
    relayed: Option<u16>,
    first_token: Option<Duration>,
    last_piece: Option<Instant>,
    gaps: Option<Box<Gaps>>,
    capturing: Option<Box<Capturing>>,
    bill: Option<Bill>,
    ended: bool,
    /// Set while a provider's stream is polled: found set in a drop, the poll panicked.
    pub(crate) polling: bool,
}

impl Journey {
    pub(crate) fn begin(recorder: Arc<dyn Recorder>, request: &Request) -> Self {
        let mut journey = Self::with(recorder, request.id.clone(), Some(request.task), request.arrived);
        journey.stream = request.stream;
        journey.dialect = Some(request.body.dialect());
        journey.asked = Some(Arc::clone(&request.model));
        journey.tags = request.tags.clone();
        journey
    }

    /// A request that arrived then; until now it was decoded.
    pub(crate) fn with(
        recorder: Arc<dyn Recorder>,
        id: RequestId,
        task: Option<Task>,
        arrived: Option<Instant>,
    ) -> Self {
        recorder.begin();
        let now = Instant::now();
        let start = arrived.unwrap_or(now);
        let mut timings = Timings::default();
        timings.add(Stage::Decode, now.saturating_duration_since(start));
        let wall = SystemTime::now();
        Self {
            recorder,
            id,
            at: wall.checked_sub(now.saturating_duration_since(start)).unwrap_or(wall),
            start,
            task,
            stream: false,
            dialect: None,
            asked: None,
            tags: Tags::default(),
            caller: None,
            model: None,
            provider: None,
            upstream_model: None,
            version: None,
            tries: Vec::new(),
            trying: None,
            prices: None,
            request: None,
            prompt: None,
            rate: None,
            dropped: Vec::new(),
            counted: false,
            timings,
            stage: None,
            tally: Tally::default(),
            finish: None,
            relayed: None,
            first_token: None,
            last_piece: None,
            gaps: None,
            capturing: None,
            bill: None,
            ended: false,
            polling: false,
        }
    }

    pub(crate) fn known(&mut self, caller: &Arc<Caller>) {
        self.caller = Some(Arc::clone(caller));
    }

    /// Keeps what is said, where the caller's team wants it.
    pub(crate) fn capture(&mut self, captures: &Captures, request: &Request) {
        let team = self.caller.as_ref().and_then(|caller| caller.team.as_deref());
        self.capturing = captures.retention(team).map(|retention| Capturing::begin(request, retention));
    }

    /// Goes into a stage: the time from now on is booked on it, whichever way it is left.
    pub(crate) fn enter(&mut self, stage: Stage) {
        self.enter_at(stage, Instant::now());
    }

    fn enter_at(&mut self, stage: Stage, now: Instant) {
        self.leave(now);
        self.stage = Some((stage, now));
    }

    fn leave(&mut self, now: Instant) {
        if let Some((stage, since)) = self.stage.take() {
            self.timings.add(stage, now - since);
        }
    }

    /// Begins a call of a provider.
    pub(crate) fn attempt(&mut self, candidate: &Candidate, request: &Arc<Request>) {
        self.provider = Some(Arc::clone(&candidate.target.provider));
        self.upstream_model = Some(Arc::clone(&candidate.target.model));
        self.prices.clone_from(&candidate.prices);
        self.request = Some(Arc::clone(request));
        // The first call begins with its stage.
        let begun = self.stage.filter(|_| self.tries.is_empty()).map(|(_, since)| since);
        self.trying = Some(begun.unwrap_or_else(Instant::now));
        self.tries.reserve_exact(1);
    }

    /// Ends the call that is under way: its first content is here, or it failed with this code.
    pub(crate) fn tried(&mut self, code: &'static str) {
        self.tried_at(code, Instant::now());
    }

    fn tried_at(&mut self, code: &'static str, now: Instant) {
        if let (Some(since), Some(provider), Some(model)) =
            (self.trying.take(), &self.provider, &self.upstream_model)
        {
            let (provider, model) = (Arc::clone(provider), Arc::clone(model));
            self.tries.push(Attempt { provider, model, code, took: now - since });
        }
    }

    /// The first content is in hand. Gets ready for the answer: a long prompt is not kept in memory while its answer streams, and the cost of an answer
    /// that is sent as a whole is known before its headers leave.
    pub(crate) fn answering(&mut self) -> Option<Bill> {
        let now = Instant::now();
        self.tried_at("ok", now);
        self.enter_at(Stage::Reply, now);
        if self.stream {
            self.prompt = Some(self.prompt());
            self.request = None;
        } else {
            self.bill = Some(Bill::default());
        }
        self.bill.clone()
    }

    /// Learns what a delta tells in passing.
    pub(crate) fn see(&mut self, delta: &Delta) {
        if delta.is_content() {
            self.piece();
        }
        self.tally.see(delta);
        if let Some(capturing) = &mut self.capturing {
            capturing.see(delta);
        }
        let notes = match delta {
            Delta::Raw(raw) => &raw.notes,
            Delta::Whole(whole) => &whole.notes,
            Delta::Started(started) => return self.answered_by(|| started.model.as_str().into()),
            Delta::Relayed(Relayed::Head(head)) => return self.relayed = Some(head.status),
            Delta::Finished { reason, .. } => return self.finish = Some(*reason),
            _ => return,
        };
        self.finish = notes.finish.or(self.finish);
        if let Some(version) = &notes.version {
            self.answered_by(|| Arc::clone(version));
        }
    }

    fn answered_by(&mut self, version: impl FnOnce() -> Arc<str>) {
        if self.version.is_none() {
            self.version = Some(version()).filter(|name| (1..=MAX_VERSION).contains(&name.len()));
        }
    }

    /// A piece of content goes out.
    fn piece(&mut self) {
        if !self.stream && self.last_piece.is_some() {
            return;
        }
        let now = Instant::now();
        match self.last_piece.replace(now) {
            None => self.first_token = Some(now - self.start),
            Some(last) => self.gaps.get_or_insert_default().add(now - last),
        }
    }

    /// Ends a request that gets no answer: the stage that refused it is left.
    pub(crate) fn refused(&mut self) -> Head {
        self.leave(Instant::now());
        self.head()
    }

    pub(crate) fn head(&self) -> Head {
        Head {
            model: self.model.clone(),
            provider: self.provider.clone(),
            upstream_model: self.upstream_model.clone(),
            attempts: self.attempts(),
            rate: self.rate,
            dropped: self.dropped.clone(),
            estimated: self.counted,
            timings: self.timings,
        }
    }

    fn attempts(&self) -> u32 {
        self.tries.len() as u32 + u32::from(self.trying.is_some())
    }

    /// How a request ends whose answer came to its end: a relayed refusal is delivered whole and is a refusal all the same.
    pub(crate) fn delivered(&self) -> Outcome {
        match self.relayed {
            Some(status) if status >= 400 => {
                let say = format!("the provider answered the relayed request with status {status}");
                Outcome::Failed(Error::new(Code::UpstreamRejected, say))
            }
            _ => Outcome::Complete,
        }
    }

    fn prompt(&self) -> u64 {
        let counted = || self.request.as_ref().map_or(0, |request| estimate_json(request.body.bytes()));
        self.prompt.unwrap_or_else(counted)
    }

    /// What was used; `None` when no tokens can have been.
    fn used(&self, outcome: &Outcome) -> Option<Used> {
        let task = self.task.filter(|task| !matches!(task, Task::CountTokens | Task::Relay))?;
        let complete = matches!(outcome, Outcome::Complete);
        let begun = self.tries.last().is_some_and(|last| may_be_billed(last.code));
        (complete || begun).then(|| self.tally.settle(task, complete, || self.prompt()))
    }

    fn cost(&self, used: Option<Used>) -> Cost {
        match used {
            _ if self.tries.is_empty() => Cost::None,
            // Nobody knows what stands in it, let alone what it costs.
            None if self.task == Some(Task::Relay) => Cost::Unknown,
            None => Cost::Known(Money::ZERO),
            Some(used) => {
                let tariff = self.prices.as_ref().and_then(|prices| prices.at(self.at));
                tariff.map_or(Cost::Unknown, |tariff| tariff.cost(&used.usage))
            }
        }
    }

    /// Sends the record. Later calls do nothing.
    pub(crate) fn end(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let now = Instant::now();
        self.leave(now);
        self.tried_at(outcome.code(), now);
        let used = self.used(&outcome);
        let cost = self.cost(used);
        if let Some(bill) = &self.bill {
            bill.settle(cost);
        }
        self.recorder.end(Record {
            id: self.id.clone(),
            at: self.at,
            task: self.task,
            stream: self.stream,
            dialect: self.dialect,
            asked: self.asked.take(),
            tags: std::mem::take(&mut self.tags),
            key: self.caller.as_ref().map(|caller| caller.key_id.shared()),
            team: self.caller.as_ref().and_then(|caller| caller.team.clone()),
            model: self.model.take(),
            provider: self.provider.take(),
            upstream_model: self.upstream_model.take(),
            version: self.version.take(),
            attempts: self.attempts(),
            tries: std::mem::take(&mut self.tries).into(),
            usage: used.map(|used| used.usage),
            estimated: used.is_some_and(|used| used.estimated),
            cost,
            finish: self.finish,
            duration: now - self.start,
            first_token: self.first_token,
            gaps: self.gaps.take(),
            timings: self.timings,
            outcome,
            content: self.capturing.take().map(|capturing| Box::new(capturing.end())),
        });
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

impl Drop for Journey {
    fn drop(&mut self) {
        // A panic below us is our fault, not the asker's leaving.
        let outcome = if self.polling || std::thread::panicking() {
            Outcome::Failed(Error::new(
                Code::InternalError,
                "the gateway failed while it worked on this request",
            ))
        } else {
            Outcome::Cancelled
        };
        self.end(outcome);
    }
}
