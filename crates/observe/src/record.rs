use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_domain::{Error, FinishReason, RequestId, Stage, Task, Usage};

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
    /// The asker went away before the end.
    Cancelled,
    /// Refused before a provider gave an answer.
    Refused(Error),
    /// The answer broke after it had begun.
    Failed(Error),
}

impl Outcome {
    /// `ok`, `cancelled`, or the error's code: bounded, fit for a label.
    pub fn code(&self) -> &'static str {
        match self {
            Outcome::Complete => "ok",
            Outcome::Cancelled => "cancelled",
            Outcome::Refused(error) | Outcome::Failed(error) => error.code().name(),
        }
    }

    /// The error, where there is one.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Outcome::Complete | Outcome::Cancelled => None,
            Outcome::Refused(error) | Outcome::Failed(error) => Some(error),
        }
    }
}

/// What is known of one request when it has ended, refused ones included. Never holds content.
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
    /// How many upstream calls were made.
    pub attempts: u32,
    /// Tokens, as the provider counted them.
    pub usage: Option<Usage>,
    /// The last finish reason.
    pub finish: Option<FinishReason>,
    /// From arrival to the end.
    pub duration: Duration,
    /// From arrival to the first content.
    pub first_token: Option<Duration>,
    /// Time per stage.
    pub timings: Timings,
    /// How it ended.
    pub outcome: Outcome,
}

/// Takes records. Must not block: it is called on the request's own path, also from drops.
pub trait Recorder: Send + Sync {
    /// A request has arrived.
    fn begin(&self);

    /// A request that began has ended.
    fn end(&self, record: Record);
}
