//! Streams of typed events.
//!
//! What it promises: [`StreamEncoder`] numbers events densely and ends with exactly one terminal event that has the whole
//! response; a failure becomes `response.failed`, or `error` when no response has begun, after which it is silent.

use bytes::{BufMut, BytesMut};
use penstock_domain::{Delta, Dialect, Error, RawEvents, Request};

use super::draft::Draft;
use super::envelope::{End, Envelope};
use super::reader;
use super::state::response_id_of_events;
use super::tell::{Piece, Tell, Written};
use crate::asker::Encode;

/// Writes deltas as events for a responses asker. Of several choices only the first is written.
#[derive(Debug)]
pub struct StreamEncoder {
    /// Until the answer has begun: what it repeats of the request is kept, the prompt is let go.
    request: Option<Request>,
    created: u64,
    /// The answer as it is made here.
    answer: Option<(Envelope, Draft)>,
    /// The number of the next event.
    next: u64,
    /// The vendor's response, where its events pass: the terminal one is among them.
    raw: Option<Raw>,
    over: bool,
    failed: bool,
}

/// What is known of a response whose events pass.
#[derive(Debug)]
struct Raw {
    id: Option<String>,
    model: String,
}

impl StreamEncoder {
    /// An encoder for the answer to this request; `created` in seconds since the Unix epoch.
    pub fn new(request: &Request, created: u64) -> Self {
        Self {
            request: Some(request.clone()),
            created,
            answer: None,
            next: 0,
            raw: None,
            over: false,
            failed: false,
        }
    }

    /// Whether a terminal error was written.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Makes sure that the answer has begun; `model` as the vendor names it.
    fn begin(&mut self, model: &str, out: &mut BytesMut) {
        let Some(request) = self.request.take().filter(|_| self.answer.is_none()) else { return };
        let (envelope, draft) = Envelope::begin(&request, self.created, model);
        let response = envelope.json(&End::Open, Vec::new(), None);
        let mut events = Written { out, next: &mut self.next };
        for kind in ["response.created", "response.in_progress"] {
            events.tell(kind, &[("response", Piece::Raw(&response))]);
        }
        self.answer = Some((envelope, draft));
    }

    fn push(&mut self, delta: Delta, out: &mut BytesMut) {
        self.begin("", out);
        let Some((_, draft)) = &mut self.answer else { return };
        let mut events = Written { out: &mut *out, next: &mut self.next };
        if let Err(error) = draft.push(delta, &mut events) {
            self.fail(&error, out);
        }
    }

    fn fail(&mut self, error: &Error, out: &mut BytesMut) {
        self.over = true;
        self.failed = true;
        let end = End::Failed(error);
        let response = match (&self.answer, &mut self.raw) {
            (Some((envelope, draft)), _) => Some(envelope.json(&end, draft.output(), draft.usage.as_ref())),
            (None, Some(Raw { id, model })) => {
                id.take().map(|id| Envelope::bare(id, self.created, model).json(&end, Vec::new(), None))
            }
            (None, None) => None,
        };
        let mut events = Written { out, next: &mut self.next };
        match response {
            Some(response) => events.tell("response.failed", &[("response", Piece::Raw(&response))]),
            None => {
                let param = error.param().map_or(Piece::Raw("null"), Piece::Text);
                let code = ("code", Piece::Text(error.code().name()));
                events.tell("error", &[code, ("message", Piece::Text(error.say())), ("param", param)]);
            }
        }
    }
}

impl Encode for StreamEncoder {
    fn encode(&mut self, delta: Delta, out: &mut BytesMut) {
        if self.over {
            return;
        }
        match delta {
            Delta::Started(started) => self.begin(&started.model, out),
            // Neither has a place in this dialect's events.
            Delta::Dropped(_) | Delta::Counted { .. } | Delta::Resumed => {}
            Delta::Raw(raw) if raw.dialect == Dialect::Responses => {
                self.passed(&raw);
                out.put_slice(&raw.bytes);
            }
            Delta::Whole(whole) if whole.dialect == Dialect::Responses => {
                match reader::unfold(&whole.bytes) {
                    Ok(deltas) => deltas.into_iter().for_each(|delta| self.encode(delta, out)),
                    Err(error) => self.fail(&error, out),
                }
            }
            Delta::Failed(error) => self.fail(&error, out),
            delta => self.push(delta, out),
        }
    }

    fn passed(&mut self, raw: &RawEvents) {
        // Vendors number their events as we do: from 0, each once.
        self.next = self.next.saturating_add(u64::from(raw.notes.events));
        if self.raw.is_none() {
            let model = self.request.take().map_or_else(String::new, |request| request.model.to_string());
            self.raw = Some(Raw { id: response_id_of_events(&raw.bytes), model });
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.over, true) || self.raw.is_some() {
            return;
        }
        self.begin("", out);
        let Some((envelope, draft)) = &mut self.answer else { return };
        let mut events = Written { out, next: &mut self.next };
        draft.close(&mut events);
        let end = End::Whole(draft.finish);
        let response = envelope.json(&end, draft.output(), draft.usage.as_ref());
        events.tell(end.event(), &[("response", Piece::Raw(&response))]);
    }
}
