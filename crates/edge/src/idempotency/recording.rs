//! An answer as it leaves, written down.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use penstock_dialect::responses::{state, told};
use penstock_domain::{Dialect, Request, RequestId, Task};
use penstock_idempotency::{Kept, Running, Stored};

use crate::reply::Reply;
use crate::responses::{Pass, Saving};

/// Says what became of a whole answer: `stored`, or why it was not.
const STATE: HeaderName = HeaderName::from_static("penstock-idempotency");
/// The id of the request that an answer of before was made for.
const ORIGINAL: &str = "penstock-original-request-id";
/// Headers that speak of the moment, not of the answer.
const PASSING: &[&str] =
    &["server-timing", "date", "connection", "content-length", "transfer-encoding", "set-cookie"];
/// Beginnings of such headers.
const PASSING_FAMILIES: &[&str] = &["x-ratelimit-", "anthropic-ratelimit-"];

/// What is known so far of an answer that is to be kept. Dropped before its end, nothing is kept.
pub(crate) struct Recording {
    running: Running,
    /// In which events it may come; `None` where nobody reads them.
    dialect: Option<Dialect>,
    kept: Kept,
    body: Vec<u8>,
    id: RequestId,
}

impl Recording {
    pub(super) fn begin(running: Running, request: &Request, id: &RequestId) -> Self {
        let dialect = (request.task != Task::Relay).then(|| request.body.dialect());
        Self { running, dialect, kept: Kept::default(), body: Vec::new(), id: id.clone() }
    }

    /// The client's key as a vendor may see it.
    pub(crate) fn pseudonym(&self) -> Bytes {
        self.running.pseudonym().into()
    }

    /// Writes down a response: at once where it is whole, as it leaves where it is not. A refusal is not written down.
    pub(crate) async fn of(mut self: Box<Self>, mut response: Response<Reply>) -> Response<Reply> {
        if !response.status().is_success() {
            return response;
        }
        self.kept.status = response.status().as_u16();
        self.kept.headers = lasting(response.headers());
        self.kept.headers.push((ORIGINAL.into(), Bytes::copy_from_slice(self.id.as_str().as_bytes())));
        if let Some((recording, body)) = response.body_mut().recorded(self)
            && let Some(stored) = recording.whole(body).await
        {
            response.headers_mut().insert(STATE, HeaderValue::from_static(stored.name()));
        }
        response
    }

    /// Keeps a whole answer; nothing when it is one of failure.
    async fn whole(mut self: Box<Self>, body: Bytes) -> Option<Stored> {
        if self.dialect == Some(Dialect::Responses) && told::status(&body).as_deref() == Some("failed") {
            return None;
        }
        self.kept.body = body;
        let Self { running, kept, .. } = *self;
        Some(running.keep(kept).await)
    }

    /// Some bytes on their way out. The last ones of a complete stream leave once it is kept; more than may be kept ends
    /// the recording.
    pub(crate) fn pass(this: &mut Option<Box<Self>>, bytes: Bytes) -> Pass {
        let Some(recording) = this else { return Pass::Now(bytes) };
        let before = recording.body.len();
        if !recording.add(&bytes) {
            *this = None;
            return Pass::Now(bytes);
        }
        match recording.ends(before, &bytes) {
            Some(true) => {}
            Some(false) => {
                *this = None;
                return Pass::Now(bytes);
            }
            None => return Pass::Now(bytes),
        }
        match this.take() {
            Some(recording) => Pass::Saved(recording.close(bytes)),
            None => Pass::Now(bytes),
        }
    }

    /// Adds bytes, unless they are too many.
    pub(super) fn add(&mut self, bytes: &[u8]) -> bool {
        let fits = self.body.len() + bytes.len() <= self.running.max_body();
        if fits {
            self.body.extend_from_slice(bytes);
        }
        fits
    }

    /// Keeps what was written down, and gives the last bytes back.
    pub(super) fn close(self: Box<Self>, last: Bytes) -> Saving {
        let Self { running, mut kept, body, .. } = *self;
        kept.body = body.into();
        let keeping = running.keep(kept);
        Box::pin(async move {
            keeping.await;
            last
        })
    }

    /// Whether the answer is complete with what was added after `before`, and a success.
    fn ends(&self, before: usize, bytes: &[u8]) -> Option<bool> {
        let from = before.saturating_sub(LONGEST_END);
        match self.dialect? {
            Dialect::OpenAi => has_line(&self.body, from, (b"data:", b"[DONE]")).then_some(true),
            Dialect::Anthropic => has_line(&self.body, from, (b"event:", b"message_stop")).then_some(true),
            Dialect::Responses => {
                let last = state::final_response(bytes)?;
                Some(told::status(&last).as_deref() != Some("failed"))
            }
            Dialect::Gemini | Dialect::Bedrock => None,
        }
    }
}

/// The longest line that ends a stream.
const LONGEST_END: usize = 32;

/// Whether a line of events has this field with this value, from this place on. JSON writes line ends in another way, so
/// that no text that was generated looks like it.
fn has_line(events: &[u8], from: usize, (field, value): (&[u8], &[u8])) -> bool {
    memchr::memmem::find_iter(&events[from..], value).any(|at| {
        let before = events[..from + at].trim_ascii_end();
        let gap = from + at - before.len();
        before
            .strip_suffix(field)
            .is_some_and(|before| gap <= 1 && before.last().is_none_or(|byte| matches!(byte, b'\n' | b'\r')))
    })
}

/// What of the headers belongs to the answer.
fn lasting(headers: &HeaderMap) -> Vec<(Box<str>, Bytes)> {
    let lasts = |name: &str| {
        !PASSING.contains(&name) && !PASSING_FAMILIES.iter().any(|family| name.starts_with(family))
    };
    let kept = headers.iter().filter(|(name, _)| lasts(name.as_str()));
    kept.map(|(name, value)| (name.as_str().into(), Bytes::copy_from_slice(value.as_bytes()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_of_its_own_ends_a_stream() {
        let done = |events: &str| has_line(events.as_bytes(), 0, (b"data:", b"[DONE]"));
        for end in [
            "data: [DONE]\n\n",
            "data:[DONE]\n\n",
            "data: {}\n\ndata: [DONE]\n\n",
            "data: {}\r\n\r\ndata: [DONE]\r\n",
        ] {
            assert!(done(end), "{end:?}");
        }
        for other in [
            "data: \"[DONE]\"\n\n",
            "data: {\"text\":\"data: [DONE]\"}\n\n",
            "xdata: [DONE]\n",
            "data: \\ndata: [DONE]",
            "[DONE]",
        ] {
            assert!(!done(other), "{other:?}");
        }
    }

    #[test]
    fn headers_of_the_moment_are_not_kept() {
        let names = [
            "content-type",
            "penstock-model",
            "server-timing",
            "x-ratelimit-limit-requests",
            "set-cookie",
            "etag",
        ];
        let headers =
            names.iter().map(|name| (name.parse().unwrap(), HeaderValue::from_static("v"))).collect();
        let mut kept: Vec<_> = lasting(&headers).into_iter().map(|(name, _)| name.to_string()).collect();
        kept.sort();
        assert_eq!(kept, ["content-type", "etag", "penstock-model"]);
    }
}
