use std::sync::Arc;

use bytes::Bytes;

use crate::{Dialect, Error, Relayed, Usage};

/// One step of an answer: the alphabet that live, replayed and translated answers share.
///
/// A stream is `Dropped` where a translation lost something, `Started`, then content, then one `Finished` per choice, then
/// at most one `Usage`, and it ends. A stream that broke ends with `Failed`; what ends without `Failed` is complete. `Raw`
/// and `Whole` carry the wire bytes of an asker who speaks the vendor's dialect, so that nothing is parsed or re-encoded
/// that no stage wants to see.
#[derive(Debug, Clone)]
pub enum Delta {
    /// The vendor opened the answer. Lifecycle, not content: until content arrives the answer may still fail over.
    Started(Started),
    /// Members of the request that this vendor's dialect cannot express, by path: it was asked without them.
    Dropped(Vec<String>),
    /// Answer text, with the log probabilities of its tokens when they were asked for.
    Text {
        /// Which of `n` choices.
        choice: u32,
        /// The new piece.
        text: String,
        /// One entry per token of `text`; empty unless asked for.
        logprobs: Vec<TokenLogprob>,
    },
    /// Reasoning text that the vendor chose to show.
    Reasoning {
        /// Which of `n` choices.
        choice: u32,
        /// The new piece.
        text: String,
    },
    /// The vendor's signature of the reasoning before it; it must come back with that reasoning.
    Signature {
        /// Which of `n` choices.
        choice: u32,
        /// The signature.
        text: String,
    },
    /// Reasoning that the vendor encrypted: only it can read it, and wants it back as it is.
    Sealed {
        /// Which of `n` choices.
        choice: u32,
        /// The sealed text, with the vendor's own id of it where there is one.
        text: String,
    },
    /// Where the text before it comes from.
    Citation {
        /// Which of `n` choices.
        choice: u32,
        /// The source.
        citation: Citation,
    },
    /// The model declines, in its own words.
    Refusal {
        /// Which of `n` choices.
        choice: u32,
        /// The new piece.
        text: String,
    },
    /// A piece of a tool call. The first piece of an `index` carries `id` and `name`.
    ToolCall {
        /// Which of `n` choices.
        choice: u32,
        /// Which of the choice's parallel calls.
        index: u32,
        /// Identifier that the tool result must repeat.
        id: Option<String>,
        /// The tool's name.
        name: Option<String>,
        /// The next piece of the JSON arguments.
        arguments: String,
    },
    /// A choice is complete.
    Finished {
        /// Which of `n` choices.
        choice: u32,
        /// Why it ended.
        reason: FinishReason,
        /// The stop sequence that it met, where the vendor tells.
        stop: Option<Box<str>>,
    },
    /// How many tokens the request has: the answer to [`crate::Task::CountTokens`].
    Counted {
        /// The tokens.
        input: u64,
        /// Whether they were estimated rather than counted with the model's own vocabulary.
        estimated: bool,
    },
    /// Embedding vectors, in the order of the inputs.
    Vectors(Vec<Vec<f32>>),
    /// What the answer cost in tokens.
    Usage(Usage),
    /// One or more whole events as the vendor sent them, in the asker's own dialect.
    Raw(RawEvents),
    /// The whole non-streaming body as the vendor sent it, in the asker's own dialect.
    Whole(RawBody),
    /// A step of the answer to a [`crate::Task::Relay`]; nothing else belongs to such an answer but `Failed`.
    Relayed(Relayed),
    /// From here on another candidate continues the answer. Says nothing itself: streams show it as a comment.
    Resumed,
    /// The answer broke after it had begun. Always last.
    Failed(Error),
}

impl Delta {
    /// Whether this delta commits the answer: from the first content on, another candidate can no longer take over
    /// unseen.
    pub fn is_content(&self) -> bool {
        match self {
            Delta::Started(_) | Delta::Dropped(_) | Delta::Usage(_) | Delta::Resumed | Delta::Failed(_) => {
                false
            }
            Delta::Raw(raw) => raw.notes.content,
            _ => true,
        }
    }
}

/// The opening of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started {
    /// The vendor's id of the answer; empty lets the encoder use the request id.
    pub id: String,
    /// The model as the vendor names it.
    pub model: String,
}

/// Whole server-sent events, bytes untouched, never a part of an event and never the end marker `[DONE]`.
#[derive(Debug, Clone)]
pub struct RawEvents {
    /// The dialect of the bytes.
    pub dialect: Dialect,
    /// One or more events, each with its closing blank line.
    pub bytes: Bytes,
    /// What was picked out in passing.
    pub notes: Notes,
}

/// A whole non-streaming body, bytes untouched.
#[derive(Debug, Clone)]
pub struct RawBody {
    /// The dialect of the bytes.
    pub dialect: Dialect,
    /// The JSON text.
    pub bytes: Bytes,
    /// What was picked out in passing.
    pub notes: Notes,
}

/// What the fast lane learns about bytes that it does not parse.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes {
    /// The bytes carry content (text, reasoning, tool-call fragment, refusal, finish), not just lifecycle.
    pub content: bool,
    /// How many events the bytes hold; 0 for a whole body.
    pub events: u32,
    /// Usage, where an event or the body had it.
    pub usage: Option<Usage>,
    /// The last finish reason seen.
    pub finish: Option<FinishReason>,
    /// Bytes of generated text in them (answers, reasoning, arguments), as JSON writes it, without quotes: what an
    /// estimate goes by when the vendor counts nothing. 0 for a whole body, which can be counted by its length.
    pub text: u32,
    /// The model that the vendor says has answered; told once, with the first event that has it.
    pub version: Option<Arc<str>>,
}

/// A source that an answer names for what it says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Citation {
    /// The cited words, where the vendor gives them.
    pub quote: Option<String>,
    /// The source's address.
    pub url: Option<String>,
    /// The source's title.
    pub title: Option<String>,
    /// Which of the request's documents it is, from 0.
    pub document: Option<u32>,
    /// Where in the document (`location`) the quote stands.
    pub place: Option<CitedPlace>,
    /// The range of the answer's text that it belongs to, in characters, where the vendor says it.
    pub of: Option<(u32, u32)>,
}

/// Where in a document a quote stands; ends are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CitedPlace {
    /// Characters, from 0.
    Characters(u32, u32),
    /// Pages, from 1.
    Pages(u32, u32),
    /// Blocks of the document, from 0.
    Blocks(u32, u32),
}

/// Why a choice ended, in OpenAI's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model ended by itself or met a stop sequence.
    Stop,
    /// The token limit was reached.
    Length,
    /// The model wants tools run.
    ToolCalls,
    /// The vendor withheld content.
    ContentFilter,
}

impl FinishReason {
    /// The OpenAI spelling, also used in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::ContentFilter => "content_filter",
        }
    }
}

/// The log probability of one generated token, with its alternatives.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token's text; bytes that are not UTF-8 on their own are replaced here and exact in `bytes`.
    pub token: String,
    /// The token's exact bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of the probability.
    pub logprob: f32,
    /// Alternatives, the likeliest first.
    pub top: Vec<(String, Vec<u8>, f32)>,
}
