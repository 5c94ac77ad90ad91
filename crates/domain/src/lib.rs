//! The words everyone shares.
//!
//! What it is: requests, conversations, answers as streams of [`Delta`], usage, errors with a stable [`Code`], and the
//! twelve [`Stage`]s of a request's life. Every other crate speaks in these words.
//!
//! What it promises: plain data. Cloning a request or a delta never copies a body: wire bytes are reference counted.
//!
//! What it refuses to know: sockets, async runtimes, serialisation. JSON enters and leaves through `dialect`; the types
//! here are deliberately not (de)serialisable, so that a border can change without touching the words inside.

pub mod calendar;
mod conversation;
mod delta;
mod error;
mod money;
mod priority;
mod relay;
mod request;
mod secret;
mod stage;
mod tags;
mod usage;

pub use conversation::{
    Completion, Content, Conversation, Effort, Embedding, EmbeddingInput, Json, Logprobs, Media, MediaSource,
    Message, Part, ResponseFormat, Role, Sampling, Thinking, Tier, Tool, ToolCall, ToolChoice, Verbosity,
};
pub use delta::{
    Citation, CitedPlace, Delta, FinishReason, Notes, RawBody, RawEvents, Started, TokenLogprob,
};
pub use error::{Blame, Code, Error, Kind, Remedy, Retry};
pub use money::{Cost, Money, Price, Rates, Tariff};
pub use priority::Priority;
pub use relay::{Passage, Relayed, RelayedHead};
pub use request::{Body, Dialect, Hint, Hints, Members, Origin, Request, RequestId, Resume, Span, Task};
pub use secret::{Credential, Secret};
pub use stage::Stage;
pub use tags::Tags;
pub use usage::Usage;
