//! A stream of events: the engine's steps through a dialect's encoder, waiting where the script waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem;
use penstock_dialect::Encode as _;
use penstock_dialect::openai::stream::StreamEncoder;
use penstock_domain::{Delta, Dialect};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{gemini, messages, responses, vendor};
use crate::answer::{Answer, Step};
use crate::script::Directives;

/// Events without a pause between them leave together up to this many bytes.
const BATCH: usize = 16 * 1024;
/// The text that is no JSON.
const MALFORMED: &[u8] =
    b"data: {\"id\":\"mock\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"brok\n\n";

/// The encoder of a dialect.
pub(crate) enum Encoder {
    OpenAi(Box<StreamEncoder>),
    Anthropic(Box<messages::Encoder>),
    Gemini(Box<gemini::Encoder>),
    Responses(Box<responses::Writer>),
}

impl Encoder {
    fn dialect(&self) -> Dialect {
        match self {
            Self::OpenAi(_) => Dialect::OpenAi,
            Self::Anthropic(_) => Dialect::Anthropic,
            Self::Gemini(_) => Dialect::Gemini,
            Self::Responses(_) => Dialect::Responses,
        }
    }

    fn encode(&mut self, delta: Delta, out: &mut BytesMut) {
        match self {
            Self::OpenAi(encoder) => encoder.encode(delta, out),
            Self::Anthropic(encoder) => encoder.encode(delta, out),
            Self::Gemini(encoder) => encoder.encode(delta, out),
            Self::Responses(writer) => writer.encode(delta, out),
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        match self {
            Self::OpenAi(encoder) => encoder.finish(out),
            Self::Anthropic(encoder) => encoder.finish(out),
            Self::Gemini(encoder) => encoder.finish(out),
            Self::Responses(writer) => writer.finish(out),
        }
    }
}

/// Events on their way.
pub(crate) struct Events {
    answer: Answer,
    encoder: Encoder,
    out: BytesMut,
    faults: Option<Box<EventFaults>>,
    omit_done: bool,
    pause: Option<Duration>,
    clock: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Speaking,
    Silent,
    Over,
    /// The script breaks the connection here.
    Broken,
}

/// What happens to single events.
struct EventFaults {
    malformed: Option<u32>,
    error: Option<u32>,
    cut: Option<u32>,
    crlf: bool,
    comments: bool,
    index: u32,
    scratch: BytesMut,
}

impl Events {
    pub(crate) fn new(answer: Answer, encoder: Encoder, directives: &Arc<Directives>) -> Self {
        let faults = EventFaults {
            malformed: directives.malformed_event,
            error: directives.error_event,
            cut: directives.cut_at_event,
            crlf: directives.crlf,
            comments: directives.comments,
            index: 0,
            scratch: BytesMut::new(),
        };
        let single = [faults.malformed, faults.error, faults.cut];
        let any = single.iter().any(Option::is_some) || faults.crlf || faults.comments;
        Self {
            answer,
            encoder,
            out: BytesMut::new(),
            faults: any.then(|| Box::new(faults)),
            omit_done: directives.omit_done,
            pause: None,
            clock: None,
            sleep: None,
            state: State::Speaking,
        }
    }

    /// Tokens said so far.
    pub(crate) fn produced(&self) -> u64 {
        self.answer.produced()
    }

    /// Whether what was given out ends where the script breaks the connection.
    pub(crate) fn broken(&self) -> bool {
        self.state == State::Broken
    }

    /// The next bytes: whole events, as many as come without a pause.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if matches!(self.state, State::Over | State::Broken) {
                return Poll::Ready(self.flush());
            }
            if self.pause.is_some() || self.state == State::Silent || self.out.len() >= BATCH {
                if let Some(bytes) = self.flush() {
                    return Poll::Ready(Some(bytes));
                }
                if self.state == State::Silent {
                    return Poll::Pending;
                }
                ready!(self.poll_pause(context));
            }
            match self.answer.next() {
                Some(Step::Pause(pause)) => self.pause = Some(pause),
                Some(Step::Hang) => self.state = State::Silent,
                Some(Step::Say(delta)) => self.say(delta),
                None => self.finish(),
            }
        }
    }

    /// Waits until the pause is over. Pauses are counted from the first, so that late wakes do not add up.
    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(pause) = self.pause else { return Poll::Ready(()) };
        let clock = *self.clock.get_or_insert_with(Instant::now) + pause;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(clock)));
        if sleep.deadline() != clock {
            sleep.as_mut().reset(clock);
        }
        ready!(sleep.as_mut().poll(context));
        self.clock = Some(clock);
        self.pause = None;
        Poll::Ready(())
    }

    fn flush(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }

    fn say(&mut self, delta: Delta) {
        let Some(faults) = &mut self.faults else {
            self.encoder.encode(delta, &mut self.out);
            return;
        };
        self.encoder.encode(delta, &mut faults.scratch);
        if let Some(end) = faults.apply(self.encoder.dialect(), &mut self.out) {
            self.state = end;
        }
    }

    fn finish(&mut self) {
        self.state = State::Over;
        let mut end = BytesMut::new();
        self.encoder.finish(&mut end);
        if self.omit_done {
            // Only the end marker is left out; the events that the encoder kept back for the end are not.
            let closing = end.len().saturating_sub(2);
            let last = memmem::rfind(&end[..closing], b"\n\n").map_or(0, |at| at + 2);
            end.truncate(last);
        }
        match &mut self.faults {
            None => self.out.unsplit(end),
            Some(faults) => {
                faults.scratch.put_slice(&end);
                if let Some(end) = faults.apply(self.encoder.dialect(), &mut self.out) {
                    self.state = end;
                }
            }
        }
    }
}

impl EventFaults {
    /// Moves the events that wait to `out`, changed where the script says so. Says how, when the stream ends here.
    fn apply(&mut self, dialect: Dialect, out: &mut BytesMut) -> Option<State> {
        while let Some(at) = memmem::find(&self.scratch, b"\n\n") {
            let event = self.scratch.split_to(at + 2);
            let index = self.index;
            self.index += 1;
            if self.cut == Some(index) {
                return Some(State::Broken);
            }
            if self.comments {
                self.write(b": the mock is alive\n\n", out);
            }
            if self.error == Some(index) {
                self.write(vendor::error_event(dialect).as_bytes(), out);
                return Some(State::Over);
            }
            let malformed = self.malformed == Some(index);
            self.write(if malformed { MALFORMED } else { &event }, out);
        }
        None
    }

    fn write(&self, event: &[u8], out: &mut BytesMut) {
        if !self.crlf {
            return out.put_slice(event);
        }
        for line in event.split_inclusive(|byte| *byte == b'\n') {
            out.put_slice(line.strip_suffix(b"\n").unwrap_or(line));
            out.put_slice(b"\r\n");
        }
    }
}
