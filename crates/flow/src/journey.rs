//! What is learnt of a request on its way, and the promise that it ends in exactly one record.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use penstock_admission::Rate;
use penstock_domain::{
    Code, Cost, Delta, Dialect, Error, FinishReason, Relayed, Request, RequestId, Stage, Tags, Task, Usage,
};
use penstock_identity::Caller;
use penstock_observe::{Outcome, Record, Recorder, Timings};

use crate::Head;

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
    pub(crate) provider: Option<Arc<str>>,
    pub(crate) upstream_model: Option<Arc<str>>,
    pub(crate) attempts: u32,
    pub(crate) rate: Option<Rate>,
    pub(crate) dropped: Vec<String>,
    timings: Timings,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
    /// The status of a relayed answer.
    relayed: Option<u16>,
    first_token: Option<Duration>,
    ended: bool,
    /// Set while a provider's stream is polled: found set in a drop, the poll panicked.
    pub(crate) polling: bool,
}

impl Journey {
    pub(crate) fn begin(recorder: Arc<dyn Recorder>, request: &Request) -> Self {
        let mut journey = Self::with(recorder, request.id.clone(), Some(request.task), request.stream);
        journey.dialect = Some(request.body.dialect());
        journey.asked = Some(Arc::clone(&request.model));
        journey.tags = request.tags.clone();
        journey
    }

    pub(crate) fn with(recorder: Arc<dyn Recorder>, id: RequestId, task: Option<Task>, stream: bool) -> Self {
        recorder.begin();
        Self {
            recorder,
            id,
            at: SystemTime::now(),
            start: Instant::now(),
            task,
            stream,
            dialect: None,
            asked: None,
            tags: Tags::default(),
            caller: None,
            model: None,
            provider: None,
            upstream_model: None,
            attempts: 0,
            rate: None,
            dropped: Vec::new(),
            timings: Timings::default(),
            usage: None,
            finish: None,
            relayed: None,
            first_token: None,
            ended: false,
            polling: false,
        }
    }

    pub(crate) fn known(&mut self, caller: &Arc<Caller>) {
        self.caller = Some(Arc::clone(caller));
    }

    /// Books the time since `since` on a stage and returns now.
    pub(crate) fn lap(&mut self, stage: Stage, since: Instant) -> Instant {
        let now = Instant::now();
        self.timings.add(stage, now - since);
        now
    }

    /// Learns what a delta tells in passing.
    pub(crate) fn see(&mut self, delta: &Delta) {
        if self.first_token.is_none() && delta.is_content() {
            self.first_token = Some(self.start.elapsed());
        }
        let notes = match delta {
            Delta::Raw(raw) => &raw.notes,
            Delta::Whole(whole) => &whole.notes,
            Delta::Relayed(Relayed::Head(head)) => return self.relayed = Some(head.status),
            Delta::Usage(usage) => return self.usage = Some(*usage),
            Delta::Finished { reason, .. } => return self.finish = Some(*reason),
            _ => return,
        };
        self.usage = notes.usage.or(self.usage);
        self.finish = notes.finish.or(self.finish);
    }

    pub(crate) fn head(&self) -> Head {
        Head {
            model: self.model.clone(),
            provider: self.provider.clone(),
            upstream_model: self.upstream_model.clone(),
            attempts: self.attempts,
            rate: self.rate,
            dropped: self.dropped.clone(),
            timings: self.timings,
        }
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

    /// Sends the record. Later calls do nothing.
    pub(crate) fn end(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.ended, true) {
            return;
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
            version: None,
            attempts: self.attempts,
            tries: Box::default(),
            usage: self.usage,
            estimated: false,
            cost: Cost::None,
            finish: self.finish,
            duration: self.start.elapsed(),
            first_token: self.first_token,
            gaps: None,
            timings: self.timings,
            outcome,
            content: None,
        });
    }
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
