//! A gateway on a free port: keys from a file, one scripted provider, records kept.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use penstock_admission::Admission;
use penstock_config::{FileKey, Limits, Urgency};
use penstock_domain::{
    Code, Delta, Dialect, Error, FinishReason, Notes, RawBody, RawEvents, Relayed, RelayedHead, Retry, Usage,
};
use penstock_edge::{Drain, Edge, EdgeSettings, Extra, serve};
use penstock_flow::{Gateway, Parts};
use penstock_identity::{KeyRecord, KeyStore, Keys, Listing, Pending, Pepper};
use penstock_observe::{Record, Recorder};
use penstock_provider::{Call, Calling, Chat, Complete, Deltas, Embed, Health, Provider, Relay};
use penstock_routing::{Catalogue, Deployment, Model, RelayRule};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// May do everything.
pub(crate) const KEY: &str = "the-right-key-0123456789";
/// Is known and holds a scope that no route of the edge needs.
pub(crate) const POOR: &str = "a-poor-key-0123456789abc";
/// May relay what is about files.
pub(crate) const FILES: &str = "a-files-key-0123456789abc";
/// May do everything, with one model.
pub(crate) const SOME_MODELS: &str = "a-models-key-0123456789ab";
/// As [`KEY`], for people who wait.
pub(crate) const URGENT: &str = "an-urgent-key-0123456789a";
/// As [`KEY`], for work that nobody waits for.
pub(crate) const BATCH: &str = "a-batch-key-0123456789abc";
/// Was good once.
pub(crate) const OLD: &str = "an-old-key-0123456789abc";
/// What the model `whole` answers, to the byte.
pub(crate) const WHOLE: &str =
    "{ \"id\":\"chatcmpl-1\",  \"object\": \"chat.completion\", \"choices\":[],\"oddity\":1e2 }";
/// What the model `raw` streams, to the byte.
pub(crate) const RAW: &str =
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Paris\"}}]}\n\n";

/// What the model `raw-messages` streams, to the byte.
pub(crate) const RAW_MESSAGE: &str = "event: message_start\ndata: {\"type\":\"message_start\"}\n\nevent: message_stop\ndata: {\"type\": \"message_stop\"}\n\n";
/// What the model `whole-message` answers, to the byte.
pub(crate) const WHOLE_MESSAGE: &str = "{ \"type\":\"message\",  \"oddity\":1e2 }";

/// May ask, and belongs to the team `t`.
pub(crate) const ASKS: &str = "an-asking-key-0123456789a";
/// May read what the team `t` was answered.
pub(crate) const READS: &str = "a-reading-key-0123456789a";
/// May delete it.
pub(crate) const DELETES: &str = "a-deleting-key-0123456789";
/// As [`ASKS`], of another team.
pub(crate) const FOREIGN: &str = "a-foreign-key-0123456789a";
/// What the model `raw-responses` streams, to the byte.
pub(crate) const RAW_RESPONSE: &[&str] = &[
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_v1\",\"store\":false,\"output\":[]}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\": \"response.output_text.delta\", \"delta\":\"Paris\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_v1\",\"status\":\"completed\",\"store\":false,\"output\":[{\"type\":\"message\",\"id\":\"msg_v1\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"Paris\"}]}]}}\n\n",
];
/// What the model `whole-response` answers, to the byte.
pub(crate) const WHOLE_RESPONSE: &str =
    "{ \"id\":\"resp_v2\", \"status\":\"completed\", \"store\" : false, \"oddity\":1e2, \"output\":[] }";

/// Models that the scripted provider plays.
pub(crate) const MODELS: &[&str] = &[
    "plain",
    "raw",
    "whole",
    "panic",
    "panic-later",
    "silent",
    "endless",
    "flood",
    "cut",
    "late",
    "limited",
    "html",
    "org/slashed",
    "vectors",
    "raw-messages",
    "raw-messages-cut",
    "whole-message",
    "translated",
    "full",
    "raw-responses",
    "whole-response",
];

/// What the provider tells the test.
#[derive(Default)]
pub(crate) struct Watch {
    /// A call's stream or future was dropped.
    pub(crate) gone: Notify,
    /// A call has begun.
    pub(crate) begun: Notify,
    /// Lets the model `late` finish.
    pub(crate) go: Notify,
    /// Deltas that the model `flood` gave.
    pub(crate) flooded: AtomicUsize,
    /// Calls so far.
    pub(crate) calls: AtomicUsize,
    /// The body of the last call.
    pub(crate) body: Mutex<Bytes>,
}

impl Watch {
    /// The body of the last call, as JSON.
    pub(crate) fn seen(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body.lock().unwrap()).unwrap()
    }
}

struct Guard(Arc<Watch>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.gone.notify_one();
    }
}

struct Scripted {
    watch: Arc<Watch>,
    health: Health,
}

pub(crate) fn text(text: &str) -> Delta {
    Delta::Text { choice: 0, text: text.into(), logprobs: Vec::new() }
}

fn raw(bytes: impl Into<Bytes>) -> Delta {
    let notes = Notes { content: true, events: 1, ..Notes::default() };
    Delta::Raw(RawEvents { dialect: Dialect::OpenAi, bytes: bytes.into(), notes })
}

fn raw_messages() -> Delta {
    let notes = Notes { content: true, events: 2, ..Notes::default() };
    Delta::Raw(RawEvents {
        dialect: Dialect::Anthropic,
        bytes: Bytes::from_static(RAW_MESSAGE.as_bytes()),
        notes,
    })
}

fn raw_response(at: usize) -> Delta {
    let notes = Notes { content: at > 0, events: 1, ..Notes::default() };
    let bytes = Bytes::from_static(RAW_RESPONSE[at].as_bytes());
    Delta::Raw(RawEvents { dialect: Dialect::Responses, bytes, notes })
}

fn end() -> Vec<Delta> {
    vec![
        Delta::Finished { choice: 0, reason: FinishReason::Stop, stop: None },
        Delta::Usage(Usage { input: 3, output: 1, ..Usage::default() }),
    ]
}

impl Scripted {
    fn play(&self, call: Call) -> Calling<'_> {
        let watch = Arc::clone(&self.watch);
        watch.calls.fetch_add(1, Ordering::SeqCst);
        *watch.body.lock().unwrap() = call.request.body.bytes().clone();
        watch.begun.notify_one();
        let guard = Guard(Arc::clone(&watch));
        let opening = stream::iter([Delta::Started(Default::default()), text("Paris")]);
        let answer: Result<Deltas, Error> = match &*call.model {
            "raw" => Ok(stream::iter([raw(RAW), raw(RAW)]).boxed()),
            "whole" => {
                let notes = Notes { content: true, ..Notes::default() };
                let body =
                    RawBody { dialect: Dialect::OpenAi, bytes: Bytes::from_static(WHOLE.as_bytes()), notes };
                Ok(stream::iter([Delta::Whole(body)]).boxed())
            }
            "raw-messages" => Ok(stream::iter([raw_messages()]).boxed()),
            "raw-messages-cut" => {
                let cut = Error::new(Code::UpstreamStreamCut, "the vendor's stream ended too early");
                Ok(stream::iter([raw_messages(), Delta::Failed(cut)]).boxed())
            }
            "whole-message" => {
                let notes = Notes { content: true, ..Notes::default() };
                let bytes = Bytes::from_static(WHOLE_MESSAGE.as_bytes());
                let body = RawBody { dialect: Dialect::Anthropic, bytes, notes };
                Ok(stream::iter([Delta::Whole(body)]).boxed())
            }
            "raw-responses" => Ok(stream::iter([0, 1, 2].map(raw_response)).boxed()),
            "whole-response" => {
                let notes = Notes { content: true, ..Notes::default() };
                let bytes = Bytes::from_static(WHOLE_RESPONSE.as_bytes());
                let body = RawBody { dialect: Dialect::Responses, bytes, notes };
                Ok(stream::iter([Delta::Whole(body)]).boxed())
            }
            "translated" => {
                let lost = Delta::Dropped(vec!["seed".into(), "top_k".into()]);
                Ok(stream::iter([lost]).chain(opening).chain(stream::iter(end())).boxed())
            }
            "full" => Err(Error::new(Code::Overloaded, "the provider has no free slot")),
            "panic" => panic!("the provider panics"),
            "panic-later" => {
                Ok(opening.chain(stream::once(async { panic!("the provider panics later") })).boxed())
            }
            "silent" => {
                return async move {
                    let _guard = guard;
                    std::future::pending().await
                }
                .boxed();
            }
            "endless" => Ok(opening
                .chain(stream::pending().inspect(move |_: &Delta| {
                    let _ = &guard;
                }))
                .boxed()),
            "flood" => {
                let event = Bytes::from(format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(4096)));
                Ok(stream::repeat_with(move || {
                    let _ = &guard;
                    watch.flooded.fetch_add(1, Ordering::SeqCst);
                    raw(event.clone())
                })
                .boxed())
            }
            "cut" => {
                let cut = Error::new(Code::UpstreamStreamCut, "the vendor's stream ended too early");
                Ok(opening.chain(stream::iter([Delta::Failed(cut)])).boxed())
            }
            "late" => {
                let rest =
                    async move { watch.go.notified().await }.into_stream().flat_map(|()| stream::iter(end()));
                Ok(opening.chain(rest).boxed())
            }
            "limited" => Err(Error::new(Code::UpstreamRateLimited, "the vendor limits us")
                .with_retry(Retry::After(Duration::from_millis(1_200)))),
            "html" => Err(Error::new(Code::UpstreamBadResponse, "the vendor answered with a web page")),
            "vectors" => Ok(stream::iter([Delta::Vectors(vec![vec![0.5, -0.5]]), end().remove(1)]).boxed()),
            _ => Ok(opening.chain(stream::iter(end())).boxed()),
        };
        async move { answer }.boxed()
    }
}

impl Provider for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn health(&self) -> Health {
        self.health.clone()
    }

    fn chat(&self) -> Option<&dyn Chat> {
        Some(self)
    }

    fn complete(&self) -> Option<&dyn Complete> {
        Some(self)
    }

    fn embed(&self) -> Option<&dyn Embed> {
        Some(self)
    }

    fn relay(&self) -> Option<&dyn Relay> {
        Some(self)
    }
}

impl Relay for Scripted {
    /// Tells what it was asked; the last segment of the path says how.
    fn relay(&self, call: Call) -> Calling<'_> {
        let passage = call.request.body.passage().unwrap().clone();
        self.watch.calls.fetch_add(1, Ordering::SeqCst);
        *self.watch.body.lock().unwrap() = call.request.body.bytes().clone();
        let guard = Guard(Arc::clone(&self.watch));
        let headers: Vec<_> =
            passage.headers.iter().map(|(name, value)| format!("{name}={}", value.escape_ascii())).collect();
        let query = passage.query.as_deref().unwrap_or("-");
        let told = format!("{} {} {query} {}", passage.method, passage.path, headers.join(","));
        let head = |status, length| {
            let headers = vec![("content-type", Bytes::from_static(b"text/plain"))];
            Delta::Relayed(Relayed::Head(Box::new(RelayedHead { status, headers, length })))
        };
        let bytes = |text: &str| Delta::Relayed(Relayed::Bytes(Bytes::copy_from_slice(text.as_bytes())));
        let answer: Result<Deltas, Error> = match passage.path.rsplit('/').next().unwrap() {
            "missing" => Ok(stream::iter([head(404, None), bytes("none")]).boxed()),
            "barred" => Err(Error::new(Code::UpstreamAuth, "the provider refused the key")),
            "cut" => {
                let cut = Error::new(Code::UpstreamStreamCut, "the vendor's answer ended too early");
                Ok(stream::iter([head(200, Some(10)), bytes("12345"), Delta::Failed(cut)]).boxed())
            }
            "endless" => Ok(stream::iter([head(200, None), bytes("first")])
                .chain(stream::pending().inspect(move |_: &Delta| {
                    let _ = &guard;
                }))
                .boxed()),
            _ => Ok(stream::iter([head(200, Some(told.len() as u64)), bytes(&told)]).boxed()),
        };
        async move { answer }.boxed()
    }
}

impl Chat for Scripted {
    fn chat(&self, call: Call) -> Calling<'_> {
        self.play(call)
    }
}

impl Complete for Scripted {
    fn complete(&self, call: Call) -> Calling<'_> {
        self.play(call)
    }
}

impl Embed for Scripted {
    fn embed(&self, call: Call) -> Calling<'_> {
        self.play(call)
    }
}

#[derive(Default)]
pub(crate) struct Kept {
    begun: AtomicUsize,
    records: Mutex<Vec<Record>>,
    ended: Notify,
}

impl Kept {
    /// What was recorded so far.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }
}

impl Recorder for Kept {
    fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    fn end(&self, record: Record) {
        self.records.lock().unwrap().push(record);
        self.ended.notify_one();
    }
}

struct NoStore;

impl KeyStore for NoStore {
    fn list(&self) -> Pending<'_, Listing> {
        Box::pin(async { Ok(Listing { revision: 0, keys: Vec::new() }) })
    }

    fn insert(&self, _: KeyRecord) -> Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn update(&self, record: KeyRecord) -> Pending<'_, KeyRecord> {
        Box::pin(async { Ok(record) })
    }

    fn revision(&self) -> Pending<'_, u64> {
        Box::pin(async { Ok(0) })
    }
}

fn key(name: &str, key: &str, scopes: &[&str], expires: Option<&str>) -> FileKey {
    FileKey {
        name: name.into(),
        key: serde_json::from_value(serde_json::json!(key)).unwrap(),
        team: None,
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        models: Vec::new(),
        limits: Limits { requests_per_minute: Some(10_000), ..Limits::default() },
        budget: None,
        expires: expires.map(|at| serde_json::from_value(serde_json::json!(at)).unwrap()),
        allow_ips: Vec::new(),
        priority: None,
    }
}

/// A running gateway.
pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) watch: Arc<Watch>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) drain: Drain,
    pub(crate) server: JoinHandle<()>,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(EdgeSettings::default(), Extra::default(), Health::Ready).await
    }

    pub(crate) async fn set(settings: EdgeSettings) -> Self {
        Self::with(settings, Extra::default(), Health::Ready).await
    }

    pub(crate) async fn with(settings: EdgeSettings, extra: Extra, health: Health) -> Self {
        Self::with_relay(settings, extra, health, &[]).await
    }

    /// A gateway that passes on what these paths cover.
    pub(crate) async fn relaying(settings: EdgeSettings, paths: &[&str]) -> Self {
        Self::with_relay(settings, Extra::default(), Health::Ready, paths).await
    }

    pub(crate) async fn with_relay(
        settings: EdgeSettings,
        extra: Extra,
        health: Health,
        paths: &[&str],
    ) -> Self {
        let keys = Keys::new(Arc::new(NoStore), Pepper::new([7; 32]));
        let file = [
            key("right", KEY, &["*"], None),
            key("poor", POOR, &["tools:call"], None),
            key("files", FILES, &["relay:invoke:files"], None),
            FileKey { models: vec!["raw".into()], ..key("some-models", SOME_MODELS, &["*"], None) },
            FileKey { priority: Some(Urgency::Interactive), ..key("urgent", URGENT, &["*"], None) },
            FileKey { priority: Some(Urgency::Batch), ..key("batch", BATCH, &["*"], None) },
            key("old", OLD, &["*"], Some("2020-01-01T00:00:00Z")),
            FileKey { team: Some("t".into()), ..key("asks", ASKS, &["chat:invoke"], None) },
            FileKey { team: Some("t".into()), ..key("reads", READS, &["chat:read"], None) },
            FileKey { team: Some("t".into()), ..key("deletes", DELETES, &["chat:delete"], None) },
            FileKey { team: Some("f".into()), ..key("foreign", FOREIGN, &["chat:*"], None) },
        ];
        keys.use_file(&file, Limits::default()).unwrap();
        let watch = Arc::new(Watch::default());
        let kept = Arc::new(Kept::default());
        let scripted: Arc<dyn Provider> = Arc::new(Scripted { watch: Arc::clone(&watch), health });
        let missing = Health::Unavailable("the model is not installed".into());
        let local: Arc<dyn Provider> = Arc::new(Scripted { watch: Arc::clone(&watch), health: missing });
        let models = MODELS
            .iter()
            .map(|name| Model { max_output_tokens: Some(1_000_000), ..Model::single(*name, "vendor", None) });
        let relay = (!paths.is_empty()).then(|| RelayRule {
            place: Deployment::new("vendor", None),
            paths: paths.iter().map(|path| (*path).into()).collect(),
        });
        let gateway = Gateway::new(Parts {
            keys: keys.ring(),
            admission: Arc::new(Admission::new(Instant::now())),
            rules: Default::default(),
            catalogue: Catalogue::new(models).with_relay(relay),
            fleet: Default::default(),
            doors: Default::default(),
            shares: Default::default(),
            bounds: HashMap::new(),
            providers: HashMap::from([("vendor".into(), scripted), ("local".into(), local)]),
            captures: penstock_flow::Captures::default(),
            recorder: Arc::clone(&kept) as Arc<dyn Recorder>,
            made: SystemTime::now(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = Drain::new();
        let server = tokio::spawn(serve(listener, Edge::new(gateway, settings, extra, drain.clone())));
        Self { address, watch, kept, drain, server }
    }

    /// The codes of what has ended until now.
    pub(crate) fn codes_so_far(&self) -> Vec<&'static str> {
        self.kept.records.lock().unwrap().iter().map(|record| record.outcome.code()).collect()
    }

    /// Waits until every request that began has ended, and gives the codes in order.
    pub(crate) async fn codes(&self, expected: usize) -> Vec<&'static str> {
        tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                let ended = self.kept.ended.notified();
                if self.kept.records.lock().unwrap().len() >= expected {
                    return;
                }
                ended.await;
            }
        })
        .await
        .expect("the records come");
        assert_eq!(self.kept.begun.load(Ordering::SeqCst), expected, "every request begins once");
        self.codes_so_far()
    }
}
