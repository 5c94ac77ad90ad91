use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use penstock_domain::{Cost, Dialect, Error, FinishReason, Priority, RequestId, Stage, Tags, Task, Usage};

use crate::Gaps;

/// How long each stage of one request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings([Duration; Stage::ALL.len()]);

impl Timings {
    /// Adds time to a stage.
    pub fn add(&mut self, stage: Stage, time: Duration) {
        self.0[stage as usize] += time;
    }

    /// The stages that took measurable time, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, Duration)> + '_ {
        Stage::ALL
            .into_iter()
            .map(|stage| (stage, self.0[stage as usize]))
            .filter(|(_, time)| !time.is_zero())
    }
}

/// How a request ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The answer was delivered whole.
    Complete,
    /// The answer of an earlier request with the same idempotency key was given again: nothing was called, nothing is
    /// charged.
    Replayed,
    /// The asker went away before the end.
    Cancelled,
    /// Refused before a provider gave an answer.
    Refused(Error),
    /// The answer broke after it had begun.
    Failed(Error),
}

impl Outcome {
    /// `ok`, `replayed`, `cancelled`, or the error's code: bounded, fit for a label.
    pub fn code(&self) -> &'static str {
        match self {
            Outcome::Complete => "ok",
            Outcome::Replayed => "replayed",
            Outcome::Cancelled => "cancelled",
            Outcome::Refused(error) | Outcome::Failed(error) => error.code().name(),
        }
    }

    /// The error, where there is one.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Outcome::Complete | Outcome::Replayed | Outcome::Cancelled => None,
            Outcome::Refused(error) | Outcome::Failed(error) => Some(error),
        }
    }
}

/// One call of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The provider's name in the configuration.
    pub provider: Arc<str>,
    /// Which of the provider's credentials, from 0.
    pub credential: u32,
    /// The model as that provider names it.
    pub model: Arc<str>,
    /// Why it was made: `first`, `retry`, `failover`, `hedge`, `probe`, `panic` or `resume`.
    pub why: &'static str,
    /// `ok`, `cancelled`, or the code of the error that ended it.
    pub code: &'static str,
    /// From the call to its first content, its failure, or the asker's leaving.
    pub took: Duration,
    /// What it used, as told or as we count; `None` when it cannot have been billed.
    pub usage: Option<Usage>,
    /// Whether we counted.
    pub estimated: bool,
    /// What it cost.
    pub cost: Cost,
}

impl Attempt {
    /// A first call with the provider's first credential, of which nothing is known that could be paid for.
    pub fn new(
        provider: impl Into<Arc<str>>,
        model: impl Into<Arc<str>>,
        code: &'static str,
        took: Duration,
    ) -> Self {
        Self {
            provider: provider.into(),
            credential: 0,
            model: model.into(),
            why: "first",
            code,
            took,
            usage: None,
            estimated: false,
            cost: Cost::None,
        }
    }
}

/// What routing thought of one candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// The provider's name in the configuration.
    pub provider: Arc<str>,
    /// Which of the provider's credentials, from 0.
    pub credential: u32,
    /// The model as that provider names it.
    pub model: Arc<str>,
    /// Why it was not tried, or `tried`.
    pub verdict: Cow<'static, str>,
}

/// What was said, kept only where the caller's team has capture on.
#[derive(Clone, PartialEq, Eq)]
pub struct Captured {
    /// The request's body, at most [`Captured::MAX`] bytes of it.
    pub request: Bytes,
    /// Whether the body was longer.
    pub request_cut: bool,
    /// The answer, at most [`Captured::MAX`] bytes of it.
    pub answer: Bytes,
    /// What the answer's bytes are.
    pub form: Form,
    /// Whether the answer was longer.
    pub answer_cut: bool,
    /// How long it may be kept.
    pub retention: Duration,
}

impl Captured {
    /// Most bytes of a request and of an answer that are kept: 256 KiB each.
    pub const MAX: usize = 256 << 10;
}

/// Says how much there is, never what.
impl std::fmt::Debug for Captured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Captured")
            .field("request", &self.request.len())
            .field("answer", &self.answer.len())
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// What the bytes of a captured answer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// The generated text, put together from its pieces.
    #[default]
    Text,
    /// The JSON body as the vendor sent it.
    Body(Dialect),
    /// The server-sent events as the vendor sent them.
    Events(Dialect),
}

impl Form {
    /// `text`, `body` or `events`.
    pub const fn name(self) -> &'static str {
        match self {
            Form::Text => "text",
            Form::Body(_) => "body",
            Form::Events(_) => "events",
        }
    }
}

/// What is known of one request when it has ended, refused ones included. Holds content only in `content`.
#[derive(Debug, Clone)]
pub struct Record {
    /// The request's id.
    pub id: RequestId,
    /// When it arrived.
    pub at: SystemTime,
    /// What was asked for; `None` when the request was not understood that far.
    pub task: Option<Task>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The dialect of the asker, once known.
    pub dialect: Option<Dialect>,
    /// The model's name as asked, whether it exists or not: never a label.
    pub asked: Option<Arc<str>>,
    /// Labels that the asker put on it.
    pub tags: Tags,
    /// The caller's key id, once known.
    pub key: Option<Arc<str>>,
    /// The caller's team, once known.
    pub team: Option<Arc<str>>,
    /// The model's name in the catalogue; `None` until it was found there, so that labels stay bounded.
    pub model: Option<Arc<str>>,
    /// The provider that answered, or was tried last.
    pub provider: Option<Arc<str>>,
    /// The model as that provider names it.
    pub upstream_model: Option<Arc<str>>,
    /// The model version that the vendor says has answered, such as `gpt-4o-2024-08-06`.
    pub version: Option<Arc<str>>,
    /// How many upstream calls were made.
    pub attempts: u32,
    /// Every upstream call, in order.
    pub tries: Box<[Attempt]>,
    /// What was thought of each candidate, where there was a choice.
    pub considered: Box<[Considered]>,
    /// Tokens of all calls together, as the providers counted them, or as we did where `estimated` says so; `None` when no
    /// answer began.
    pub usage: Option<Usage>,
    /// Whether we counted, because the vendor did not or contradicts itself.
    pub estimated: bool,
    /// What all calls together cost.
    pub cost: Cost,
    /// The last finish reason.
    pub finish: Option<FinishReason>,
    /// From arrival to the end.
    pub duration: Duration,
    /// From arrival to the first content.
    pub first_token: Option<Duration>,
    /// The pauses between the pieces of a stream, where there were at least two.
    pub gaps: Option<Box<Gaps>>,
    /// Time per stage.
    pub timings: Timings,
    /// How it ended.
    pub outcome: Outcome,
    /// What was said, where the caller's team has capture on.
    pub content: Option<Box<Captured>>,
}

/// Takes records. Must not block: it is called on the request's own path, also from drops.
pub trait Recorder: Send + Sync {
    /// A request has arrived.
    fn begin(&self);

    /// A request that began has ended.
    fn end(&self, record: Record);

    /// A request of a class has waited so long for a provider, and was served then or refused.
    fn waited(&self, _class: Priority, _wait: Duration, _served: bool) {}
}
