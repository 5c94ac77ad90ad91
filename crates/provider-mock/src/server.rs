//! The scripted provider as an HTTP server: HTTP/1.1 and HTTP/2 without TLS, OpenAI's (chats and responses), Anthropic's
//! and Gemini's dialects.
//!
//! What it promises: the engine and the script of the provider in process, every fault on the real wire, and its own
//! count beside it. Lean on purpose: benchmarks put it behind the gateway, and its time must not be theirs.

mod events;
mod gemini;
mod messages;
mod reply;
mod responses;
mod route;
mod vendor;
mod wire;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::task::JoinSet;

use crate::script::Script;
use crate::select::Selector;
use crate::stats::{Counters, SeenCall, SeenRequest, Stats};
use wire::{Order, Wire};

/// How long connections may take to end at shutdown.
const LINGER: Duration = Duration::from_millis(500);
/// How long to wait when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What every connection shares.
pub(crate) struct Shared {
    selector: RwLock<Arc<Selector>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) ids: AtomicU64,
}

/// A bound server that does not serve yet.
pub struct MockServer {
    listener: TcpListener,
    handle: MockHandle,
}

/// The view of a server from outside: its address and its count. Clones are cheap and outlive the server.
#[derive(Clone)]
pub struct MockHandle {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

/// A server in the background; it stops when this is dropped.
pub struct RunningMock {
    handle: MockHandle,
    _tasks: JoinSet<()>,
}

impl MockServer {
    /// Binds the address; port 0 takes a free one.
    ///
    /// # Errors
    /// The socket's, and `InvalidInput` for a script that cannot be followed.
    pub async fn bind(addr: impl ToSocketAddrs, script: Script) -> io::Result<Self> {
        script.check_served().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listener = TcpListener::bind(addr).await?;
        let shared = Arc::new(Shared {
            selector: RwLock::new(Arc::new(Selector::new(script))),
            counters: Arc::default(),
            ids: AtomicU64::new(0),
        });
        let handle = MockHandle { addr: listener.local_addr()?, shared };
        Ok(Self { listener, handle })
    }

    /// Binds a free port of 127.0.0.1 and serves in the background, for tests.
    ///
    /// # Errors
    /// As [`MockServer::bind`].
    pub async fn spawn(script: Script) -> io::Result<RunningMock> {
        let server = Self::bind(("127.0.0.1", 0), script).await?;
        let handle = server.handle();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve_until(std::future::pending::<()>()));
        Ok(RunningMock { handle, _tasks: tasks })
    }

    /// A view that stays when the server is consumed by [`MockServer::serve_until`].
    pub fn handle(&self) -> MockHandle {
        self.handle.clone()
    }

    /// Serves until the future ends, then gives connections half a second.
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, handle } = self;
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    handle.shared.counters.connection();
                    connections.spawn(serve_connection(stream, Arc::clone(&handle.shared)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the mock server could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        // Whoever is late is cut off by the drop of the set.
        let _ = tokio::time::timeout(LINGER, ended).await;
    }
}

impl Deref for MockServer {
    type Target = MockHandle;
    fn deref(&self) -> &MockHandle {
        &self.handle
    }
}

impl Deref for RunningMock {
    type Target = MockHandle;
    fn deref(&self) -> &MockHandle {
        &self.handle
    }
}

impl MockHandle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base address that OpenAI clients want: `http://…/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// The count so far.
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats()
    }

    /// The last requests, at most 1,000, the oldest first.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.counters.requests()
    }

    /// The last calls that ended, at most 10,000, the oldest first.
    pub fn calls(&self) -> Vec<SeenCall> {
        self.shared.counters.calls()
    }

    /// Forgets what was counted and starts every rule again.
    pub fn reset(&self) {
        self.shared.reset();
    }
}

impl Shared {
    pub(crate) fn selector(&self) -> Arc<Selector> {
        Arc::clone(&self.selector.read())
    }

    /// Follows another script, which was checked, from now on.
    pub(crate) fn follow(&self, script: Script) {
        *self.selector.write() = Arc::new(Selector::new(script));
    }

    pub(crate) fn reset(&self) {
        self.counters.reset();
        self.selector().reset();
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    // Small events must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let order = Arc::new(Order::default());
    let wire = Wire::new(stream, Arc::clone(&order));
    let service = service_fn(move |request| route::answer(request, Arc::clone(&shared), Arc::clone(&order)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(10_000);
    // A connection that the script or the peer broke ends with an error: that is the point of it.
    if let Err(error) = builder.serve_connection(TokioIo::new(wire), service).await {
        tracing::debug!(error = &*error, "a connection to the mock server ended early");
    }
}

/// The few members of a request that the server itself acts on.
pub(crate) struct Head {
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) choices: u32,
    pub(crate) max_tokens: Option<u32>,
}
