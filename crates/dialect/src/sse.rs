//! Server-sent events, both ways (WHATWG HTML living standard, section 9.2 "Server-sent events").
//!
//! What it promises: the same frames for every way of cutting a stream into chunks; LF, CRLF and CR line ends; a byte
//! order mark, comments and multi-line data; one bound for the memory of an unfinished event. An event that lies inside
//! one chunk is handed on as slices of that chunk, without copying.
//!
//! What it refuses to know: what the data means. Whether an unfinished last event can be used is the reader's decision:
//! the standard discards it, several vendors end their streams so, and only the data can prove that it is whole.

mod block;
mod gather;
pub mod lane;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr2;

pub(crate) use block::{Data, Fields, parse_block};
pub(crate) use gather::{Gather, Place};

/// The end marker of OpenAI streams, as an event.
pub const DONE: &[u8] = b"data: [DONE]\n\n";
/// A comment that keeps a silent connection open.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";
/// The usual bound of one event: 1 MiB.
pub const MAX_EVENT: usize = 1 << 20;

const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event` field, if it was sent and is not empty.
    pub event: Option<Bytes>,
    /// The data lines, joined by LF.
    pub data: Bytes,
    /// The block as it was sent, with its blank line.
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
    /// it is whole (`[DONE]`, a complete JSON object) may use it, and must never forward `raw`.
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

/// Incremental decoder of `text/event-stream`.
#[derive(Debug)]
pub struct SseDecoder {
    scanner: Scanner,
    queue: VecDeque<Frame>,
}

impl SseDecoder {
    /// A decoder at the start of a stream; `max_event` bounds one event in bytes, line ends included.
    pub fn new(max_event: usize) -> Self {
        Self { scanner: Scanner::new(max_event), queue: VecDeque::new() }
    }

    /// Feeds a chunk. The frames that it completes wait in [`SseDecoder::next`].
    ///
    /// # Errors
    /// [`SseError::TooLarge`]; the stream cannot be read further, frames before the fault can still be taken.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), SseError> {
        let queue = &mut self.queue;
        self.scanner.scan(&chunk, |block| {
            let raw = match block {
                Block::Inside(range) => chunk.slice(range),
                Block::Across(bytes) => bytes,
                Block::Comment => return queue.push_back(Frame::Comment),
            };
            match event_of(raw) {
                Ok(event) => queue.push_back(Frame::Event(event)),
                Err(true) => queue.push_back(Frame::Comment),
                Err(false) => {}
            }
        })
    }

    /// The next frame, if a whole one is there.
    #[expect(
        clippy::should_implement_trait,
        reason = "more frames may come after None, so it is no iterator"
    )]
    pub fn next(&mut self) -> Option<Frame> {
        self.queue.pop_front()
    }

    /// Ends the stream: an unfinished event as [`Frame::Tail`], if it has data. Call it when `next` gives `None`.
    pub fn finish(&mut self) -> Option<Frame> {
        event_of(self.scanner.take_tail()).ok().map(Frame::Tail)
    }
}

/// An event, or whether the block held comments only.
fn event_of(raw: Bytes) -> Result<Event, bool> {
    let fields = parse_block(&raw);
    let data = match fields.data {
        Data::None => return Err(fields.comment),
        Data::One(range) => raw.slice(range),
        Data::Many(joined) => Bytes::from(joined),
    };
    Ok(Event {
        event: fields.event.filter(|range| !range.is_empty()).map(|range| raw.slice(range)),
        data,
        raw,
    })
}

/// Writes one event: the name, if any, one `data` line per line of `data`, and the blank line.
///
/// Line ends of any kind in `data` separate lines; in the name they cannot be expressed and end it.
pub fn encode_event(out: &mut BytesMut, event: Option<&str>, data: &[u8]) {
    if let Some(name) = event {
        let end = memchr2(b'\n', b'\r', name.as_bytes()).unwrap_or(name.len());
        out.reserve(end + data.len() + 24);
        out.put_slice(b"event: ");
        out.put_slice(&name.as_bytes()[..end]);
        out.put_u8(b'\n');
    }
    let mut rest = data;
    loop {
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        out.put_slice(b"data: ");
        out.put_slice(&rest[..end]);
        out.put_u8(b'\n');
        let crlf = rest[end..].starts_with(b"\r\n");
        match rest.get(end + 1 + usize::from(crlf)..) {
            Some(next) if end < rest.len() => rest = next,
            _ => break,
        }
    }
    out.put_u8(b'\n');
}

/// A block of lines that a blank line closed, or a comment between blocks.
pub(crate) enum Block {
    /// It lies inside the chunk.
    Inside(Range<usize>),
    /// It began in an earlier chunk.
    Across(Bytes),
    /// A comment line outside any block: dropped at once, so that a silent vendor's comments never pile up.
    Comment,
}

/// Finds the ends of blocks. Every byte is looked at once, whatever the chunks.
#[derive(Debug)]
pub(crate) struct Scanner {
    max: usize,
    /// The unfinished block's bytes from earlier chunks.
    carry: BytesMut,
    /// How many bytes of a byte order mark were seen; 3 when the question is settled.
    bom: usize,
    /// The last chunk ended in CR: a LF that comes first belongs to it.
    after_cr: bool,
    /// The current line has a first byte.
    in_line: bool,
    /// That first byte is a colon.
    in_comment: bool,
    /// The block has a line that is not a comment before it.
    in_block: bool,
    broken: bool,
}

impl Scanner {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            carry: BytesMut::new(),
            bom: 0,
            after_cr: false,
            in_line: false,
            in_comment: false,
            in_block: false,
            broken: false,
        }
    }

    /// Calls `sink` for every block that `chunk` completes.
    pub(crate) fn scan(&mut self, chunk: &Bytes, mut sink: impl FnMut(Block)) -> Result<(), SseError> {
        if self.broken {
            return Err(SseError::TooLarge(self.max));
        }
        let bytes = chunk.as_ref();
        let mut at = self.skip_bom(bytes);
        if at < bytes.len() && std::mem::take(&mut self.after_cr) && bytes[at] == b'\n' {
            at += 1;
        }
        let mut start = at;
        while at < bytes.len() {
            if !self.in_line && !matches!(bytes[at], b'\n' | b'\r') {
                self.in_line = true;
                self.in_comment = bytes[at] == b':';
            }
            let Some(length) = memchr2(b'\n', b'\r', &bytes[at..]) else { break };
            at += length + 1;
            if bytes[at - 1] == b'\r' {
                match bytes.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.check(at - start)?;
            if let Some(block) = self.end_line(bytes, start, at) {
                start = at;
                if let Some(block) = block {
                    sink(block);
                }
            }
        }
        self.check(bytes.len() - start)?;
        self.carry.extend_from_slice(&bytes[start..]);
        Ok(())
    }

    /// Ends the line before `at`. `Some` when everything before `at` is dealt with, with the block if there is one.
    fn end_line(&mut self, bytes: &[u8], start: usize, at: usize) -> Option<Option<Block>> {
        let blank = !std::mem::take(&mut self.in_line);
        let comment = std::mem::take(&mut self.in_comment);
        if blank && self.in_block {
            self.in_block = false;
            if self.carry.is_empty() {
                return Some(Some(Block::Inside(start..at)));
            }
            self.carry.extend_from_slice(&bytes[start..at]);
            return Some(Some(Block::Across(self.carry.split().freeze())));
        }
        if self.in_block || !(blank || comment) {
            self.in_block = true;
            return None;
        }
        self.carry.clear();
        Some(comment.then_some(Block::Comment))
    }

    fn skip_bom(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while self.bom < BOM.len() && at < bytes.len() {
            if bytes[at] != BOM[self.bom] {
                if self.bom > 0 {
                    // No mark after all: its first bytes were the first bytes of a line.
                    self.carry.extend_from_slice(&BOM[..self.bom]);
                    self.in_line = true;
                    // The bytes of this chunk that were taken for the mark are in `carry` now.
                }
                self.bom = BOM.len();
                return at;
            }
            self.bom += 1;
            at += 1;
        }
        at
    }

    fn check(&mut self, more: usize) -> Result<(), SseError> {
        if self.carry.len() + more > self.max {
            self.broken = true;
            self.carry = BytesMut::new();
            return Err(SseError::TooLarge(self.max));
        }
        Ok(())
    }

    /// The unfinished block's bytes; the scanner is at its end.
    pub(crate) fn take_tail(&mut self) -> Bytes {
        self.carry.split().freeze()
    }
}
