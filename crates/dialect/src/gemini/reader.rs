//! Google's answers in words of every dialect: a stream of events, or a whole body.
//!
//! What it promises: the stream has no end marker, so an answer is complete only when every candidate that was asked for
//! told why it ended; a cut stream is a failure. What it refuses to know: askers.

use std::collections::VecDeque;

use penstock_domain::{Delta, Error, Request};
use serde_json::value::RawValue;

use super::wire::Reading;
use crate::openai::error::bad_response;
use crate::sse::lane::{Event, EventLane, Events, Step};

/// Most responses of a stream that came as one JSON list.
const MAX_RESPONSES: usize = 1 << 20;

/// Reads the events of `streamGenerateContent?alt=sse`.
pub type ResponseReader = EventLane<Responses>;

impl ResponseReader {
    /// A reader at the start of the answer to this request.
    pub fn new(request: &Request) -> Self {
        Self::over(Responses { reading: Reading::new(request.id.as_str(), request.choices) })
    }
}

/// What the responses of a stream say.
#[derive(Debug)]
pub struct Responses {
    reading: Reading,
}

impl Events for Responses {
    fn event(&mut self, event: Event<'_>, out: &mut VecDeque<Delta>) -> Result<Step, Error> {
        let mut deltas = Vec::new();
        let read = self.reading.read(event.data, &mut deltas);
        out.extend(deltas);
        // Usage comes with every event, for good in the last one; where that is late it is waited for.
        match read? {
            Some(usage) if self.reading.complete() => {
                out.push_back(Delta::Usage(usage));
                Ok(Step::End)
            }
            _ => Ok(Step::On),
        }
    }

    fn is_complete(&self) -> bool {
        self.reading.complete()
    }

    fn is_whole(&self, data: &[u8]) -> bool {
        serde_json::from_slice::<&RawValue>(data).is_ok()
    }
}

/// The deltas of a 200 that is no stream of events: one response, or a list of those that a stream would have had.
///
/// # Errors
/// The error that the body carries, mapped as a vendor's; `upstream_bad_response` for what is no answer.
pub fn unfold(request: &Request, body: &[u8]) -> Result<Vec<Delta>, Error> {
    let mut reading = Reading::new(request.id.as_str(), request.choices);
    let mut deltas = Vec::new();
    let mut usage = None;
    for response in responses(body)? {
        usage = reading.read(response, &mut deltas)?.or(usage);
    }
    if reading.is_empty() {
        return Err(bad_response("has neither candidates nor a reason for having none", body));
    }
    reading.end_all(&mut deltas);
    // What is left out is told before anything else, while it can still be.
    deltas.sort_by_key(|delta| !matches!(delta, Delta::Dropped(_)));
    deltas.extend(usage.map(Delta::Usage));
    Ok(deltas)
}

fn responses(body: &[u8]) -> Result<Vec<&[u8]>, Error> {
    if body.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'[') {
        return Ok(vec![body]);
    }
    let items: Vec<&RawValue> =
        serde_json::from_slice(body).map_err(|_| bad_response("is not JSON of its dialect", body))?;
    if items.len() > MAX_RESPONSES {
        return Err(bad_response("has too many parts", body));
    }
    Ok(items.into_iter().map(|item| item.get().as_bytes()).collect())
}
