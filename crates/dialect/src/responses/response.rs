//! Whole answers as one response.

use bytes::Bytes;
use penstock_domain::{Delta, Dialect, Error, Request};

use super::draft::Draft;
use super::envelope::{End, Envelope};
use super::reader::Said;
use super::tell::Silent;
use crate::asker::Fold;
use crate::openai::error::bad_response;
use crate::sse::lane::Meaning;
use crate::sse::{Frame, SseDecoder};

/// Folds deltas into one response. Of several choices only the first is kept: the dialect knows one.
#[derive(Debug)]
pub struct Folder {
    request: Request,
    created: u64,
    answer: Option<(Envelope, Draft)>,
    /// Reads the vendor's own events, should they come here.
    said: Said,
    whole: Option<Bytes>,
    /// The count of a request that was only counted.
    counted: Option<u64>,
}

impl Folder {
    /// A folder for the answer to this request; `created` in seconds since the Unix epoch.
    pub fn new(request: &Request, created: u64) -> Self {
        Self {
            request: request.clone(),
            created,
            answer: None,
            said: Said::default(),
            whole: None,
            counted: None,
        }
    }

    /// The answer, begun if it has not; `model` as the vendor names it.
    fn answer(&mut self, model: &str) -> &mut (Envelope, Draft) {
        let begin = || Envelope::begin(&self.request, self.created, model);
        self.answer.get_or_insert_with(begin)
    }

    /// Reads events that were to be passed on.
    fn events(&mut self, bytes: Bytes) -> Result<(), Error> {
        let mut decoder = SseDecoder::new(usize::MAX);
        // Without a bound nothing can be too large; the lane has bounded these events before.
        let _ = decoder.push(bytes);
        let mut deltas = Vec::new();
        while let Some(frame) = decoder.next() {
            if let Frame::Event(event) = frame {
                self.said.read(&event.data, &mut deltas)?;
            }
        }
        deltas.into_iter().try_for_each(|delta| self.push(delta))
    }
}

impl Fold for Folder {
    fn push(&mut self, delta: Delta) -> Result<(), Error> {
        match delta {
            Delta::Started(started) => {
                self.answer(&started.model);
                Ok(())
            }
            Delta::Whole(whole) if whole.dialect == Dialect::Responses => {
                self.whole = Some(whole.bytes);
                Ok(())
            }
            Delta::Counted { input, .. } => {
                self.counted = Some(input);
                Ok(())
            }
            Delta::Raw(raw) if raw.dialect == Dialect::Responses => self.events(raw.bytes),
            delta => self.answer("").1.push(delta, &mut Silent),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<Bytes, Error> {
        if let Some(whole) = self.whole {
            return Ok(whole);
        }
        if let Some(input_tokens) = self.counted {
            let count = serde_json::json!({"object": "response.input_tokens", "input_tokens": input_tokens});
            return Ok(Bytes::from(count.to_string()));
        }
        let (envelope, draft) = self.answer("");
        if draft.is_empty() {
            return Err(bad_response("has no content", b""));
        }
        draft.close(&mut Silent);
        let end = End::Whole(draft.finish);
        Ok(Bytes::from(envelope.json(&end, draft.output(), draft.usage.as_ref())))
    }
}
