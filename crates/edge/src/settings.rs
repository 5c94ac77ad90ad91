use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use penstock_conversation::{Conversations, MemoryResponses, Policy};
use penstock_dialect::DecodeLimits;
use penstock_idempotency::{Idempotency, MemoryAnswers};
use penstock_identity::IpRange;

/// Which routes a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Surface {
    /// All of them: one address for everything.
    #[default]
    All,
    /// The API and the health routes, when administration has an address of its own.
    Data,
    /// Administration, metrics, health and documentation.
    Admin,
}

/// How the edge behaves: bounds and times, each with a default that is safe on a public address.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeSettings {
    /// Which routes this listener answers.
    pub surface: Surface,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// Largest request line and headers together in bytes; more answers 431.
    pub max_head: usize,
    /// How long a client may take to send its request line and headers.
    pub header_timeout: Duration,
    /// How long a client may take to send its body, plus one second per [`body_rate`](Self::body_rate) received.
    pub body_timeout: Duration,
    /// Bytes per second that a body must average once `body_timeout` has passed.
    pub body_rate: u32,
    /// How long a kept-alive connection may stay silent between requests; it closes between once and twice this time.
    pub idle_timeout: Duration,
    /// How long a client may refuse to read before its connection is closed.
    pub write_timeout: Duration,
    /// How often a silent stream gets a comment line.
    pub keep_alive: Duration,
    /// How long a stream waits for its first content before status and headers are sent without it. From then on
    /// errors are in-band.
    pub hold_max: Duration,
    /// How long streams may go on after a drain began.
    pub drain: Duration,
    /// Most open connections; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Most requests of models that are inside at once, their answers included. Batch work may fill 70 % of it, standard work
    /// 90 %; whoever finds no room gets 503.
    pub max_in_flight: usize,
    /// Most bytes of their bodies that are held in memory at once, in the same shares. More than `max_body`.
    pub max_in_flight_bytes: usize,
    /// Most concurrent streams of one HTTP/2 connection.
    pub max_http2_streams: u32,
    /// Names under which this gateway may be addressed. Empty allows every `Host`, but then browsers may change things
    /// only under IP addresses and `localhost`, which no DNS rebinding can fake.
    pub hosts: Vec<String>,
    /// Host and port under which people sign in with a browser: its pages may change things whatever `hosts` says.
    pub console: Vec<String>,
    /// Proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<IpRange>,
    /// Bounds of the request decoder.
    pub decode: DecodeLimits,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            surface: Surface::All,
            max_body: 20 << 20,
            max_head: 64 << 10,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_rate: 64 << 10,
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(15),
            hold_max: Duration::from_secs(10),
            drain: Duration::from_secs(30),
            max_connections: 16 * 1024,
            max_in_flight: 16 * 1024,
            max_in_flight_bytes: 512 << 20,
            max_http2_streams: 100,
            hosts: Vec::new(),
            console: Vec::new(),
            trusted_proxies: Vec::new(),
            decode: DecodeLimits::default(),
        }
    }
}

/// Gives the text of `/metrics`.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Tells whether the store answered lately, or why it did not. Must not block.
pub type StoreHealth = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the binary hands in beside the gateway.
#[derive(Clone)]
pub struct Extra {
    /// Answers everything under `/admin/`. It authorises by its own route table.
    pub admin: Option<axum::Router>,
    /// The text of `/openapi.json`, see [`crate::openapi::document`].
    pub openapi: Bytes,
    /// Gives the text of `/metrics`.
    pub metrics: MetricsText,
    /// Tells whether the store answers.
    pub store: StoreHealth,
    /// What was said before.
    pub conversations: Arc<Conversations>,
    /// What was done before.
    pub idempotency: Arc<Idempotency>,
}

impl Default for Extra {
    /// No administration, the edge's own routes as OpenAPI document, no metrics, a healthy store, conversations and kept answers in memory.
    fn default() -> Self {
        Self {
            admin: None,
            openapi: crate::openapi::document(&crate::rows(), serde_json::Map::new()),
            metrics: Arc::new(String::new),
            store: Arc::new(|| Ok(())),
            conversations: Arc::new(Conversations::new(
                Arc::new(MemoryResponses::default()),
                Policy::default(),
                Box::new(|_| {}),
            )),
            // Nobody but this process has what these 32 bytes seal.
            idempotency: Arc::new(Idempotency::new(
                Arc::new(MemoryAnswers::default()),
                &[0; 32],
                penstock_idempotency::Policy::default(),
            )),
        }
    }
}
