//! The mock's own count: what was asked, what was billed, what was broken off. The other side of every ledger test.
//!
//! Bounded: at most 1,000 requests and 32 MiB of their bodies are remembered, the oldest are forgotten first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use serde::Serialize;

/// How many requests are remembered.
const MAX_SEEN: usize = 1_000;
/// How many bytes of one body are remembered.
const MAX_SEEN_BODY: usize = 64 * 1024;
/// How many bytes of all bodies are remembered.
const MAX_SEEN_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of one header value that are shown.
const MAX_SEEN_HEADER: usize = 1_024;
/// Headers whose value is never shown.
const SECRET_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "proxy-authorization"];

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

    pub(crate) fn bill_completion(&self, tokens: u64) {
        self.completion_tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Begins an answer; the guard counts how it ends.
    pub(crate) fn begin(self: &Arc<Self>, stream: bool) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { counters: Arc::clone(self), stream, opened: false, complete: false }
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

impl Seen {
    fn show(&self) -> SeenRequest {
        let mut key = None;
        let headers = self.headers.iter().map(|(name, value)| {
            let name = name.as_str();
            let mut text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            if SECRET_HEADERS.contains(&name) {
                let bare =
                    text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer ")).unwrap_or(&text);
                key = Some(key_digest(bare));
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
}

impl InFlight {
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

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
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
