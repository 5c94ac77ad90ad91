//! The mock's own count: what was asked, what was billed, what was broken off. The other side of every ledger test.
//!
//! Bounded: at most 1,000 requests and 32 MiB of their bodies, and 10,000 ended calls are remembered, the oldest are
//! forgotten first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use parking_lot::Mutex;
use serde::Serialize;

/// How many requests are remembered.
const MAX_SEEN: usize = 1_000;
/// How many ended calls are remembered.
const MAX_CALLS: usize = 10_000;
/// How many bytes of one body are remembered.
const MAX_SEEN_BODY: usize = 64 * 1024;
/// How many bytes of all bodies are remembered.
const MAX_SEEN_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of one header value that are shown.
const MAX_SEEN_HEADER: usize = 1_024;
/// Headers whose value is never shown.
const SECRET_HEADERS: [&str; 5] =
    ["authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization"];

/// A picture of the count at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests that arrived, `/mock/…` not included.
    pub requests: u64,
    /// Answers by path (`other` for paths that do not exist) and status; status 0 had no status line.
    pub by_path: BTreeMap<String, BTreeMap<u16, u64>>,
    /// Prompt tokens of answered requests, by the mock's own rule.
    pub prompt_tokens: u64,
    /// Tokens that were said, those of broken answers included.
    pub completion_tokens: u64,
    /// Streams whose headers were sent.
    pub streams_started: u64,
    /// Streams that ran to the end of their script, cut ones included.
    pub streams_completed: u64,
    /// Streams that the other side left.
    pub streams_aborted: u64,
    /// Whole answers that the other side left before they were sent.
    pub wholes_aborted: u64,
    /// Answers that are on their way now.
    pub in_flight: u64,
    /// Connections that were accepted.
    pub connections: u64,
}

/// A request as it arrived. Credentials are shown as a digest only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeenRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers in order, names in lower case; credentials read `redacted`.
    pub headers: Vec<(String, String)>,
    /// [`key_digest`] of the credential, whichever header carried it.
    pub key_digest: Option<String>,
    /// The body, at most 64 KiB of it.
    pub body: String,
}

/// A call that ended, and how: the log of what the other side left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeenCall {
    /// The path that was meant.
    pub path: &'static str,
    /// The model that was asked for.
    pub model: String,
    /// [`key_digest`] of the credential, whichever header carried it.
    pub key_digest: Option<String>,
    /// The status that was sent; 0 when there was no status line.
    pub status: u16,
    /// The other side left before the answer ran to the end of its script.
    pub aborted: bool,
    /// Tokens of the answer that were said.
    pub completion_tokens: u64,
    /// Microseconds from the first call that is remembered to the beginning of this one.
    pub began_us: u64,
    /// Microseconds from its beginning to its end.
    pub took_us: u64,
}

impl SeenRequest {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The first 16 hexadecimal digits of the BLAKE3 hash of a credential, by which tests can say which key was sent.
pub fn key_digest(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex()[..16].to_owned()
}

/// The live counters, shared by every connection.
#[derive(Default)]
pub(crate) struct Counters {
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    streams_started: AtomicU64,
    streams_completed: AtomicU64,
    streams_aborted: AtomicU64,
    wholes_aborted: AtomicU64,
    in_flight: AtomicU64,
    connections: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    requests: u64,
    answers: BTreeMap<(&'static str, u16), u64>,
    seen: VecDeque<Seen>,
    bytes: usize,
    calls: VecDeque<Ended>,
}

/// A call as it is kept.
struct Ended {
    call: Call,
    status: u16,
    aborted: bool,
    said: u64,
    end: Instant,
}

/// Whose call it is.
struct Call {
    path: &'static str,
    model: Box<str>,
    key: Option<HeaderValue>,
    begin: Instant,
}

/// The credential of a request, whichever header carried it.
pub(crate) fn credential(headers: &HeaderMap) -> Option<&HeaderValue> {
    SECRET_HEADERS.iter().find_map(|name| headers.get(*name))
}

/// A credential without the name of its scheme.
pub(crate) fn bare(credential: &str) -> &str {
    credential.strip_prefix("Bearer ").or_else(|| credential.strip_prefix("bearer ")).unwrap_or(credential)
}

/// A request as it is kept; made readable only when somebody looks.
struct Seen {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Counters {
    pub(crate) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Remembers a request.
    pub(crate) fn seen(&self, method: Method, path: String, headers: HeaderMap, body: &Bytes) {
        // A slice would keep the whole body alive.
        let kept = if body.len() > MAX_SEEN_BODY {
            Bytes::copy_from_slice(&body[..MAX_SEEN_BODY])
        } else {
            body.clone()
        };
        let mut log = self.log.lock();
        log.requests += 1;
        log.bytes += kept.len();
        log.seen.push_back(Seen { method, path, headers, body: kept });
        while log.seen.len() > MAX_SEEN || log.bytes > MAX_SEEN_BYTES {
            let Some(oldest) = log.seen.pop_front() else { break };
            log.bytes -= oldest.body.len();
        }
    }

    /// Counts an answer's status; 0 when there is no status line.
    pub(crate) fn answered(&self, path: &'static str, status: u16) {
        *self.log.lock().answers.entry((path, status)).or_default() += 1;
    }

    pub(crate) fn bill_prompt(&self, tokens: u64) {
        self.prompt_tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    fn bill_completion(&self, tokens: u64) {
        self.completion_tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Begins an answer; the guard counts how it ends.
    pub(crate) fn begin(self: &Arc<Self>, stream: bool) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight {
            counters: Arc::clone(self),
            stream,
            opened: false,
            complete: false,
            status: 0,
            said: 0,
            call: None,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let log = self.log.lock();
        let mut by_path: BTreeMap<String, BTreeMap<u16, u64>> = BTreeMap::new();
        for (&(path, status), &count) in &log.answers {
            by_path.entry(path.to_owned()).or_default().insert(status, count);
        }
        Stats {
            requests: log.requests,
            by_path,
            prompt_tokens: read(&self.prompt_tokens),
            completion_tokens: read(&self.completion_tokens),
            streams_started: read(&self.streams_started),
            streams_completed: read(&self.streams_completed),
            streams_aborted: read(&self.streams_aborted),
            wholes_aborted: read(&self.wholes_aborted),
            in_flight: read(&self.in_flight),
            connections: read(&self.connections),
        }
    }

    pub(crate) fn requests(&self) -> Vec<SeenRequest> {
        self.log.lock().seen.iter().map(Seen::show).collect()
    }

    pub(crate) fn calls(&self) -> Vec<SeenCall> {
        let log = self.log.lock();
        let Some(first) = log.calls.iter().map(|ended| ended.call.begin).min() else { return Vec::new() };
        log.calls.iter().map(|ended| ended.show(first)).collect()
    }

    /// Forgets everything but what is in flight.
    pub(crate) fn reset(&self) {
        for counter in [
            &self.prompt_tokens,
            &self.completion_tokens,
            &self.streams_started,
            &self.streams_completed,
            &self.streams_aborted,
            &self.wholes_aborted,
            &self.connections,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        *self.log.lock() = Log::default();
    }
}

impl Ended {
    fn show(&self, first: Instant) -> SeenCall {
        let micros = |from: Instant, to: Instant| {
            u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
        };
        let key = self.call.key.as_ref().map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
        SeenCall {
            path: self.call.path,
            model: self.call.model.to_string(),
            key_digest: key.map(|key| key_digest(bare(&key))),
            status: self.status,
            aborted: self.aborted,
            completion_tokens: self.said,
            began_us: micros(first, self.call.begin),
            took_us: micros(self.call.begin, self.end),
        }
    }
}

impl Seen {
    fn show(&self) -> SeenRequest {
        let mut key = None;
        let headers = self.headers.iter().map(|(name, value)| {
            let name = name.as_str();
            let mut text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            if SECRET_HEADERS.contains(&name) {
                key = Some(key_digest(bare(&text)));
                text = "redacted".to_owned();
            }
            text.truncate(text.floor_char_boundary(MAX_SEEN_HEADER));
            (name.to_owned(), text)
        });
        SeenRequest {
            method: self.method.to_string(),
            path: self.path.clone(),
            headers: headers.collect(),
            body: String::from_utf8_lossy(&self.body).into_owned(),
            key_digest: key,
        }
    }
}

/// One answer on its way. Dropped without [`InFlight::complete`], the other side left.
pub(crate) struct InFlight {
    counters: Arc<Counters>,
    stream: bool,
    opened: bool,
    complete: bool,
    status: u16,
    said: u64,
    call: Option<Call>,
}

impl InFlight {
    /// Says whose call it is, for the log of calls.
    pub(crate) fn of(&mut self, path: &'static str, model: &str, key: Option<HeaderValue>) {
        let model = model.get(..model.floor_char_boundary(MAX_SEEN_HEADER)).unwrap_or_default().into();
        self.call = Some(Call { path, model, key, begin: Instant::now() });
    }

    /// The status that is sent.
    pub(crate) fn status(&mut self, status: u16) {
        self.status = status;
    }

    /// Counts tokens that were said.
    pub(crate) fn bill_completion(&mut self, tokens: u64) {
        self.said += tokens;
        self.counters.bill_completion(tokens);
    }

    /// The headers are on their way.
    pub(crate) fn open(&mut self) {
        if self.stream && !std::mem::replace(&mut self.opened, true) {
            self.counters.streams_started.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The answer ran to the end of its script.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let counters = &self.counters;
        let ended = match (self.stream, self.opened, self.complete) {
            (true, true, true) => Some(&counters.streams_completed),
            (true, true, false) => Some(&counters.streams_aborted),
            (_, _, false) => Some(&counters.wholes_aborted),
            _ => None,
        };
        if let Some(counter) = ended {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(call) = self.call.take() {
            let (status, aborted, said, end) = (self.status, !self.complete, self.said, Instant::now());
            let mut log = counters.log.lock();
            if log.calls.len() == MAX_CALLS {
                log.calls.pop_front();
            }
            log.calls.push_back(Ended { call, status, aborted, said, end });
        }
        counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_requests_and_bytes_are_remembered() {
        let counters = Counters::default();
        let body = Bytes::from(vec![b'x'; 100_000]);
        for n in 0..MAX_SEEN + 5 {
            counters.seen(Method::POST, format!("/{n}"), HeaderMap::new(), &body);
        }
        let seen = counters.requests();
        assert_eq!(seen.len(), MAX_SEEN_BYTES / MAX_SEEN_BODY);
        assert_eq!(seen.last().unwrap().path, format!("/{}", MAX_SEEN + 4));
        assert_eq!(counters.stats().requests, MAX_SEEN as u64 + 5);
    }

    #[test]
    fn a_credential_is_seen_as_its_digest_whatever_header_carried_it() {
        let counters = Counters::default();
        for (name, value) in [("authorization", "Bearer sk-secret"), ("x-api-key", "sk-secret")] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            counters.seen(Method::GET, "/".into(), headers, &Bytes::new());
        }
        for seen in counters.requests() {
            assert_eq!(seen.key_digest, Some(key_digest("sk-secret")));
            assert!(!format!("{seen:?}").contains("sk-secret"));
        }
    }

    #[test]
    fn an_answer_that_is_dropped_was_left() {
        let counters = Arc::new(Counters::default());
        drop(counters.begin(true));
        let mut left = counters.begin(true);
        left.open();
        assert_eq!(counters.stats().in_flight, 1);
        drop(left);
        let mut whole = counters.begin(true);
        whole.open();
        whole.complete();
        drop(whole);
        let stats = counters.stats();
        assert_eq!((stats.streams_started, stats.streams_aborted, stats.streams_completed), (2, 1, 1));
        assert_eq!((stats.wholes_aborted, stats.in_flight), (1, 0));
    }
}
