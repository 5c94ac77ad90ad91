//! What is learnt of a request on its way, and the promise that it ends in exactly one record.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use penstock_admission::{Now, Permit, Rate, Truth};
use penstock_domain::{
    Blame, Code, Delta, Dialect, Error, FinishReason, Relayed, Request, RequestId, Stage, Tags, Task, Usage,
};
use penstock_identity::{Caller, KeySource};
use penstock_observe::{Considered, Gaps, Outcome, Record, Recorder, Timings};
use penstock_routing::{Candidate, Plan, Prices};
use penstock_tokenizer::estimate_json;

use crate::capture::{Captures, Capturing};
use crate::tally::Tally;
use crate::{Bill, Head};
use tries::{Open, Paid, Tries};

mod tries;
mod turn;

pub(crate) use tries::Turn;

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
    tries: Tries,
    /// Which of the calls under way answers.
    won: Turn,
    considered: Box<[Considered]>,
    /// Kept while the prompt may have to be counted.
    request: Option<Arc<Request>>,
    prompt: Option<u64>,
    pub(crate) rate: Option<Rate>,
    /// What is held for the request, until it ends.
    permit: Option<Permit>,
    /// From how many generated tokens on more has to be held.
    watch: u64,
    /// Why the answer may not go on.
    overdrawn: Option<Error>,
    pub(crate) dropped: Vec<String>,
    /// The bound of the answer that holds instead of what was asked for.
    pub(crate) clamped: Option<u32>,
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
            tries: Tries::default(),
            won: Turn::Main,
            considered: Box::default(),
            request: None,
            prompt: None,
            rate: None,
            permit: None,
            watch: u64::MAX,
            overdrawn: None,
            dropped: Vec::new(),
            clamped: None,
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

    /// What the asker showed that was revoked while the answer is on its way.
    pub(crate) fn unleashed(&self) -> Option<KeySource> {
        self.caller.as_ref().filter(|caller| caller.leash.is_cut()).map(|caller| caller.source)
    }

    /// Keeps what is said, where the caller's team wants it.
    pub(crate) fn capture(&mut self, captures: &Captures, request: &Request) {
        let team = self.caller.as_ref().and_then(|caller| caller.team.as_deref());
        self.capturing = captures.retention(team).map(|retention| Capturing::begin(request, retention));
    }

    /// The request may run.
    pub(crate) fn admitted(&mut self, permit: Permit) {
        self.watch = permit.watch();
        self.permit = Some(permit);
    }

    /// Whether the other gateways have to be asked.
    pub(crate) fn is_provisional(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_provisional)
    }

    /// Asks the other gateways whether the request may run; the time for it belongs to the stage that admits.
    pub(crate) async fn confirm(&mut self) -> Result<(), Error> {
        self.enter(Stage::Admit);
        let Some(permit) = &mut self.permit else { return Ok(()) };
        let (rate, verdict) = permit.confirm().await;
        if let Some(rate) = rate {
            self.rate = Some(rate).filter(|rate| *rate != Rate::default());
        }
        if let Err(error) = verdict {
            self.permit = None;
            return Err(error);
        }
        self.enter(Stage::Call);
        Ok(())
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
    pub(crate) fn attempt(
        &mut self,
        turn: Turn,
        (candidate, why): (&Candidate, &'static str),
        request: &Arc<Request>,
    ) {
        self.provider = Some(Arc::clone(&candidate.target.provider));
        self.upstream_model = Some(Arc::clone(&candidate.target.model));
        if self.prompt.is_none() {
            self.request = Some(Arc::clone(request));
        }
        if let Some(permit) = &self.permit {
            permit.calling(&candidate.target.provider);
        }
        // The first call begins with its stage.
        let begun = self.stage.filter(|_| self.tries.is_empty()).map(|(_, since)| since);
        self.tries.begin(turn, Open::begin(candidate, why, begun.unwrap_or_else(Instant::now)));
    }

    /// Ends a call that is under way: it failed with this code.
    pub(crate) fn tried(&mut self, turn: Turn, code: &'static str) {
        self.tried_at(turn, code, Instant::now());
    }

    fn tried_at(&mut self, turn: Turn, code: &'static str, now: Instant) {
        let (at, task) = (self.at, self.task);
        // Nothing of what failed before its first content was seen.
        let (known, request) = (self.prompt, &self.request);
        let prompt = || prompt(known, request.as_deref());
        let paid =
            |prices: Option<&Prices>| Paid::by(task, (code, false), &Tally::default(), prompt, (prices, at));
        self.tries.close(turn, code, now, paid);
    }

    /// Ends what is under way: one has its first content, and the other is left.
    fn won_at(&mut self, turn: Turn, now: Instant) {
        if let Some(target) = self.tries.target(turn) {
            self.provider = Some(Arc::clone(&target.provider));
            self.upstream_model = Some(Arc::clone(&target.model));
            if let Some(permit) = &self.permit {
                permit.asks(&target.provider);
            }
        }
        for one in [Turn::Main, Turn::Beside] {
            self.tried_at(one, if one == turn { "ok" } else { "cancelled" }, now);
        }
    }

    /// This call has its first content.
    pub(crate) fn won(&mut self, turn: Turn) {
        self.won = turn;
    }

    /// Keeps what was thought of the candidates, where there was a choice.
    pub(crate) fn consider(&mut self, plan: &Plan) {
        if !plan.has_choice() {
            return;
        }
        let kept = plan.considered().into_iter().map(|one| Considered {
            provider: one.provider,
            credential: one.credential,
            model: one.model,
            verdict: one.verdict.into(),
        });
        self.considered = kept.collect();
    }

    /// The first content is in hand. Gets ready for the answer: a long prompt is not kept in memory while its answer streams, and the cost of an answer
    /// that is sent as a whole is known before its headers leave.
    pub(crate) fn answering(&mut self) -> Option<Bill> {
        let now = Instant::now();
        self.won_at(self.won, now);
        self.enter_at(Stage::Reply, now);
        if self.stream {
            let prompt = self.prompt();
            self.prompt = Some(prompt);
            if let Some(permit) = &self.permit {
                permit.used(Some(prompt), 0);
            }
            self.request = None;
        } else {
            self.bill = Some(Bill::default());
        }
        self.bill.clone()
    }

    /// Learns what a delta tells in passing.
    pub(crate) fn see(&mut self, delta: &Delta) {
        self.keep(delta);
        self.learn(delta);
    }

    /// Keeps what leaves, where the caller's team wants it.
    pub(crate) fn keep(&mut self, delta: &Delta) {
        if let Some(capturing) = &mut self.capturing {
            capturing.see(delta);
        }
    }

    /// Learns what a delta of a provider tells, whether it leaves or not.
    pub(crate) fn learn(&mut self, delta: &Delta) {
        if delta.is_content() {
            self.piece();
        }
        self.tally.see(delta);
        let generated = self.tally.generated();
        if let Some(permit) = &self.permit {
            permit.used(None, generated);
        }
        if generated >= self.watch {
            self.top_up(generated);
        }
        self.tries.generated(generated);
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

    /// The answer has used most of what is held for it.
    fn top_up(&mut self, generated: u64) {
        let Some(permit) = &mut self.permit else { return };
        match permit.top_up(generated, Now::read()) {
            Ok(watch) => self.watch = watch,
            Err(error) => {
                self.watch = u64::MAX;
                self.overdrawn = Some(error);
            }
        }
    }

    /// Why the answer has to end here, if it has to.
    pub(crate) fn overdrawn(&mut self) -> Option<Error> {
        self.overdrawn.take()
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
            clamped: self.clamped,
            estimated: self.counted,
            timings: self.timings,
        }
    }

    fn attempts(&self) -> u32 {
        u32::try_from(self.tries.len()).unwrap_or(u32::MAX)
    }

    /// The answer broke in the middle, and another call is to continue it. Gives what the broken one used.
    pub(crate) fn broke(&mut self, code: &'static str) -> Usage {
        let generated = self.tally.generated();
        let used = self.settle(code, false, Some(code)).unwrap_or_default();
        self.tally = Tally::default();
        // Whoever continues reads the prompt and what was said.
        self.prompt = Some(self.prompt().saturating_add(generated));
        used
    }

    /// The call that continues a broken answer has its first content.
    pub(crate) fn resumed(&mut self) {
        self.won_at(Turn::Main, Instant::now());
    }

    /// Books what the call behind the answer used. `broke`: the code with which it ended early.
    fn settle(&mut self, code: &str, complete: bool, broke: Option<&'static str>) -> Option<Usage> {
        let (at, task, tally) = (self.at, self.task, &self.tally);
        let (known, request) = (self.prompt, &self.request);
        let prompt = || prompt(known, request.as_deref());
        let paid = |prices: Option<&Prices>| Paid::by(task, (code, complete), tally, prompt, (prices, at));
        self.tries.settle(broke, paid)
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
        prompt(self.prompt, self.request.as_deref())
    }

    /// Tokens of the prompt, an estimate; counted once.
    pub(crate) fn weigh(&mut self, request: &Request) -> u64 {
        *self.prompt.get_or_insert_with(|| estimate_json(request.body.bytes()))
    }

    /// Sends the record, and gives the tokens of all calls together. Later calls do nothing.
    pub(crate) fn end(&mut self, outcome: Outcome) -> u64 {
        if std::mem::replace(&mut self.ended, true) {
            return 0;
        }
        let now = Instant::now();
        self.leave(now);
        for turn in [Turn::Main, Turn::Beside] {
            self.tried_at(turn, outcome.code(), now);
        }
        // An answer that its asker left was none of the provider's faults.
        let broke = match &outcome {
            Outcome::Failed(error) if error.blame() == Blame::Vendor => Some(error.code().name()),
            _ => None,
        };
        self.settle("ok", matches!(outcome, Outcome::Complete), broke);
        let (usage, estimated, cost) = self.tries.sum();
        if let Some(bill) = &self.bill {
            bill.settle(cost);
        }
        if let Some(mut permit) = self.permit.take() {
            permit.called(self.tries.paid());
            let whole = matches!(outcome, Outcome::Complete) && self.finish != Some(FinishReason::Length);
            let wall = self.at + (now - self.start);
            permit.settle(
                Truth { usage, estimated, cost, whole },
                wall,
                Now { at: now, wall: SystemTime::now() },
            );
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
            tries: self.tries.take(),
            considered: std::mem::take(&mut self.considered),
            usage,
            estimated,
            cost,
            finish: self.finish,
            duration: now - self.start,
            first_token: self.first_token,
            gaps: self.gaps.take(),
            timings: self.timings,
            outcome,
            content: self.capturing.take().map(|capturing| Box::new(capturing.end())),
        });
        usage.map_or(0, |usage| usage.total())
    }
}

/// Tokens of a prompt: known, or estimated from its body.
fn prompt(known: Option<u64>, request: Option<&Request>) -> u64 {
    known.unwrap_or_else(|| request.map_or(0, |request| estimate_json(request.body.bytes())))
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
