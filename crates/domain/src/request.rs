use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;

use crate::{Code, Content, Error, Passage, Priority, Tags};

/// The id of one request: `req_` and 24 characters, in `x-request-id`, errors, logs and records alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Takes an id that the edge drew.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as shared text, for records that outlive the request.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is asked for. Every task runs down the same path; only the provider's ability differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// A chat answer.
    Chat,
    /// A continued prompt.
    Completion,
    /// Embedding vectors.
    Embedding,
    /// How many tokens a chat request has.
    CountTokens,
    /// A request that is passed on as bytes, whatever it means.
    Relay,
}

impl Task {
    /// The name of the operation in telemetry (OpenTelemetry `gen_ai.operation.name`).
    pub const fn name(self) -> &'static str {
        match self {
            Task::Chat => "chat",
            Task::Completion => "text_completion",
            Task::Embedding => "embeddings",
            Task::CountTokens => "count_tokens",
            Task::Relay => "relay",
        }
    }
}

/// The wire format in which somebody speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI chat completions, completions and embeddings.
    OpenAi,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Anthropic,
    /// Gemini `generateContent`; vendors alone speak it.
    Gemini,
    /// Amazon Bedrock Converse; vendors alone speak it.
    Bedrock,
}

impl Dialect {
    /// The name in records and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::OpenAi => "openai",
            Dialect::Responses => "responses",
            Dialect::Anthropic => "anthropic",
            Dialect::Gemini => "gemini",
            Dialect::Bedrock => "bedrock",
        }
    }
}

/// A range of bytes inside a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// Where the few members that stages rewrite stand in the body. Each span covers the *value*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Members {
    /// `model`.
    pub model: Span,
    /// `stream_options`.
    pub stream_options: Option<Span>,
    /// `penstock`: ours, never forwarded.
    pub penstock: Option<Span>,
    /// `store` of a responses body: the gateway keeps answers, vendors need not.
    pub store: Option<Span>,
}

/// The original body beside what is known of it. Clones share the bytes and the decoded content.
#[derive(Clone)]
pub struct Body {
    dialect: Dialect,
    task: Task,
    bytes: Bytes,
    members: Members,
    decode: fn(&[u8], Task) -> Result<Content, Error>,
    content: Arc<OnceLock<Result<Content, Error>>>,
    passage: Option<Arc<Passage>>,
    /// The bound of the answer that holds instead of the one in the bytes.
    bound: Option<u32>,
    /// The content was changed: the bytes no longer say what is asked.
    rewritten: bool,
}

impl Body {
    /// Keeps the bytes, and the function that decodes them should anyone ask. `dialect` crates call this.
    pub fn new(
        dialect: Dialect,
        task: Task,
        bytes: Bytes,
        members: Members,
        decode: fn(&[u8], Task) -> Result<Content, Error>,
    ) -> Self {
        Self {
            dialect,
            task,
            bytes,
            members,
            decode,
            content: Arc::new(OnceLock::new()),
            passage: None,
            bound: None,
            rewritten: false,
        }
    }

    /// Keeps the bytes of a request that is passed on, and where they go. Nobody can decode them.
    pub fn relayed(dialect: Dialect, bytes: Bytes, passage: Passage) -> Self {
        let decode =
            |_: &[u8], _| Err(Error::new(Code::Unsupported, "the body of a relayed request is not read"));
        let body = Self::new(dialect, Task::Relay, bytes, Members::default(), decode);
        Self { passage: Some(Arc::new(passage)), ..body }
    }

    /// Where a relayed request goes; `None` for every other.
    pub fn passage(&self) -> Option<&Passage> {
        self.passage.as_deref()
    }

    /// The same with another bound of the answer, in tokens per choice: whoever forwards the bytes splices it in.
    #[must_use]
    pub fn bounded(&self, bound: u32) -> Self {
        let content = if self.rewritten {
            // Nothing else says what is asked.
            let content =
                self.content.get().cloned().map(|known| known.map(|content| content.bounded(bound)));
            content.map_or_else(OnceLock::new, OnceLock::from)
        } else {
            OnceLock::new()
        };
        Self { bound: Some(bound), content: Arc::new(content), ..self.clone() }
    }

    /// The bound of the answer that holds instead of the one in the bytes, where there is one.
    pub fn bound(&self) -> Option<u32> {
        self.bound
    }

    /// The same with other content; its bytes are dropped, so that every vendor is asked by the content.
    #[must_use]
    pub fn rewritten(&self, content: Content) -> Self {
        let content = match self.bound {
            Some(bound) => content.bounded(bound),
            None => content,
        };
        let content = Arc::new(OnceLock::from(Ok(content)));
        Self { bytes: Bytes::new(), members: Members::default(), content, rewritten: true, ..self.clone() }
    }

    /// Whether the bytes say what is asked, in this dialect.
    pub fn is_wire(&self, dialect: Dialect) -> bool {
        self.dialect == dialect && !self.rewritten
    }

    /// The same without its bytes.
    fn emptied(&self) -> Self {
        Self { bytes: Bytes::new(), content: Arc::new(OnceLock::new()), ..self.clone() }
    }

    /// The dialect of the bytes, which is the asker's.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The original bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where the rewritable members stand.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The decoded content; decoded at the first call and kept. A provider of the asker's own dialect never calls this.
    ///
    /// # Errors
    /// `invalid_request` (or a more exact code) when a member that translation needs is missing or has the wrong shape.
    pub fn content(&self) -> Result<&Content, Error> {
        let decode = || {
            let content = (self.decode)(&self.bytes, self.task)?;
            Ok(match self.bound {
                Some(bound) => content.bounded(bound),
                None => content,
            })
        };
        self.content.get_or_init(decode).as_ref().map_err(Clone::clone)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Prompts are nobody's business in a log.
        f.debug_struct("Body").field("dialect", &self.dialect).field("bytes", &self.bytes.len()).finish()
    }
}

/// Where the request came in, for scopes and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An HTTP request that waits for its answer.
    Http,
}

/// Headers with which an asker chooses among a vendor's own abilities (`anthropic-beta`): they mean something to a vendor of
/// the asker's dialect and to nobody else. Never a credential.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hints(Option<Arc<[Hint]>>);

/// One header of [`Hints`]: its name, and its value, which is visible ASCII.
pub type Hint = (&'static str, Box<str>);

/// Most bytes of one hint's value.
const MAX_HINT: usize = 2048;

impl Hints {
    /// Keeps the headers whose values are visible ASCII of at most 2 KiB; the others are left out.
    pub fn new(found: impl IntoIterator<Item = Hint>) -> Self {
        let plain = |value: &str| {
            !value.is_empty()
                && value.len() <= MAX_HINT
                && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        };
        let kept: Vec<Hint> = found.into_iter().filter(|(_, value)| plain(value)).collect();
        Self((!kept.is_empty()).then(|| kept.into()))
    }

    /// Names in lower case, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().flat_map(|all| all.iter()).map(|(name, value)| (*name, &**value))
    }
}

/// Whether another candidate may continue an answer that breaks in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resume {
    /// The asker did not say: the model's policy decides.
    #[default]
    Unsaid,
    /// The asker does not want it.
    Off,
    /// It may. Such an answer is read, never passed on as bytes: whoever continues it has to know what was said.
    Armed,
}

/// One request, as every stage sees it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// Where it came in.
    pub origin: Origin,
    /// What is asked for.
    pub task: Task,
    /// The model name as asked.
    pub model: Arc<str>,
    /// Whether the asker wants events instead of one body.
    pub stream: bool,
    /// Whether the asker wants a usage event at the end of the stream.
    pub stream_usage: bool,
    /// Upper bound of generated tokens per choice, if the asker gave one.
    pub max_output_tokens: Option<u32>,
    /// How many answers, 1 unless asked otherwise.
    pub choices: u32,
    /// When the asker stops waiting, if they said.
    pub deadline: Option<Instant>,
    /// When its first byte was here, if whoever decoded it knows.
    pub arrived: Option<Instant>,
    /// What the asker wants of a vendor of its own dialect.
    pub hints: Hints,
    /// Labels that the asker put on it, for records.
    pub tags: Tags,
    /// The regions that it may not leave, as the asker says it; `None` leaves that to the caller's team.
    pub residency: Option<Arc<[Arc<str>]>>,
    /// Whether another candidate may continue the answer should it break.
    pub resume: Resume,
    /// How urgent it is, as the asker says it; nobody is more urgent by saying so.
    pub priority: Option<Priority>,
    /// The original body.
    pub body: Body,
}

impl Request {
    /// The request with an empty body, for those who live as long as its answer: a long prompt is not to stay in memory
    /// while the answer streams.
    pub fn without_body(&self) -> Self {
        Self { body: self.body.emptied(), ..self.clone() }
    }
}
