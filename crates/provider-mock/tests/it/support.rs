//! A client that shows every byte.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use penstock_provider_mock::{MockHandle, MockServer, RunningMock, Script, Stats};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const MESSAGES: &str = "/v1/messages";

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// An answer as it came.
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) status: u16,
    /// The body, without the chunks around it.
    pub(crate) body: Vec<u8>,
    /// The sizes of the chunks.
    pub(crate) chunks: Vec<usize>,
    /// Whether the last chunk, or the announced length, came.
    pub(crate) whole: bool,
    pub(crate) end: End,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The `data` of every event.
    pub(crate) fn data(&self) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(|line| line.trim_start().to_owned()).collect()
    }

    /// The `data` of every event that is JSON.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.data().iter().filter_map(|data| serde_json::from_str(data).ok()).collect()
    }

    /// The text of a streamed chat.
    pub(crate) fn said(&self) -> String {
        let events = self.events();
        let pieces =
            events.iter().map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap_or(""));
        pieces.collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub(crate) async fn server(script: Value) -> RunningMock {
    let script = Script::from_json(&script.to_string()).unwrap();
    MockServer::spawn(script).await.unwrap()
}

pub(crate) async fn plain() -> RunningMock {
    server(json!({})).await
}

pub(crate) fn question(stream: bool) -> Value {
    json!({"model": "m1", "stream": stream, "max_tokens": 4096, "messages": [{"role": "user", "content": "how are you"}]})
}

/// The bytes of a request; `connection: close` lets the end of the answer be seen.
pub(crate) fn request(path: &str, script: Option<&Value>, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let script = script.map(|script| format!("x-mock-script: {script}\r\n")).unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nhost: mock\r\nauthorization: Bearer sk-test\r\ncontent-type: application/json\r\n\
         connection: close\r\n{script}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(crate) async fn open(addr: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

pub(crate) async fn raw(addr: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = open(addr, bytes).await;
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let end = loop {
        let read =
            tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer)).await.expect("no hang");
        match read {
            Ok(0) => break End::Fin,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break End::Reset,
            Err(error) => panic!("{error}"),
        }
    };
    parse(&all, end)
}

/// Asks with a script in the header.
pub(crate) async fn ask(mock: &MockHandle, path: &str, script: Value, body: &Value) -> Answer {
    raw(mock.addr(), &request(path, Some(&script), body)).await
}

/// A streamed chat under a script.
pub(crate) async fn stream(mock: &MockHandle, script: Value) -> Answer {
    ask(mock, CHAT, script, &question(true)).await
}

/// A whole chat under a script.
pub(crate) async fn whole(mock: &MockHandle, script: Value) -> Answer {
    ask(mock, CHAT, script, &question(false)).await
}

fn parse(all: &[u8], end: End) -> Answer {
    let split = all.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(split) = split else {
        return Answer {
            head: String::new(),
            status: 0,
            body: all.to_vec(),
            chunks: vec![],
            whole: false,
            end,
        };
    };
    let head = String::from_utf8_lossy(&all[..split]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let rest = &all[split + 4..];
    let mut answer = Answer { head, status, body: rest.to_vec(), chunks: vec![], whole: false, end };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body.clear();
        let mut rest = rest;
        while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            rest = &rest[line + 2..];
            if size == 0 {
                answer.whole = true;
                break;
            }
            let here = size.min(rest.len());
            answer.body.extend_from_slice(&rest[..here]);
            answer.chunks.push(here);
            rest = rest.get(size + 2..).unwrap_or_default();
        }
    } else if let Some(length) = answer.header("content-length") {
        answer.whole = answer.body.len() == length.parse::<usize>().unwrap();
    }
    answer
}

/// Waits until the count says so, at most this long.
pub(crate) async fn within(limit: Duration, mock: &MockHandle, holds: impl Fn(&Stats) -> bool) -> Duration {
    let start = Instant::now();
    while !holds(&mock.stats()) {
        assert!(start.elapsed() < limit, "after {limit:?} the count is still {:?}", mock.stats());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}
