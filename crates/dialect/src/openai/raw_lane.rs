//! The fast lane of one upstream stream: an OpenAI vendor's events for an OpenAI asker.
//!
//! What it promises: only whole, well-formed events leave, each as the vendor wrote it; a chunk's events leave together,
//! as a slice of the chunk where nothing has to be cut out; every cut, error or garbage becomes one `Failed` at its own
//! place. What it refuses to know: the content of the events.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use penstock_domain::{Code, Delta, Dialect, Error, Notes, RawEvents, Request, Task};
use serde_json::value::RawValue;

use super::error::{bad_response, in_band_error};
use super::view::{self, ChoiceSet};
use crate::json;
use crate::sse::{self, Block, Data, Gather, Place, Scanner, parse_block};
use crate::vendor;

/// Turns the chunks of a body into [`Delta::Raw`].
#[derive(Debug)]
pub struct RawLane {
    scanner: Scanner,
    lane: Lane,
}

impl RawLane {
    /// A lane at the start of a stream. `strip_usage`: the asker did not ask for usage, so the usage-only event and the
    /// `usage` members are cut out; what they say is in the notes, or in a [`Delta::Usage`] of its own.
    pub fn new(task: Task, strip_usage: bool) -> Self {
        let lane = Lane {
            task,
            strip_usage,
            expected: 1,
            ended: ChoiceSet::default(),
            seen: ChoiceSet::default(),
            events: 0,
            done: false,
            failed: false,
            run: Gather::Empty,
            notes: Notes::default(),
            queue: VecDeque::new(),
        };
        Self { scanner: Scanner::new(sse::MAX_EVENT), lane }
    }

    /// A lane for the answer to this request.
    pub fn for_request(request: &Request) -> Self {
        Self::new(request.task, !request.stream_usage).expecting(request.choices)
    }

    /// How many choices must finish at least for a stream without `[DONE]` to be complete; 1 unless told.
    #[must_use]
    pub fn expecting(mut self, choices: u32) -> Self {
        self.lane.expected = choices;
        self
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
        self.lane.failed = !self.lane.is_complete();
        self.lane.failed.then(|| Delta::Failed(cut()))
    }

    fn is_over(&self) -> bool {
        self.lane.done || self.lane.failed
    }
}

/// The stream ended before the answer was complete.
pub(crate) fn cut() -> Error {
    Error::new(Code::UpstreamStreamCut, "the provider's stream ended before the answer was complete")
}

#[derive(Debug)]
struct Lane {
    task: Task,
    strip_usage: bool,
    expected: u32,
    ended: ChoiceSet,
    seen: ChoiceSet,
    events: u64,
    done: bool,
    failed: bool,
    run: Gather,
    notes: Notes,
    queue: VecDeque<Delta>,
}

impl Lane {
    fn is_complete(&self) -> bool {
        self.done || (self.ended.len() >= self.expected.max(1) && self.ended == self.seen)
    }

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
        if data == b"[DONE]" {
            return self.end(chunk);
        }
        let name = fields.event.map_or(&b""[..], |range| &block[range]);
        match self.look(name, data) {
            Seen::Skip => {}
            Seen::Usage(usage) => {
                self.flush(chunk);
                self.queue.push_back(Delta::Usage(usage));
            }
            Seen::Whole if fields.canonical => self.run.keep(place(), chunk),
            Seen::Whole => self.run.write(None, &[data], chunk),
            Seen::Without(cut) => self.run.write(None, &[&data[..cut.start], &data[cut.end..]], chunk),
            Seen::Wrong(error) => {
                self.flush(chunk);
                self.fail(error);
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
        if data != b"[DONE]" && view::view(&data).is_none() {
            return;
        }
        let mut whole = BytesMut::with_capacity(data.len() + 16);
        sse::encode_event(&mut whole, None, &data);
        let whole = whole.freeze();
        self.block(&whole, || Place::Inside(0..whole.len()), &whole);
        self.flush(&whole);
    }

    fn end(&mut self, chunk: &Bytes) {
        self.flush(chunk);
        if self.events == 0 {
            return self.fail(bad_response("is a stream without a single event", b""));
        }
        self.done = true;
    }

    fn look(&mut self, name: &[u8], data: &[u8]) -> Seen {
        let Some(view) = view::view(data) else {
            return match name {
                b"" | b"message" | b"error" => {
                    Seen::Wrong(bad_response("has an event that is not JSON", data))
                }
                // A kind of event that we do not know and that is no chunk: nobody here waits for it.
                _ => Seen::Skip,
            };
        };
        if view.error.is_some() || name == b"error" || view.choices.broke {
            return Seen::Wrong(in_band_error(data));
        }
        self.events += 1;
        self.seen.extend(&view.choices.seen);
        self.ended.extend(&view.choices.ended);
        let usage = view.usage.and_then(|raw| view::usage(raw, self.task));
        let bare = view.choices.count == 0;
        let cut = view.usage.filter(|_| self.strip_usage).and_then(|raw| cut_of(data, raw));
        if let (Some(usage), true, true) = (usage, bare, self.strip_usage) {
            return Seen::Usage(usage);
        }
        self.notes.events += 1;
        self.notes.content |= view.choices.content;
        self.notes.finish = view.choices.finish.or(self.notes.finish);
        self.notes.usage = usage.or(self.notes.usage);
        cut.map_or(Seen::Whole, Seen::Without)
    }

    fn flush(&mut self, chunk: &Bytes) {
        let Some(bytes) = self.run.take(chunk) else { return };
        let notes = std::mem::take(&mut self.notes);
        self.queue.push_back(Delta::Raw(RawEvents { dialect: Dialect::OpenAi, bytes, notes }));
    }

    fn fail(&mut self, error: Error) {
        self.failed = true;
        self.queue.push_back(Delta::Failed(error));
    }
}

/// What to do with an event.
enum Seen {
    Skip,
    Whole,
    Without(Range<usize>),
    Usage(penstock_domain::Usage),
    Wrong(Error),
}

/// The `usage` member's bytes in an event's data.
fn cut_of(data: &[u8], raw: &RawValue) -> Option<Range<usize>> {
    let text = std::str::from_utf8(data).ok()?;
    json::member_range(data, json::place_of(text, raw.get()))
}
