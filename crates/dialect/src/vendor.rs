//! The wires on which models are asked: one row per dialect, so that whoever calls a vendor needs no `match`.
//!
//! What it promises: whatever stands in [`vendor`] can be asked and read in full, streamed or not. What it refuses to
//! know: addresses, credentials, which vendor it is.

use bytes::Bytes;
use penstock_domain::{Content, Delta, Dialect, Error, Request, Resume, Task};

use crate::{Encoded, anthropic, bedrock, gemini, openai, responses};

/// What turns the chunks of a vendor's streamed body into deltas.
///
/// Only whole, well-formed events leave it, and a stream that it lets end without [`Delta::Failed`] was complete.
pub trait Lane: Send {
    /// Feeds a chunk of the body; the deltas that it completes wait in [`Lane::next`].
    ///
    /// # Errors
    /// `upstream_bad_response` when the stream cannot be read any further; no `Failed` follows.
    fn push(&mut self, chunk: Bytes) -> Result<(), Error>;

    /// The next delta, if one is ready; more may come after `None`.
    fn next(&mut self) -> Option<Delta>;

    /// Ends the stream; call it when the body has ended, until it gives `None`. `None` at once means complete.
    fn finish(&mut self) -> Option<Delta>;

    /// Whether the vendor's end or a failure was seen: what follows is ignored, reading can stop.
    fn is_over(&self) -> bool;
}

/// What a vendor is asked for, besides the content.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What is asked for.
    pub task: Task,
    /// The model as the vendor names it.
    pub model: &'a str,
    /// Whether events are wanted.
    pub stream: bool,
    /// Whether the vendor understands a wish for usage at the end of a stream.
    pub ask_usage: bool,
    /// The bound of an answer whose asker gave none, for dialects that demand one.
    pub max_tokens: u32,
    /// What the vendor understands, if it speaks OpenAI's chats.
    pub chats: Chats,
}

/// What a vendor understands of OpenAI's chats: those who imitate the API keep to what it was when they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chats {
    /// The bound of an answer is called `max_completion_tokens`; to others `max_tokens`, as it was once.
    pub max_completion_tokens: bool,
    /// Takes what is OpenAI's newest (`verbosity`, `prompt_cache_key`, `safety_identifier`, `service_tier`).
    pub own_members: bool,
    /// Takes what servers of open models added (`top_k`, `min_p`), or ignores it; others refuse the request.
    pub open_members: bool,
    /// Takes `user`, or ignores it; others refuse the request.
    pub user: bool,
    /// Takes `logprobs` and `logit_bias`, or ignores them; others refuse the request.
    pub token_members: bool,
    /// What the seed is called.
    pub seed: &'static str,
}

impl Chats {
    /// OpenAI itself.
    pub const OPENAI: Self = Self {
        max_completion_tokens: true,
        own_members: true,
        open_members: false,
        user: true,
        token_members: true,
        seed: "seed",
    };
    /// OpenAI's API as it was at some date, which refuses what came after it.
    pub const DATED: Self = Self { own_members: false, ..Self::OPENAI };
    /// Servers of open models and everybody else, as far as one can know.
    pub const COMPATIBLE: Self =
        Self { max_completion_tokens: false, own_members: false, open_members: true, ..Self::OPENAI };
    /// Groq, by its page on compatibility with OpenAI: 400 for what is about single tokens.
    pub const GROQ: Self = Self { token_members: false, ..Self::DATED };
    /// Mistral, by its API reference: 422 for every member that it does not know, and a name of its own for the seed.
    pub const MISTRAL: Self = Self {
        open_members: false,
        user: false,
        token_members: false,
        seed: "random_seed",
        ..Self::COMPATIBLE
    };
}

/// A dialect as a vendor's wire.
pub trait Vendor: Sync {
    /// The dialect of its bodies and events.
    fn dialect(&self) -> Dialect;

    /// Writes a request from decoded content, for an asker of another dialect.
    ///
    /// # Errors
    /// `unsupported` or `invalid_request` for what this dialect cannot say at all; what it can leave out is named in
    /// [`Encoded::dropped`].
    fn encode(&self, content: &Content, ask: &Ask<'_>) -> Result<Encoded, Error>;

    /// The deltas of a whole 200: the bytes untouched where asker and vendor speak alike and no stream is wanted, their
    /// meaning otherwise.
    ///
    /// # Errors
    /// The error that the body carries, mapped as a vendor's; `upstream_bad_response` for what is no answer.
    fn whole(&self, request: &Request, body: Bytes) -> Result<Vec<Delta>, Error>;

    /// The lane for the streamed answer to this request: raw where asker and vendor speak alike, reading otherwise.
    fn lane(&self, request: &Request) -> Box<dyn Lane>;
}

/// The wire of a dialect; `None` for one that no vendor is asked in.
pub fn vendor(dialect: Dialect) -> Option<&'static dyn Vendor> {
    match dialect {
        Dialect::OpenAi => Some(&OpenAi),
        Dialect::Anthropic => Some(&Anthropic),
        Dialect::Bedrock => Some(&Bedrock),
        Dialect::Gemini => Some(&Gemini),
        Dialect::Responses => Some(&Responses),
    }
}

/// Whether the answer's bytes can be the asker's as they are: it is asked in the vendor's dialect, and nobody has to know
/// what is said.
fn alike(vendor: Dialect, request: &Request) -> bool {
    request.body.dialect() == vendor && request.resume != Resume::Armed
}

struct OpenAi;

impl Vendor for OpenAi {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }

    fn encode(&self, content: &Content, ask: &Ask<'_>) -> Result<Encoded, Error> {
        Ok(openai::chat::encode_body(content.chat()?, ask))
    }

    fn whole(&self, request: &Request, body: Bytes) -> Result<Vec<Delta>, Error> {
        if alike(Dialect::OpenAi, request) && !request.stream {
            return openai::response::read_whole(request.task, body).map(|whole| vec![whole]);
        }
        openai::response::unfold(request.task, &body)
    }

    fn lane(&self, request: &Request) -> Box<dyn Lane> {
        if alike(Dialect::OpenAi, request) {
            return Box::new(openai::raw_lane::RawLane::for_request(request));
        }
        Box::new(openai::stream::ChunkReader::new(request.task, request.choices))
    }
}

struct Anthropic;

impl Vendor for Anthropic {
    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn encode(&self, content: &Content, ask: &Ask<'_>) -> Result<Encoded, Error> {
        match ask.task {
            Task::CountTokens => anthropic::chat::count_body(content.chat()?, ask.model),
            _ => anthropic::chat::encode_body(content.chat()?, ask.model, ask.stream, ask.max_tokens),
        }
    }

    fn whole(&self, request: &Request, body: Bytes) -> Result<Vec<Delta>, Error> {
        match (request.task, alike(Dialect::Anthropic, request)) {
            (Task::CountTokens, alike) => anthropic::reader::counted(body, alike).map(|count| vec![count]),
            (_, true) if !request.stream => anthropic::reader::read_whole(body).map(|whole| vec![whole]),
            _ => anthropic::reader::unfold(&body),
        }
    }

    fn lane(&self, request: &Request) -> Box<dyn Lane> {
        if alike(Dialect::Anthropic, request) {
            return Box::new(anthropic::raw_lane::RawLane::new());
        }
        Box::new(anthropic::reader::MessageReader::new())
    }
}

struct Bedrock;

impl Vendor for Bedrock {
    fn dialect(&self) -> Dialect {
        Dialect::Bedrock
    }

    fn encode(&self, content: &Content, ask: &Ask<'_>) -> Result<Encoded, Error> {
        bedrock::encode(content.chat()?, ask)
    }

    fn whole(&self, request: &Request, body: Bytes) -> Result<Vec<Delta>, Error> {
        bedrock::unfold(request.task, &body)
    }

    fn lane(&self, _request: &Request) -> Box<dyn Lane> {
        Box::new(bedrock::FrameLane::default())
    }
}

struct Gemini;

impl Vendor for Gemini {
    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }

    fn encode(&self, content: &Content, ask: &Ask<'_>) -> Result<Encoded, Error> {
        match (content, ask.task) {
            (Content::Embedding(embedding), _) => gemini::embed::encode_body(embedding, ask.model),
            (content, Task::CountTokens) => gemini::request::count_body(content.chat()?, ask.model),
            (content, _) => gemini::request::encode_body(content.chat()?, ask.model),
        }
    }

    fn whole(&self, request: &Request, body: Bytes) -> Result<Vec<Delta>, Error> {
        match request.task {
            Task::Embedding => gemini::embed::unfold(&body),
            Task::CountTokens => gemini::embed::count(&body),
            _ => gemini::reader::unfold(request, &body),
        }
    }

    fn lane(&self, request: &Request) -> Box<dyn Lane> {
        Box::new(gemini::reader::ResponseReader::new(request))
    }
}

struct Responses;

impl Vendor for Responses {
    fn dialect(&self) -> Dialect {
        Dialect::Responses
    }

    fn encode(&self, content: &Content, ask: &Ask<'_>) -> Result<Encoded, Error> {
        match ask.task {
            Task::CountTokens => responses::chat::count_body(content.chat()?, ask.model),
            _ => responses::chat::encode_body(content.chat()?, ask.model, ask.stream),
        }
    }

    fn whole(&self, request: &Request, body: Bytes) -> Result<Vec<Delta>, Error> {
        if request.task == Task::CountTokens {
            return responses::reader::counted(body, alike(Dialect::Responses, request))
                .map(|count| vec![count]);
        }
        if alike(Dialect::Responses, request) && !request.stream {
            return responses::reader::read_whole(body).map(|whole| vec![whole]);
        }
        responses::reader::unfold(&body)
    }

    fn lane(&self, request: &Request) -> Box<dyn Lane> {
        if alike(Dialect::Responses, request) {
            return Box::new(responses::raw_lane::RawLane::new());
        }
        Box::new(responses::reader::ResponseReader::new())
    }
}
