//! Requests that are passed on as they are, and answers that come back as they are.
//!
//! What it is: the ability [`Relay`] of vendors that speak OpenAI's dialect: method, path, query and body of the asker
//! under the vendor's address and with the vendor's credential, and the answer as bytes.
//!
//! What it promises: no path leads out of `base_url`, no header of the asker goes on but those that the passage lists,
//! none of the vendor's comes back but those listed here; bytes are read from the vendor only when the asker wants them.
//!
//! What it refuses to know: what the bytes mean. An error of the vendor that is about the operator's own account is told
//! as ours; every other answer is the asker's business, whatever its status.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request as HttpRequest, Uri};
use http_body::Body as _;
use http_body_util::Full;
use penstock_dialect::Lane;
use penstock_domain::{Code, Delta, Dialect, Error, Passage, Relayed, RelayedHead};
use penstock_provider::{Call, Calling, Deltas, Relay};

use crate::address::is_dots;
use crate::clock::Clock;
use crate::faults;
use crate::provider::{Vendor, refusal};
use crate::settings::Names;
use crate::stream::Events;

/// Headers of a vendor's answer that go on. Not among them: cookies, the operator's own limits and ids, and whatever
/// belongs to the connection.
const BACK: &[&str] = &[
    "content-type",
    "content-disposition",
    "content-language",
    "location",
    "openai-processing-ms",
    "openai-version",
    "retry-after",
    "retry-after-ms",
];
/// The longest header value that goes on, in bytes.
const LONGEST_VALUE: usize = 2048;

impl Relay for Vendor {
    fn relay(&self, call: Call) -> Calling<'_> {
        Box::pin(self.pass_on(call))
    }
}

impl Vendor {
    /// Whether this vendor's API is the one that relayed paths belong to.
    pub(crate) fn can_relay(&self) -> bool {
        self.preset.dialect == Dialect::OpenAi && matches!(self.settings.naming, Names::Body)
    }

    async fn pass_on(&self, call: Call) -> Result<Deltas, Error> {
        let slot = self.slot()?;
        let body = &call.request.body;
        let Some(passage) = body.passage() else {
            return Err(Error::new(
                Code::InternalError,
                "a request was to be relayed that says not where to",
            ));
        };
        let uri = self.below(passage)?;
        let dress = || self.dress_passage(&uri, passage, body.bytes().clone(), call.credential);
        let clock = Clock::start(self.settings.timeouts, call.deadline);
        // A picture or a transcript comes when it is made: only the total time bounds the wait for it.
        let (response, sent) = self.send(&dress, clock.timeouts.total, &clock).await?;
        let status = response.status();
        match status.as_u16() {
            300..=399 => return Err(faults::redirect(status.as_u16())),
            // Our credential and its rights, our limits, their outage: not the asker's, and their words could name the operator's key.
            401..=403 | 407 | 429 | 500.. => return Err(refusal(response, &clock).await),
            _ => {}
        }
        if response.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(faults::bad("the provider compressed its answer although it was asked not to"));
        }
        let head = RelayedHead {
            status: status.as_u16(),
            headers: back(response.headers()),
            length: response.body().size_hint().exact(),
        };
        let first_by = sent + clock.timeouts.total;
        let lane = Box::new(Through { waiting: Some(Delta::Relayed(Relayed::Head(Box::new(head)))) });
        Ok(Box::pin(Events::new(response.into_body(), lane, clock, first_by, slot)))
    }

    /// The address of a passage. The path was checked where it came in; it is checked again where the credential is.
    fn below(&self, passage: &Passage) -> Result<Uri, Error> {
        let plain = |segment: &str| !segment.is_empty() && !is_dots(&segment.to_ascii_lowercase());
        let straight = passage.path.strip_prefix('/').is_some_and(|path| path.split('/').all(plain));
        let uri = self.settings.address.url(&passage.path, passage.query.as_deref());
        uri.filter(|_| straight).ok_or_else(|| {
            Error::new(
                Code::InvalidRequest,
                "this path cannot be passed on: expected plain segments after /v1",
            )
        })
    }

    fn dress_passage(
        &self,
        uri: &Uri,
        passage: &Passage,
        body: Bytes,
        credential: u32,
    ) -> Result<HttpRequest<Full<Bytes>>, Error> {
        let mut request = self.dress(uri, body, false, credential)?;
        *request.method_mut() = Method::from_bytes(passage.method.as_bytes())
            .map_err(|_| Error::new(Code::MethodNotAllowed, "this method cannot be passed on"))?;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.remove(header::CONTENT_TYPE);
        for (name, value) in &passage.headers {
            let name = HeaderName::from_static(name);
            // What the operator set for this vendor stays as it is.
            if self.settings.private_headers.contains_key(&name) || self.settings.keys.is(&name) {
                continue;
            }
            let value = HeaderValue::from_maybe_shared(value.clone()).map_err(|_| {
                Error::new(Code::InvalidRequest, "a header of this request cannot be passed on")
            })?;
            headers.insert(name, value);
        }
        Ok(request)
    }
}

/// What of a vendor's headers goes on.
fn back(headers: &HeaderMap) -> Vec<(&'static str, Bytes)> {
    let known = |name: &&'static str| {
        let value = headers.get(*name)?.as_bytes();
        let ours = value.len() <= LONGEST_VALUE && (*name != "location" || is_local(value));
        ours.then(|| (*name, Bytes::copy_from_slice(value)))
    };
    BACK.iter().filter_map(known).collect()
}

/// Whether a location stays on the gateway that the asker talks to.
fn is_local(location: &[u8]) -> bool {
    location.starts_with(b"/") && !location.starts_with(b"//") && !location.starts_with(b"/\\")
}

/// The lane of bytes that nobody reads: the head first, then every chunk as it came.
struct Through {
    waiting: Option<Delta>,
}

impl Lane for Through {
    fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        // The stream takes what waits before it reads on.
        self.waiting = (!chunk.is_empty()).then_some(Delta::Relayed(Relayed::Bytes(chunk)));
        Ok(())
    }

    fn next(&mut self) -> Option<Delta> {
        self.waiting.take()
    }

    fn finish(&mut self) -> Option<Delta> {
        None
    }

    fn is_over(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_headers_of_an_answer_go_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "audio/mpeg"),
            ("set-cookie", "a=b"),
            ("x-ratelimit-remaining-requests", "3"),
            ("openai-organization", "acme"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("location", "https://elsewhere.example/"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert("content-disposition", HeaderValue::from_str(&"x".repeat(4096)).expect("a value"));
        assert_eq!(back(&headers), [("content-type", Bytes::from_static(b"audio/mpeg"))]);
    }

    #[test]
    fn a_location_goes_on_only_when_it_stays_here() {
        for (location, stays) in [
            ("/v1/realtime/calls/rtc_1", true),
            ("//evil.example/", false),
            ("/\\evil.example/", false),
            ("https://api.openai.com/v1/realtime/calls/rtc_1", false),
            ("", false),
        ] {
            assert_eq!(is_local(location.as_bytes()), stays, "{location}");
        }
    }
}
