//! The least HTTP/1.1 that a load generator needs: prepared request bytes, and replies read to their end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Trouble;

/// A POST of JSON as bytes on the wire.
pub(crate) fn post(path: &str, key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A request that is sent many times; where it has an `Idempotency-Key`, another one each time.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    bytes: Vec<u8>,
    /// Where the key's digits stand.
    key: Option<usize>,
    /// How many letters of a target were sent.
    sent: Rc<Cell<u64>>,
}

const DIGITS: usize = 16;

impl Letter {
    pub(crate) fn new(request: &[u8], sent: Rc<Cell<u64>>, keyed: bool) -> Self {
        let mut bytes = request.to_vec();
        let key = memmem::find(request, b"\r\n").filter(|_| keyed).map(|line| {
            let header = format!("\r\nidempotency-key: {:0DIGITS$}", 0);
            bytes.splice(line..line, header.bytes());
            line + header.len() - DIGITS
        });
        Self { bytes, key, sent }
    }

    /// The bytes to send now.
    pub(crate) fn next(&mut self) -> &[u8] {
        let turn = self.sent.get();
        self.sent.set(turn + 1);
        if let Some(place) = self.key {
            let digits = format!("{turn:0DIGITS$}");
            self.bytes[place..place + DIGITS].copy_from_slice(digits.as_bytes());
        }
        &self.bytes
    }
}

/// A kept-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The end of a streamed reply was read.
    over: bool,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Trouble> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), over: false })
    }

    /// Sends a request and reads the reply to its end.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<(), Trouble> {
        self.send(request).await?;
        while !complete(&self.buffer)? {
            self.more().await?;
        }
        Ok(())
    }

    /// Sends a request and waits for its head; what came of the body stays in the buffer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<(), Trouble> {
        self.stream.write_all(request).await?;
        self.over = false;
        self.buffer.clear();
        while memmem::find(&self.buffer, b"\r\n\r\n").is_none() {
            self.more().await?;
        }
        if !self.buffer.starts_with(b"HTTP/1.1 200") {
            let end = self.buffer.len().min(600);
            return Err(format!("unexpected reply: {}", String::from_utf8_lossy(&self.buffer[..end])).into());
        }
        Ok(())
    }

    /// How many events the buffer holds; forgets them. `None` once the stream has ended.
    pub(crate) fn events(&mut self) -> Option<u64> {
        if self.over {
            return None;
        }
        let events = memmem::find_iter(&self.buffer, b"data: {").count() as u64;
        self.over = self.buffer.ends_with(b"0\r\n\r\n");
        self.buffer.clear();
        Some(events)
    }

    /// Reads whatever has arrived; nothing after the end of a stream.
    pub(crate) async fn more(&mut self) -> Result<(), Trouble> {
        if self.over {
            return Ok(());
        }
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err("the connection was closed in the middle of a reply".into());
        }
        Ok(())
    }
}

fn complete(reply: &[u8]) -> Result<bool, Trouble> {
    let Some(head) = memmem::find(reply, b"\r\n\r\n") else { return Ok(false) };
    let text = std::str::from_utf8(&reply[..head])?;
    for line in text.split("\r\n") {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(reply.len() >= head + 4 + value.trim().parse::<usize>()?);
        }
    }
    Ok(reply.ends_with(b"0\r\n\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_letter_with_a_key_has_another_one_and_is_otherwise_the_same() {
        let plain = post("/v1/chat/completions", "k", "{}");
        let sent = Rc::new(Cell::new(0));
        let mut letter = Letter::new(&plain, Rc::clone(&sent), true);
        let mut twin = letter.clone();
        let texts = [letter.next(), twin.next()].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let text = String::from_utf8_lossy(&plain);
        for (turn, found) in texts.iter().enumerate() {
            let line = format!("\r\nidempotency-key: {turn:016}");
            assert!(found.contains(&line), "{found}");
            assert_eq!(found.replacen(&line, "", 1), text);
        }
        assert_eq!(sent.get(), 2);
        assert_eq!(Letter::new(&plain, sent, false).next(), plain);
    }
}
