use std::fmt;

use crate::{Code, Error};

/// JSON text kept exactly as it was sent: tool schemas, tool arguments, vendor members. Known to be valid JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Box<str>);

impl Json {
    /// Wraps text that a JSON parser has already accepted.
    pub fn from_valid(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The decoded content of a request, made only when somebody needs more than the wire bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A chat.
    Chat(Conversation),
    /// A plain prompt to continue.
    Completion(Completion),
    /// Texts to embed.
    Embedding(Embedding),
}

/// A chat request in words that every dialect can be read into and written from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// The turns so far, system and developer messages included, in order.
    pub messages: Vec<Message>,
    /// Tools that the model may call.
    pub tools: Vec<Tool>,
    /// Whether and which tool must be called; `None` when the asker did not say.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several calls in one turn are allowed; `None` when the asker did not say.
    pub parallel_tool_calls: Option<bool>,
    /// The shape the answer must have.
    pub response_format: ResponseFormat,
    /// How tokens are drawn and when to stop.
    pub sampling: Sampling,
    /// How much the model may think first; `None` when the asker did not say.
    pub thinking: Option<Thinking>,
    /// The asker's own name for the person behind the request, for the vendor's abuse checks.
    pub user: Option<String>,
    /// How wordy the answer should be; `None` when the asker did not say.
    pub verbosity: Option<Verbosity>,
    /// Which of the vendor's capacities may serve the request; `None` when the asker did not say.
    pub tier: Option<Tier>,
    /// What requests with one beginning have in common, so that the vendor's prompt cache sends them to one place.
    pub cache_key: Option<String>,
    /// Members of the body that these words cannot say, by path: a translated request leaves without them.
    pub unsaid: Vec<String>,
}

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The speaker's name, where the dialect has one.
    pub name: Option<String>,
    /// What is said, in order.
    pub parts: Vec<Part>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The operator's instructions.
    System,
    /// The developer's instructions, below the operator's.
    Developer,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture.
    Image(Media),
    /// A sound.
    Audio(Media),
    /// A document.
    File(Media),
    /// An earlier refusal of the model.
    Refusal(String),
    /// Earlier reasoning of the model.
    Reasoning(String),
    /// The vendor's signature of the reasoning before it, without which that vendor does not take it back.
    Signature(String),
    /// Earlier reasoning that the vendor encrypted: only it can read it.
    Sealed(String),
    /// A mark that everything up to here may be kept in the vendor's prompt cache, in the asker's own words.
    CacheMark(Json),
    /// An earlier call that the model made.
    ToolCall(ToolCall),
    /// The result of an earlier call.
    ToolResult {
        /// The call's id.
        call_id: String,
        /// The result, usually text.
        parts: Vec<Part>,
        /// The asker says that the call failed.
        failed: bool,
    },
}

/// Bytes that are not text, by reference or inline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Where the bytes are.
    pub source: MediaSource,
    /// MIME type, where it is known.
    pub mime: Option<String>,
    /// File name or title, or the detail level of an image: the dialect's own small print.
    pub note: Option<String>,
    /// What the model is told about a document without it being part of the document.
    pub context: Option<String>,
    /// Whether the answer is to cite the document.
    pub cited: bool,
}

impl Media {
    /// Media of which only the place and the MIME type are known.
    pub fn new(source: MediaSource, mime: Option<String>) -> Self {
        Self { source, mime, note: None, context: None, cited: false }
    }
}

/// Where media bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaSource {
    /// An address that the vendor fetches. Penstock itself never does.
    Url(String),
    /// Base64 text as sent.
    Base64(String),
    /// A file that was uploaded to the vendor before.
    FileId(String),
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Identifier that the result repeats.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// JSON arguments as the model wrote them; a model may write invalid JSON, so this is text.
    pub arguments: String,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// The tool's name.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON Schema of the arguments.
    pub parameters: Option<Json>,
    /// Whether the vendor must enforce the schema.
    pub strict: Option<bool>,
    /// As [`Part::CacheMark`], after this tool.
    pub cache_mark: Option<Json>,
}

/// Whether and which tool must be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// No tool.
    None,
    /// Some tool.
    Required,
    /// This tool.
    Named(String),
}

/// How much a model may think before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// Not at all.
    Off,
    /// As much as the model sees fit.
    Adaptive,
    /// In steps (OpenAI's `reasoning_effort`).
    Effort(Effort),
    /// At most this many tokens (Anthropic's `budget_tokens`).
    Budget(u32),
}

/// Steps of thinking, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// Very much.
    XHigh,
    /// As much as there is.
    Max,
}

/// How wordy an answer should be, in OpenAI's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Terse.
    Low,
    /// As usual.
    Medium,
    /// Thorough.
    High,
}

impl Verbosity {
    /// OpenAI's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Verbosity::Low => "low",
            Verbosity::Medium => "medium",
            Verbosity::High => "high",
        }
    }
}

/// Which of a vendor's capacities may serve a request (`service_tier`), in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// What the account has, the better first.
    Auto,
    /// The usual one alone (Anthropic's `standard_only`).
    Default,
    /// A slower and cheaper one.
    Flex,
    /// A faster and dearer one.
    Priority,
    /// One that was bought in advance.
    Scale,
}

impl Tier {
    /// OpenAI's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Auto => "auto",
            Tier::Default => "default",
            Tier::Flex => "flex",
            Tier::Priority => "priority",
            Tier::Scale => "scale",
        }
    }
}

/// The shape the answer must have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ResponseFormat {
    /// Free text.
    #[default]
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that a schema accepts.
    JsonSchema {
        /// The schema's name.
        name: String,
        /// The schema.
        schema: Json,
        /// Whether the vendor must enforce it.
        strict: Option<bool>,
    },
}

/// How many answers, how tokens are drawn, and when to stop. `None` is the vendor's default, never a value of ours.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    /// Upper bound of generated tokens.
    pub max_output_tokens: Option<u32>,
    /// How many independent answers; `None` is one.
    pub choices: Option<u32>,
    /// Randomness, 0 to 2.
    pub temperature: Option<f32>,
    /// Nucleus: the share of probability mass kept.
    pub top_p: Option<f32>,
    /// Only the k likeliest tokens.
    pub top_k: Option<u32>,
    /// Tokens below this share of the likeliest token's probability are dropped.
    pub min_p: Option<f32>,
    /// Seed for repeatable draws.
    pub seed: Option<i64>,
    /// Penalty on tokens that appeared, -2 to 2.
    pub presence_penalty: Option<f32>,
    /// Penalty per appearance, -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// Additions to the logits of given token ids.
    pub logit_bias: Vec<(u32, f32)>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Whether log probabilities are wanted, and how many alternatives.
    pub logprobs: Logprobs,
}

/// Whether log probabilities are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Logprobs {
    /// Not wanted.
    #[default]
    Off,
    /// Wanted, with this many alternatives per token (0 to 20).
    Top(u8),
}

/// A prompt to continue (`/v1/completions`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Completion {
    /// The prompts; each gets `sampling.choices` answers.
    pub prompts: Vec<String>,
    /// Whether the answer repeats the prompt.
    pub echo: bool,
    /// Text after the gap to fill.
    pub suffix: Option<String>,
    /// How tokens are drawn.
    pub sampling: Sampling,
}

/// Texts to embed (`/v1/embeddings`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embedding {
    /// The inputs, in order.
    pub inputs: Vec<EmbeddingInput>,
    /// Wanted length of the vectors, where the model can shorten them.
    pub dimensions: Option<u32>,
    /// Whether the asker wants base64 of little-endian f32 instead of numbers.
    pub base64: bool,
}

/// One text to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbeddingInput {
    /// As text.
    Text(String),
    /// As token ids of the model's vocabulary.
    Tokens(Vec<u32>),
}

impl Content {
    /// The same with this bound of generated tokens; vectors have none.
    #[must_use]
    pub fn bounded(mut self, bound: u32) -> Self {
        match &mut self {
            Content::Chat(chat) => chat.sampling.max_output_tokens = Some(bound),
            Content::Completion(completion) => completion.sampling.max_output_tokens = Some(bound),
            Content::Embedding(_) => {}
        }
        self
    }

    /// The chat.
    ///
    /// # Errors
    /// `unsupported` when it is something else: prompts and embeddings are translated into no other dialect.
    pub fn chat(&self) -> Result<&Conversation, Error> {
        match self {
            Content::Chat(conversation) => Ok(conversation),
            Content::Completion(_) | Content::Embedding(_) => {
                let say = "the provider of this model takes only chats from this API";
                Err(Error::new(Code::Unsupported, say))
            }
        }
    }
}
