//! Connections to one vendor: dialling, TLS, pooling.
//!
//! What it is: an HTTP/1.1 and HTTP/2 client whose connections are bounded in time to open, kept warm, and watched just
//! enough to tell a stale pooled connection from a vendor that failed.
//!
//! What it promises: the system's trust roots are read once for all vendors, at the first https connection, off the
//! runtime's threads, so that start-up does not pay for them. No redirect, proxy or cookie is ever followed or kept.
//!
//! What it refuses to know: credentials, bodies, dialects.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::uri::Scheme;
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tower::Service;

type BoxError = Box<dyn StdError + Send + Sync>;
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The client of one vendor; clones share its pool.
pub(crate) type HttpClient = Client<Dial, Full<Bytes>>;

/// Unused connections kept per vendor, and for how long: a little less than the 60 to 75 seconds after which common
/// load balancers close them.
const IDLE_CONNECTIONS: usize = 256;
const IDLE_FOR: Duration = Duration::from_secs(50);
/// Bound of an HTTP/1.1 connection's read buffer, and thereby of response headers.
const READ_BUFFER: usize = 64 << 10;
/// HTTP/2 windows. What slow askers leave unread counts against the connection that all share, so one stream may hold
/// little of it: some hundred stalled askers do not stop the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// How long a lost peer stays unnoticed on an otherwise silent connection.
const PROBE_EVERY: Duration = Duration::from_secs(20);
const PROBE_ANSWER: Duration = Duration::from_secs(10);

/// Builds the client of one vendor. Opens nothing.
pub(crate) fn client(connect: Duration, tls: Tls) -> HttpClient {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(PROBE_EVERY));
    http.set_keepalive_interval(Some(PROBE_ANSWER));
    http.set_keepalive_retries(Some(3));
    #[cfg(target_os = "linux")]
    http.set_tcp_user_timeout(Some(PROBE_EVERY + PROBE_ANSWER));
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_FOR)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http1_max_buf_size(READ_BUFFER)
        .http2_max_header_list_size(READ_BUFFER as u32)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PROBE_EVERY)
        .http2_keep_alive_timeout(PROBE_ANSWER)
        .build(Dial { http, connect, tls })
}

/// Whom to trust for https.
#[derive(Clone)]
pub(crate) enum Tls {
    /// The system's certificate authorities.
    System,
    /// These alone.
    Only(Arc<ClientConfig>),
}

static SYSTEM: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();

impl Tls {
    /// Trusts the certificate authorities of a PEM file and no others.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(crate) fn only(file: &Path) -> Result<Self, String> {
        let mut roots = rustls::RootCertStore::empty();
        let certificates =
            CertificateDer::pem_file_iter(file).map_err(|e| format!("expected a readable PEM file: {e}"))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| format!("expected certificates in PEM form: {e}"))?;
            roots.add(certificate).map_err(|e| format!("expected certificates of authorities: {e}"))?;
        }
        if roots.is_empty() {
            return Err("expected at least one certificate in PEM form, found none".to_owned());
        }
        let config = versions()
            .map_err(|e| format!("TLS could not be set up: {e}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Tls::Only(with_alpn(config)))
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, BoxError> {
        match self {
            Tls::Only(config) => Ok(Arc::clone(config)),
            // A failure is not kept: an operator who mends the system's store need not restart.
            Tls::System => SYSTEM
                .get_or_try_init(|| async {
                    tokio::task::spawn_blocking(|| {
                        let config = versions()?.with_native_roots()?.with_no_client_auth();
                        Ok::<_, BoxError>(with_alpn(config))
                    })
                    .await?
                })
                .await
                .map(Arc::clone),
        }
    }
}

fn versions() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

fn with_alpn(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Dial {
    http: HttpConnector,
    connect: Duration,
    tls: Tls,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Wire>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { mut http, connect, tls } = self.clone();
        Box::pin(async move {
            let opening = async {
                if uri.scheme() == Some(&Scheme::HTTPS) {
                    HttpsConnector::from((http, tls.config().await?)).call(uri).await
                } else {
                    Ok(MaybeHttpsStream::Http(http.call(uri).await?))
                }
            };
            match tokio::time::timeout(connect, opening).await {
                Ok(opened) => Ok(TokioIo::new(Wire { io: TokioIo::new(opened?), past: Past::default() })),
                Err(_) => Err(ConnectLate.into()),
            }
        })
    }
}

/// Opening a connection took longer than the connect time-out.
#[derive(Debug)]
pub(crate) struct ConnectLate;

impl fmt::Display for ConnectLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was not open in time")
    }
}

impl StdError for ConnectLate {}

/// What happened on a connection so far, shared between it and the answers that it carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past(Arc<PastInner>);

#[derive(Debug, Default)]
struct PastInner {
    answered: AtomicBool,
    heard: AtomicBool,
}

impl Past {
    /// Notes that the connection carried an answer: it is a reused one from now on.
    pub(crate) fn note_answer(&self) {
        self.0.answered.store(true, Ordering::Relaxed);
    }
}

/// Whether a failed request met a pooled HTTP/1.1 connection that the vendor had already given up: it had carried an
/// answer before, and not one byte came back since the request was written. (RFC 9112, 9.3.1 names this race.) On
/// HTTP/2 hyper itself repeats what the vendor declared unprocessed; nothing else is safe to repeat there.
pub(crate) fn met_stale_connection(error: &ClientError) -> bool {
    let Some(info) = error.connect_info() else { return false };
    if error.is_connect() || info.is_negotiated_h2() {
        return false;
    }
    let mut extensions = http::Extensions::new();
    info.get_extras(&mut extensions);
    extensions
        .get::<Past>()
        .is_some_and(|past| past.0.answered.load(Ordering::Relaxed) && !past.0.heard.load(Ordering::Relaxed))
}

/// A connection that notes whether the vendor said anything since our last write.
pub(crate) struct Wire {
    io: TokioIo<Stream>,
    past: Past,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.past.clone())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.past.0.heard.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.past.0.heard.store(false, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.past.0.heard.store(false, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
