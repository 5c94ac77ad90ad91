//! What every dialect's request decoder hands out: the parts of a `domain::Request` that the body determines.
//!
//! It refuses to know ids, clocks and origins: the edge adds them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use penstock_domain::{
    Body, Conversation, Hints, Origin, Priority, Request, RequestId, Resume, Tags, Task, Tier, Verbosity,
};

/// Bounds that a request body must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Deepest nesting of arrays and objects.
    pub max_depth: usize,
    /// Longest model name, in bytes.
    pub max_model: usize,
}

impl Default for DecodeLimits {
    /// Depth 128, model name 256 bytes.
    fn default() -> Self {
        Self { max_depth: 128, max_model: 256 }
    }
}

/// A decoded body: everything of a [`Request`] except its id, origin and deadline.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// What is asked for.
    pub task: Task,
    /// The model name as asked.
    pub model: Arc<str>,
    /// Whether the asker wants events.
    pub stream: bool,
    /// Whether the asker wants a usage event.
    pub stream_usage: bool,
    /// Upper bound of generated tokens, if given.
    pub max_output_tokens: Option<u32>,
    /// How many answers, at least 1.
    pub choices: u32,
    /// The original body with the places of the members that are rewritten.
    pub body: Body,
    /// The `penstock` member, if there was one.
    pub penstock: Option<PenstockOptions>,
}

impl Decoded {
    /// Adds what the body does not say and makes the request.
    pub fn into_request(self, id: RequestId, origin: Origin, deadline: Option<Instant>) -> Request {
        Request {
            id,
            origin,
            task: self.task,
            model: self.model,
            stream: self.stream,
            stream_usage: self.stream_usage,
            max_output_tokens: self.max_output_tokens,
            choices: self.choices,
            deadline,
            arrived: None,
            hints: Hints::default(),
            residency: self.penstock.as_ref().and_then(|options| options.residency.clone()),
            resume: match &self.penstock {
                Some(PenstockOptions { resume: Some(false), .. }) => Resume::Off,
                _ => Resume::Unsaid,
            },
            priority: self.penstock.as_ref().and_then(|options| options.priority),
            tags: self.penstock.map_or_else(Tags::default, |options| options.tags.into_iter().collect()),
            body: self.body,
        }
    }
}

/// The request member `penstock`: ours, never forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PenstockOptions {
    /// How long the asker waits (`timeout_ms`).
    pub timeout: Option<Duration>,
    /// Labels for records and metrics: at most 16, keys to 64 bytes, values to 256 bytes.
    pub tags: BTreeMap<String, String>,
    /// The regions that the request may not leave: 1 to 16 names.
    pub residency: Option<Arc<[Arc<str>]>>,
    /// Whether another candidate may continue the answer should it break; the model's policy has to allow it too.
    pub resume: Option<bool>,
    /// How urgent the request is; it cannot be more urgent than its key allows.
    pub priority: Option<Priority>,
}

/// A conversation written for a vendor of another dialect.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The request body.
    pub body: Bytes,
    /// What the asker said and this dialect cannot, by path, each once, sorted.
    pub dropped: Vec<String>,
}

/// Names of what a translation loses.
#[derive(Debug, Default)]
pub(crate) struct Lost(BTreeSet<String>);

impl Lost {
    /// Notes a path when something is lost under it.
    pub(crate) fn note(&mut self, lost: bool, path: &str) {
        if lost {
            self.0.insert(path.to_owned());
        }
    }

    /// Notes what is OpenAI's alone, for a vendor that has no word for any of it. The usual tier needs no word.
    pub(crate) fn own_members(&mut self, conversation: &Conversation) {
        self.wordy(conversation);
        let usual = matches!(conversation.tier, None | Some(Tier::Auto | Tier::Default));
        self.note(!usual, "service_tier");
    }

    /// Notes what is OpenAI's alone but for the tier.
    pub(crate) fn wordy(&mut self, conversation: &Conversation) {
        let usual = matches!(conversation.verbosity, None | Some(Verbosity::Medium));
        self.note(!usual, "verbosity");
        self.note(conversation.cache_key.is_some(), "prompt_cache_key");
    }

    pub(crate) fn extend(&mut self, paths: &[String]) {
        self.0.extend(paths.iter().cloned());
    }

    pub(crate) fn names(self) -> Vec<String> {
        self.0.into_iter().collect()
    }
}
