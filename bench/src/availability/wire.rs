//! The least HTTP/1.1 that this needs: requests as bytes, replies read to their end, whatever they say.

use std::io;
use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Trouble;

/// The key of every caller.
pub(crate) const KEY: &str = "bench-key-0123456789abcdef0123456789abcdef";

/// A request as bytes on the wire.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A short chat, with more members as JSON.
pub(crate) fn chat(model: &str, members: &str) -> Vec<u8> {
    let comma = if members.is_empty() { "" } else { "," };
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"ping"}}],"max_tokens":16{comma}{members}}}"#
    );
    request("POST", "/v1/chat/completions", &body)
}

/// A reply as it came.
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A header of the gateway's own, which writes names in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.head).ok()?;
        head.split("\r\n").find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// How many calls the gateway says that it made.
    pub(crate) fn attempts(&self) -> u64 {
        self.header("penstock-attempts").and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

/// A kept-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request and reads the reply to its end.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        self.send(request).await?;
        self.reply().await
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        self.stream.write_all(request).await
    }

    /// Reads one reply.
    pub(crate) async fn reply(&mut self) -> io::Result<Reply> {
        let head = loop {
            if let Some(at) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            self.more().await?;
        };
        let length = length(&self.buffer[..head]);
        let start = head + 4;
        loop {
            let whole = match length {
                Some(length) => self.buffer.len() >= start + length,
                None => self.buffer.ends_with(b"0\r\n\r\n"),
            };
            if whole {
                break;
            }
            self.more().await?;
        }
        let body = self.buffer.split_off(start);
        let head = std::mem::take(&mut self.buffer);
        let status = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        Ok(Reply { status: status.unwrap_or_default(), head, body })
    }

    /// Reads until some text has come.
    pub(crate) async fn until(&mut self, text: &[u8]) -> io::Result<()> {
        while memmem::find(&self.buffer, text).is_none() {
            self.more().await?;
        }
        Ok(())
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn length(head: &[u8]) -> Option<usize> {
    std::str::from_utf8(head).ok()?.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

/// One request on a connection of its own.
pub(crate) async fn once(address: SocketAddr, request: &[u8]) -> Result<Reply, Trouble> {
    Ok(Connection::open(address).await?.exchange(request).await?)
}
