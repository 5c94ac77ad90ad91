//! A client that sends exactly the bytes it is told to, and reads one answer at a time.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bench::KEY;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The stable code of an error, whichever shape it has.
    pub(crate) fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"));
        let code = body["error"].get("code").unwrap_or(&body["code"]);
        code.as_str().unwrap_or_else(|| panic!("no code: {self:?}")).to_owned()
    }
}

pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    pub(crate) seen: Vec<u8>,
}

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), seen: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads more; false at the end.
    pub(crate) async fn more(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let read =
            timeout(PATIENCE, self.stream.read(&mut piece)).await.expect("bytes or an end come in time");
        // A reset is an end, too.
        let read = read.unwrap_or(0);
        self.seen.extend_from_slice(&piece[..read]);
        read > 0
    }

    /// Reads until this text has come.
    pub(crate) async fn until(&mut self, text: &str) {
        while !self.text().contains(text) {
            assert!(self.more().await, "the connection ended before {text:?}: {}", self.text());
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Reads until the connection ends.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        self.text()
    }

    /// Reads one answer; `None` when the connection ends without one.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = find(&self.seen, b"\r\n\r\n") {
                break at;
            }
            if !self.more().await {
                return None;
            }
        };
        let head = String::from_utf8(self.seen.drain(..head_end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: String::new() };
        let length = answer.header("content-length").map(|length| length.parse::<usize>().unwrap());
        let chunked = answer.header("transfer-encoding").is_some();
        let body = match length {
            Some(length) => {
                while self.seen.len() < length {
                    assert!(self.more().await, "the body is cut");
                }
                self.seen.drain(..length).collect()
            }
            None if chunked => self.chunks().await,
            None => {
                self.rest().await;
                std::mem::take(&mut self.seen)
            }
        };
        answer.body = String::from_utf8(body).unwrap();
        Some(answer)
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(at) = find(&self.seen, b"\r\n") {
                    break at;
                }
                assert!(self.more().await, "the chunks are cut");
            };
            let size = usize::from_str_radix(std::str::from_utf8(&self.seen[..line]).unwrap(), 16).unwrap();
            while self.seen.len() < line + 2 + size + 2 {
                assert!(self.more().await, "a chunk is cut");
            }
            body.extend_from_slice(&self.seen[line + 2..line + 2 + size]);
            self.seen.drain(..line + 2 + size + 2);
            if size == 0 {
                return body;
            }
        }
    }
}

pub(crate) fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// A POST with these headers and this body.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// The header of the right key.
pub(crate) fn bearer() -> String {
    format!("authorization: Bearer {KEY}\r\n")
}

/// A chat body.
pub(crate) fn chat(model: &str, stream: bool) -> String {
    serde_json::json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Capital of France?"}]})
        .to_string()
}

/// A messages body.
pub(crate) fn message(model: &str, stream: bool) -> String {
    serde_json::json!({"model": model, "stream": stream, "max_tokens": 100, "messages": [{"role": "user", "content": "Capital of France?"}]})
        .to_string()
}

/// A messages request with the right key, as Anthropic's clients send it.
pub(crate) fn ask_message(model: &str, stream: bool) -> String {
    let headers = format!("x-api-key: {KEY}\r\nanthropic-version: 2023-06-01\r\n");
    post("/v1/messages", &headers, &message(model, stream))
}

/// A responses body with further members.
pub(crate) fn response(model: &str, members: Value) -> String {
    let mut body = serde_json::json!({"model": model, "input": "Capital of France?"});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body.to_string()
}

/// A request without a body.
pub(crate) fn plain(method: &str, path: &str, key: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-length: 0\r\n\r\n"
    )
}

/// A chat request with the right key.
pub(crate) fn ask(model: &str, stream: bool) -> String {
    post("/v1/chat/completions", &bearer(), &chat(model, stream))
}

/// Sends one request on a connection of its own and reads the answer.
pub(crate) async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut wire = Wire::open(address).await;
    wire.send(request).await;
    wire.answer().await.expect("an answer")
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    exchange(address, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await
}
