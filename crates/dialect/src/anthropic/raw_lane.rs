//! The fast lane of one upstream stream: an Anthropic vendor's events for an Anthropic asker.
//!
//! What it promises: only whole, well-formed events leave, each as the vendor wrote it, those of one chunk together as a
//! slice of it; `message_stop` alone makes an answer complete; every cut, error or garbage becomes one `Failed` at its
//! own place. What it refuses to know: the content of the events.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use penstock_domain::{Code, Delta, Dialect, Error, FinishReason, Notes, RawEvents};

use super::wire::{self, End, Message, Tokens, View};
use crate::openai::error::{bad_response, in_band_error};
use crate::openai::raw_lane::cut;
use crate::sse::{self, Block, Data, Gather, Place, Scanner, parse_block};
use crate::vendor;

/// Turns the chunks of a body into [`Delta::Raw`].
#[derive(Debug)]
pub struct RawLane {
    scanner: Scanner,
    lane: Lane,
}

impl Default for RawLane {
    fn default() -> Self {
        Self::new()
    }
}

impl RawLane {
    /// A lane at the start of a stream.
    pub fn new() -> Self {
        Self { scanner: Scanner::new(sse::MAX_EVENT), lane: Lane::default() }
    }
}

impl vendor::Lane for RawLane {
    fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        let lane = &mut self.lane;
        let scanned = self.scanner.scan(&chunk, |block| match block {
            Block::Inside(range) => lane.block(&chunk[range.clone()], || Place::Inside(range), &chunk),
            Block::Across(bytes) => lane.block(&bytes, || Place::Own(bytes.clone()), &chunk),
            Block::Comment => {}
        });
        lane.flush(&chunk);
        scanned.map_err(|e| {
            lane.failed = true;
            Error::new(Code::UpstreamBadResponse, format!("the provider's stream cannot be read: {e}"))
        })
    }

    fn next(&mut self) -> Option<Delta> {
        self.lane.queue.pop_front()
    }

    fn finish(&mut self) -> Option<Delta> {
        let tail = self.scanner.take_tail();
        if !tail.is_empty() && !self.is_over() {
            self.lane.tail(&tail);
        }
        let waiting = self.lane.queue.pop_front();
        if waiting.is_some() || self.is_over() {
            return waiting;
        }
        self.lane.failed = true;
        Some(Delta::Failed(cut()))
    }

    fn is_over(&self) -> bool {
        self.lane.done || self.lane.failed
    }
}

#[derive(Debug, Default)]
struct Lane {
    started: bool,
    done: bool,
    failed: bool,
    tokens: Tokens,
    run: Gather,
    notes: Notes,
    queue: VecDeque<Delta>,
}

impl Lane {
    /// Takes one block; `place` says where its bytes are.
    fn block(&mut self, block: &[u8], place: impl FnOnce() -> Place, chunk: &Bytes) {
        if self.done || self.failed {
            return;
        }
        let fields = parse_block(block);
        let data: &[u8] = match &fields.data {
            Data::None => return,
            Data::One(range) => &block[range.clone()],
            Data::Many(joined) => joined,
        };
        match self.look(data) {
            Ok(view) if fields.named => {
                // Clients go by the name, we go by the type: they must agree.
                let name = fields.event.map_or(&b""[..], |range| &block[range]);
                if name == view.kind.as_bytes() {
                    self.run.keep(place(), chunk);
                } else {
                    self.run.write(Some(&view.kind), &[data], chunk);
                }
            }
            Ok(view) => self.run.write(Some(&view.kind), &[data], chunk),
            Err(error) => {
                self.flush(chunk);
                self.failed = true;
                self.queue.push_back(Delta::Failed(error));
            }
        }
    }

    /// An event without its blank line is whole only if its data proves it.
    fn tail(&mut self, block: &[u8]) {
        let fields = parse_block(block);
        let data = match fields.data {
            Data::None => return,
            Data::One(range) => block[range].to_vec(),
            Data::Many(joined) => joined,
        };
        let Some(view) = wire::view(&data) else { return };
        let mut whole = BytesMut::with_capacity(data.len() + 64);
        sse::encode_event(&mut whole, Some(&view.kind), &data);
        let whole = whole.freeze();
        self.block(&whole, || Place::Inside(0..whole.len()), &whole);
        self.flush(&whole);
    }

    /// Learns what an event tells in passing.
    fn look<'d>(&mut self, data: &'d [u8]) -> Result<View<'d>, Error> {
        let Some(view) = wire::view(data) else {
            return Err(bad_response("has an event that is not JSON of its dialect", data));
        };
        match view.kind.as_ref() {
            "error" => return Err(in_band_error(data)),
            "message_start" => {
                self.started = true;
                let opening: Option<Message<'_>> =
                    view.message.and_then(|raw| serde_json::from_str(raw.get()).ok());
                self.tokens = opening.map(|message| message.tokens()).unwrap_or_default();
            }
            "content_block_delta" => self.notes.content = true,
            "content_block_start" => self.notes.content |= opens_with_content(&view),
            "message_delta" => {
                self.notes.content = true;
                self.notes.finish = end(&view).or(self.notes.finish);
                if let Some(later) = view.tokens() {
                    self.tokens.update(&later);
                    self.notes.usage = self.tokens.usage();
                }
            }
            "message_stop" if !self.started => {
                return Err(bad_response("is a stream that ends before it begins", data));
            }
            "message_stop" => self.done = true,
            _ => {}
        }
        self.notes.events += 1;
        Ok(view)
    }

    fn flush(&mut self, chunk: &Bytes) {
        let Some(bytes) = self.run.take(chunk) else { return };
        let notes = std::mem::take(&mut self.notes);
        self.queue.push_back(Delta::Raw(RawEvents { dialect: Dialect::Anthropic, bytes, notes }));
    }
}

/// Text and thinking open empty; whatever else a block is, its opening already says something.
fn opens_with_content(view: &View<'_>) -> bool {
    let block: Option<wire::Block<'_>> =
        view.content_block.and_then(|raw| serde_json::from_str(raw.get()).ok());
    block.is_none_or(|block| !matches!(block.kind.as_ref(), "text" | "thinking"))
}

/// Why the answer ended, if this `message_delta` says it.
pub(super) fn end(view: &View<'_>) -> Option<FinishReason> {
    let end: End<'_> = serde_json::from_str(view.delta?.get()).ok()?;
    end.stop_reason.map(|reason| wire::finish(&reason))
}
