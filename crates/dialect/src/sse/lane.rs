//! What every lane over server-sent events has in common: blocks become events, events become deltas, and the end is
//! told from a cut.
//!
//! What it promises: [`EventLane`] hands each whole event once, in order and in any chunking, to its [`Events`]; after an
//! end or a failure it hands on nothing more; a stream that neither ended nor is complete fails as cut. [`Forward`] passes
//! events on as bytes: those of one chunk together, as a slice of the chunk where nothing has to be written anew.
//!
//! What it refuses to know: what an event means. A dialect says that in [`Events`], or in [`Rules`] when it forwards.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use penstock_domain::{Code, Delta, Dialect, Error, Notes, RawEvents, Usage};

use super::{Block, Data, Fields, Gather, MAX_EVENT, Place, Scanner, encode_event, parse_block};
use crate::vendor::Lane;

/// What becomes of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// More may follow.
    On,
    /// It was the end of a complete answer.
    End,
}

/// A dialect's way with the events of one stream.
pub trait Events: Send {
    /// Takes one whole event; what it says goes to the end of `out`.
    ///
    /// # Errors
    /// What the stream fails with, at this place.
    fn event(&mut self, event: Event<'_>, out: &mut VecDeque<Delta>) -> Result<Step, Error>;

    /// A chunk has been read to its end, or a failure is about to be told: what was gathered from it goes out.
    fn flush(&mut self, _chunk: &Bytes, _out: &mut VecDeque<Delta>) {}

    /// Whether the answer is complete, should the stream end here without its end marker.
    fn is_complete(&self) -> bool {
        false
    }

    /// Whether the data of a last event without its blank line prove that it is whole.
    fn is_whole(&self, data: &[u8]) -> bool;
}

/// One whole event on its way through a lane.
pub struct Event<'e> {
    /// Its name; empty when it has none.
    pub name: &'e [u8],
    /// Its data.
    pub data: &'e [u8],
    canonical: bool,
    named: bool,
    place: Place,
    chunk: &'e Bytes,
}

/// A lane over server-sent events.
pub struct EventLane<E> {
    scanner: Scanner,
    state: State<E>,
}

struct State<E> {
    events: E,
    queue: VecDeque<Delta>,
    over: bool,
}

impl<E: Events> EventLane<E> {
    /// A lane at the start of a stream.
    pub fn over(events: E) -> Self {
        // A chunk nearly always becomes one delta, and room for more would be kept for as long as the stream is open.
        let state = State { events, queue: VecDeque::with_capacity(1), over: false };
        Self { scanner: Scanner::new(MAX_EVENT), state }
    }

    /// The same with another bound of one event, in bytes: 1 MiB unless told.
    #[must_use]
    pub(crate) fn up_to(mut self, max_event: usize) -> Self {
        self.scanner = Scanner::new(max_event);
        self
    }

    /// The dialect's side, to be told more before the stream begins.
    pub(crate) fn events(&mut self) -> &mut E {
        &mut self.state.events
    }
}

impl<E: fmt::Debug> fmt::Debug for EventLane<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What waits in it is somebody's answer.
        f.debug_struct("EventLane")
            .field("events", &self.state.events)
            .field("over", &self.state.over)
            .finish()
    }
}

impl<E: Events> Lane for EventLane<E> {
    fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        let state = &mut self.state;
        let scanned = self.scanner.scan(&chunk, |block| match block {
            Block::Inside(range) => state.block(&chunk[range.clone()], Place::Inside(range), &chunk),
            Block::Across(bytes) => state.block(&bytes, Place::Own(bytes.clone()), &chunk),
            Block::Comment => {}
        });
        state.events.flush(&chunk, &mut state.queue);
        scanned.map_err(|e| {
            state.over = true;
            Error::new(Code::UpstreamBadResponse, format!("the provider's stream cannot be read: {e}"))
        })
    }

    fn next(&mut self) -> Option<Delta> {
        self.state.queue.pop_front()
    }

    fn finish(&mut self) -> Option<Delta> {
        let tail = self.scanner.take_tail();
        if !tail.is_empty() && !self.state.over {
            self.state.tail(&tail);
        }
        let waiting = self.state.queue.pop_front();
        if waiting.is_some()
            || std::mem::replace(&mut self.state.over, true)
            || self.state.events.is_complete()
        {
            return waiting;
        }
        Some(Delta::Failed(cut()))
    }

    fn is_over(&self) -> bool {
        self.state.over
    }
}

/// The stream ended before the answer was complete.
pub(crate) fn cut() -> Error {
    Error::new(Code::UpstreamStreamCut, "the provider's stream ended before the answer was complete")
}

impl<E: Events> State<E> {
    /// Takes one block; `place` says where its bytes are.
    fn block(&mut self, block: &[u8], place: Place, chunk: &Bytes) {
        if self.over {
            return;
        }
        let Fields { event, data, canonical, named, .. } = parse_block(block);
        let data: &[u8] = match &data {
            Data::None => return,
            Data::One(range) => &block[range.clone()],
            Data::Many(joined) => joined,
        };
        let name = event.map_or(&b""[..], |range| &block[range]);
        match self.events.event(Event { name, data, canonical, named, place, chunk }, &mut self.queue) {
            Ok(Step::On) => {}
            Ok(Step::End) => self.over = true,
            Err(error) => {
                self.events.flush(chunk, &mut self.queue);
                self.over = true;
                self.queue.push_back(Delta::Failed(error));
            }
        }
    }

    /// An event without its blank line is whole only if its data proves it.
    fn tail(&mut self, block: &[u8]) {
        let fields = parse_block(block);
        let name = fields.event.and_then(|range| std::str::from_utf8(&block[range]).ok());
        let data = match fields.data {
            Data::None => return,
            Data::One(range) => block[range].to_vec(),
            Data::Many(joined) => joined,
        };
        if !self.events.is_whole(&data) {
            return;
        }
        let mut whole = BytesMut::with_capacity(data.len() + 64);
        encode_event(&mut whole, name.filter(|name| !name.is_empty()), &data);
        let whole = whole.freeze();
        self.block(&whole, Place::Inside(0..whole.len()), &whole);
        self.events.flush(&whole, &mut self.queue);
    }
}

/// What a forwarding lane does with an event.
#[derive(Debug)]
pub enum Seen<'d> {
    /// Nobody waits for it.
    Skip,
    /// It passes, under this name if its dialect names its events.
    Pass(Option<Cow<'d, str>>),
    /// It passes without these bytes of its data.
    Without(Range<usize>),
    /// It says only this, which goes on as a delta of its own.
    Usage(Usage),
    /// It ends the answer; the asker's encoder writes the asker's own end.
    Done,
    /// It passes under this name and ends the answer.
    Last(Option<Cow<'d, str>>),
    /// The stream fails here.
    Wrong(Error),
}

/// What a dialect looks for in events that it forwards.
pub trait Rules: Send {
    /// The dialect of the bytes.
    const DIALECT: Dialect;

    /// Looks at one event; what it tells in passing is added to `notes`, which go out with the bytes.
    fn look<'d>(&mut self, name: &[u8], data: &'d [u8], notes: &mut Notes) -> Seen<'d>;

    /// As [`Events::is_complete`].
    fn is_complete(&self) -> bool {
        false
    }

    /// As [`Events::is_whole`].
    fn is_whole(&self, data: &[u8]) -> bool;
}

/// Passes a vendor's events on as bytes, to an asker of the vendor's dialect.
#[derive(Debug)]
pub struct Forward<R> {
    pub(crate) rules: R,
    run: Gather,
    notes: Notes,
}

impl<R: Rules> Forward<R> {
    /// Forwards by these rules.
    pub fn by(rules: R) -> Self {
        Self { rules, run: Gather::Empty, notes: Notes::default() }
    }

    fn pass(&mut self, event: Event<'_>, name: Option<Cow<'_, str>>) {
        let same = match &name {
            None => event.canonical,
            // Clients go by the name, we go by what the rules say: they must agree.
            Some(name) => event.named && event.name == name.as_bytes(),
        };
        if same {
            return self.run.keep(event.place, event.chunk);
        }
        self.run.write(name.as_deref(), &[event.data], event.chunk);
    }
}

impl<R: Rules> Events for Forward<R> {
    fn event(&mut self, event: Event<'_>, out: &mut VecDeque<Delta>) -> Result<Step, Error> {
        match self.rules.look(event.name, event.data, &mut self.notes) {
            Seen::Skip => {}
            Seen::Pass(name) => self.pass(event, name),
            Seen::Without(cut) => {
                self.run.write(None, &[&event.data[..cut.start], &event.data[cut.end..]], event.chunk);
            }
            Seen::Usage(usage) => {
                self.flush(event.chunk, out);
                out.push_back(Delta::Usage(usage));
            }
            Seen::Done => return Ok(Step::End),
            Seen::Last(name) => {
                self.pass(event, name);
                return Ok(Step::End);
            }
            Seen::Wrong(error) => return Err(error),
        }
        Ok(Step::On)
    }

    fn flush(&mut self, chunk: &Bytes, out: &mut VecDeque<Delta>) {
        let Some(bytes) = self.run.take(chunk) else { return };
        let notes = std::mem::take(&mut self.notes);
        out.push_back(Delta::Raw(RawEvents { dialect: R::DIALECT, bytes, notes }));
    }

    fn is_complete(&self) -> bool {
        self.rules.is_complete()
    }

    fn is_whole(&self, data: &[u8]) -> bool {
        self.rules.is_whole(data)
    }
}

/// What a dialect's events say, in words of every dialect.
pub trait Meaning: Send {
    /// Appends what an event says that the rules let pass.
    ///
    /// # Errors
    /// `upstream_bad_response` when it makes no sense; what was appended before still counts.
    fn read(&mut self, data: &[u8], out: &mut Vec<Delta>) -> Result<(), Error>;
}

/// Reads a vendor's events for askers of another dialect: the rules tell the end and the faults, in both lanes alike.
#[derive(Debug)]
pub struct Read<R, M> {
    pub(crate) rules: R,
    meaning: M,
    notes: Notes,
    said: Vec<Delta>,
}

impl<R: Rules, M: Meaning> Read<R, M> {
    /// Reads by these rules.
    pub fn by(rules: R, meaning: M) -> Self {
        Self { rules, meaning, notes: Notes::default(), said: Vec::new() }
    }
}

impl<R: Rules, M: Meaning> Events for Read<R, M> {
    fn event(&mut self, event: Event<'_>, out: &mut VecDeque<Delta>) -> Result<Step, Error> {
        let step = match self.rules.look(event.name, event.data, &mut self.notes) {
            Seen::Skip => return Ok(Step::On),
            Seen::Done => return Ok(Step::End),
            Seen::Wrong(error) => return Err(error),
            Seen::Last(_) => Step::End,
            Seen::Pass(_) | Seen::Without(_) | Seen::Usage(_) => Step::On,
        };
        let read = self.meaning.read(event.data, &mut self.said);
        out.extend(self.said.drain(..));
        read.map(|()| step)
    }

    fn is_complete(&self) -> bool {
        self.rules.is_complete()
    }

    fn is_whole(&self, data: &[u8]) -> bool {
        self.rules.is_whole(data)
    }
}
