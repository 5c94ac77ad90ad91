//! A vendor made of raw bytes, and short ways to ask it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use penstock_config::{Registry, Section};
use penstock_dialect::{DecodeLimits, anthropic, openai};
use penstock_domain::{Code, Delta, Error, Origin, Request, RequestId, Task};
use penstock_provider::{Call, Deltas, Provider};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// The key that must never show up anywhere but in its header.
pub(crate) const KEY: &str = "sk-sentinel-7f3a9c";

/// What the server does after it has read a request.
#[derive(Clone)]
pub(crate) enum Step {
    /// Writes these bytes.
    Send(Vec<u8>),
    /// Lets this much time pass.
    Wait(Duration),
    /// Says nothing more until the other side goes away.
    Stall,
    /// Closes the connection in order.
    Close,
    /// Resets the connection.
    Reset,
}

pub(crate) fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) connection: usize,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }
}

/// A scripted server on a free port.
pub(crate) struct Server {
    pub(crate) base: String,
    seen: mpsc::Receiver<Seen>,
    gone: mpsc::Receiver<Instant>,
    count: Arc<AtomicUsize>,
}

impl Server {
    /// Answers the n-th request (from 0) with the steps that the script gives.
    pub(crate) async fn start(script: impl Fn(usize, &Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}/v1", listener.local_addr().expect("address"));
        let (seen_sender, seen) = mpsc::channel(4096);
        let (gone_sender, gone) = mpsc::channel(4096);
        let count = Arc::new(AtomicUsize::new(0));
        let script = Arc::new(script);
        let counter = Arc::clone(&count);
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((socket, _)) = listener.accept().await else { return };
                let script = Arc::clone(&script);
                let log =
                    Log { count: Arc::clone(&counter), seen: seen_sender.clone(), gone: gone_sender.clone() };
                tokio::spawn(async move { serve(socket, connection, &*script, log).await });
            }
        });
        Self { base, seen, gone, count }
    }

    /// Answers every request with the same steps.
    pub(crate) async fn always(steps: Vec<Step>) -> Self {
        Self::start(move |_, _| steps.clone()).await
    }

    /// The next request.
    pub(crate) async fn seen(&mut self) -> Seen {
        self.seen.recv().await.expect("a request")
    }

    /// When the other side left a stalled connection.
    pub(crate) async fn gone(&mut self) -> Instant {
        self.gone.recv().await.expect("an abort")
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

struct Log {
    count: Arc<AtomicUsize>,
    seen: mpsc::Sender<Seen>,
    gone: mpsc::Sender<Instant>,
}

async fn serve(
    mut socket: TcpStream,
    connection: usize,
    script: &(dyn Fn(usize, &Seen) -> Vec<Step> + Send + Sync),
    log: Log,
) {
    socket.set_nodelay(true).expect("nodelay");
    while let Some(request) = read_request(&mut socket, connection).await {
        let number = log.count.fetch_add(1, Ordering::SeqCst);
        let steps = script(number, &request);
        let _ = log.seen.send(request).await;
        for step in steps {
            match step {
                Step::Send(bytes) => {
                    if socket.write_all(&bytes).await.is_err() {
                        let _ = log.gone.send(Instant::now()).await;
                        return;
                    }
                }
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Stall => {
                    let mut rest = [0; 1024];
                    while matches!(socket.read(&mut rest).await, Ok(n) if n > 0) {}
                    let _ = log.gone.send(Instant::now()).await;
                    return;
                }
                Step::Close => return,
                Step::Reset => {
                    socket.set_zero_linger().expect("linger");
                    return;
                }
            }
        }
    }
}

async fn read_request(socket: &mut TcpStream, connection: usize) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("ASCII head");
    let mut seen = Seen { connection, head, body: String::new() };
    let length: usize = seen.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    while bytes.len() < head_end + 4 + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = String::from_utf8(bytes[head_end + 4..].to_vec()).expect("UTF-8 body");
    Some(seen)
}

// === answers ===

pub(crate) fn http(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn json_answer(status: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    http(status, "content-type: application/json\r\n", body)
}

pub(crate) const EVENTS_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";

/// One chunk of the chunked coding.
pub(crate) fn chunk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut coded = format!("{:x}\r\n", bytes.len()).into_bytes();
    coded.extend_from_slice(bytes);
    coded.extend_from_slice(b"\r\n");
    coded
}

pub(crate) const LAST_CHUNK: &str = "0\r\n\r\n";

/// A whole chunked answer of one body chunk per text.
pub(crate) fn events_answer(texts: &[&str]) -> Vec<u8> {
    let mut bytes = EVENTS_HEAD.as_bytes().to_vec();
    for text in texts {
        bytes.extend(chunk(text));
    }
    bytes.extend_from_slice(LAST_CHUNK.as_bytes());
    bytes
}

/// A chat stream of three events, usage, and the end marker.
pub(crate) const CHAT_EVENTS: &[&str] = &[
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"héllo\"},\"finish_reason\":null}],\"x_unknown\":{\"kept\":true},\"usage\":null}\n\n",
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}\n\n",
    "data: [DONE]\n\n",
];

pub(crate) const CHAT_WHOLE: &str = "{\"id\":\"c1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"hello\",\"x_vendor\":[1, 2]},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}";

pub(crate) const COMPLETION_WHOLE: &str = "{\"id\":\"c1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"hello\",\"finish_reason\":\"stop\",\"logprobs\":null}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}";

pub(crate) const EMBEDDING_WHOLE: &str = "{\"object\":\"list\",\"model\":\"m\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[0.5,-0.25]}],\"usage\":{\"prompt_tokens\":7,\"total_tokens\":7}}";

pub(crate) const MESSAGE_WHOLE: &str = "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-x\",\"content\":[{\"type\":\"text\",\"text\":\"hello\"}],\"x_vendor\":[1, 2],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":4,\"cache_creation_input_tokens\":1,\"cache_read_input_tokens\":2,\"output_tokens\":2}}";

/// A message stream: opening, one text, end.
pub(crate) const MESSAGE_EVENTS: &[&str] = &[
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-x\",\"content\":[],\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"héllo\"},\"x_unknown\":{\"kept\":true}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":2}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];

// === asking ===

/// A provider of a kind as the configuration would make it.
pub(crate) fn vendor(kind: &str, settings: Value) -> Arc<dyn Provider> {
    let mut registry: Registry<dyn Provider, ()> = Registry::new();
    penstock_provider_http::register(&mut registry);
    registry
        .build(&Section::new(kind, "vendor", settings), &())
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A generic provider with the sentinel key, before a server.
pub(crate) fn plain(server: &Server) -> Arc<dyn Provider> {
    vendor("openai_compatible", json!({"base_url": server.base, "api_key": KEY}))
}

/// A generic provider with short phases, in milliseconds.
pub(crate) fn hasty(server: &Server, first_token: u64, idle: u64, total: u64) -> Arc<dyn Provider> {
    let timeouts = json!({"first_token": format!("{first_token}ms"), "idle": format!("{idle}ms"), "total": format!("{total}ms")});
    vendor("openai_compatible", json!({"base_url": server.base, "api_key": KEY, "timeouts": timeouts}))
}

pub(crate) fn request(task: Task, body: &str) -> Request {
    let decoded =
        openai::request::decode(task, Bytes::copy_from_slice(body.as_bytes()), &DecodeLimits::default())
            .expect("the request is valid");
    decoded.into_request(RequestId::new("req_test"), Origin::Http, None)
}

pub(crate) fn call(task: Task, body: &str) -> Call {
    Call {
        request: Arc::new(request(task, body)),
        model: "vendor-model".into(),
        credential: 0,
        deadline: None,
    }
}

/// The same for an asker of Anthropic's dialect.
pub(crate) fn message_call(body: &str) -> Call {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let decoded = anthropic::request::decode(Task::Chat, bytes, &DecodeLimits::default())
        .expect("the request is valid");
    let request = decoded.into_request(RequestId::new("req_test"), Origin::Http, None);
    Call { request: Arc::new(request), model: "vendor-model".into(), credential: 0, deadline: None }
}

/// Asks for a message and reads the answer; an error instead of an answer counts as its failure.
pub(crate) async fn message_through(vendor: &dyn Provider, body: &str) -> Answer {
    match vendor.chat().expect("the vendor chats").chat(message_call(body)).await {
        Ok(deltas) => read(deltas).await,
        Err(error) => Answer { failed: Some(error), ..Answer::default() },
    }
}

pub(crate) const CHAT_ASK: &str = r#"{"model":"large","messages":[{"role":"user","content":"hi"}]}"#;
pub(crate) const STREAM_ASK: &str =
    r#"{"model":"large","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// Asks for a chat.
pub(crate) async fn chat(vendor: &dyn Provider, body: &str) -> Result<Deltas, Error> {
    vendor.chat().expect("the vendor chats").chat(call(Task::Chat, body)).await
}

/// An answer, folded.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) deltas: Vec<Delta>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) text: String,
    pub(crate) failed: Option<Error>,
}

impl Answer {
    pub(crate) fn body(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("UTF-8")
    }

    pub(crate) fn code(&self) -> Option<Code> {
        self.failed.as_ref().map(Error::code)
    }
}

/// Reads an answer to its end; nothing may follow a failure.
pub(crate) async fn read(mut deltas: Deltas) -> Answer {
    let mut answer = Answer::default();
    while let Some(delta) = deltas.next().await {
        assert!(answer.failed.is_none(), "a delta after Failed: {delta:?}");
        match &delta {
            Delta::Raw(raw) => answer.bytes.extend_from_slice(&raw.bytes),
            Delta::Whole(whole) => answer.bytes.extend_from_slice(&whole.bytes),
            Delta::Text { text, .. } => answer.text.push_str(text),
            Delta::Failed(error) => answer.failed = Some(error.clone()),
            _ => {}
        }
        answer.deltas.push(delta);
    }
    assert!(deltas.next().await.is_none(), "a stream that ended goes on");
    answer
}

/// Asks for a chat and reads the answer; an error instead of an answer counts as its failure.
pub(crate) async fn chat_through(vendor: &dyn Provider, body: &str) -> Answer {
    match chat(vendor, body).await {
        Ok(deltas) => read(deltas).await,
        Err(error) => Answer { failed: Some(error), ..Answer::default() },
    }
}
