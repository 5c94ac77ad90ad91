//! Connections to one vendor: dialling and TLS.
//!
//! What it is: connections that are bounded in time to open, and watched just enough to tell a stale one from a vendor
//! that failed.
//!
//! What it promises: the system's trust roots are read once for all vendors, at the first https connection, off the
//! runtime's threads, so that start-up does not pay for them. No redirect, proxy or cookie is ever followed or kept.
//!
//! What it refuses to know: credentials, bodies, dialects.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tower::Service;

use crate::names::{Names, System};
use crate::pool::{PROBE_ANSWER, PROBE_EVERY};

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

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

/// Opens connections to one origin.
pub(crate) struct Dial {
    http: HttpConnector<Names>,
    names: Names,
    connect: Duration,
    tls: Tls,
    origin: Uri,
    /// The vendor chose HTTP/1.1 the last time.
    one: AtomicBool,
}

/// A connection, and whether HTTP/2 was agreed on for it.
pub(crate) struct Opened {
    pub(crate) io: TokioIo<Wire>,
    pub(crate) past: Past,
    pub(crate) two: bool,
}

impl Dial {
    /// Dials `origin`, any URI of it, by the system's name resolution. Opens nothing yet.
    pub(crate) fn new(origin: Uri, connect: Duration, tls: Tls) -> Self {
        Self::by(origin, connect, tls, Names::over(System))
    }

    /// The same by another name resolution.
    fn by(origin: Uri, connect: Duration, tls: Tls, names: Names) -> Self {
        let mut http = HttpConnector::new_with_resolver(names.clone());
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(PROBE_EVERY));
        http.set_keepalive_interval(Some(PROBE_ANSWER));
        http.set_keepalive_retries(Some(3));
        #[cfg(target_os = "linux")]
        http.set_tcp_user_timeout(Some(PROBE_EVERY + PROBE_ANSWER));
        let one = AtomicBool::new(origin.scheme() != Some(&Scheme::HTTPS));
        Self { http, names, connect, tls, origin, one }
    }

    /// Whether the next connection may turn out to be one that requests share.
    pub(crate) fn may_share(&self) -> bool {
        !self.one.load(Ordering::Relaxed)
    }

    /// Notes that the vendor chose HTTP/1.1.
    pub(crate) fn spoke_one(&self) {
        self.one.store(true, Ordering::Relaxed);
    }

    async fn dial(&self) -> Result<Stream, BoxError> {
        let mut http = self.http.clone();
        if self.origin.scheme() == Some(&Scheme::HTTPS) {
            HttpsConnector::from((http, self.tls.config().await?)).call(self.origin.clone()).await
        } else {
            Ok(MaybeHttpsStream::Http(http.call(self.origin.clone()).await?))
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`ConnectLate`], or what name resolution, TCP or TLS said.
    pub(crate) async fn open(&self) -> Result<Opened, BoxError> {
        let opening = async {
            let begun = Instant::now();
            let opened = self.dial().await;
            // The name may lead elsewhere by now, and what we remembered of it is all that failed.
            match opened {
                Err(_) if self.names.moved(self.origin.host().unwrap_or_default(), begun).await => {
                    self.dial().await
                }
                opened => opened,
            }
        };
        let io = TokioIo::new(tokio::time::timeout(self.connect, opening).await.map_err(|_| ConnectLate)??);
        let two = io.connected().is_negotiated_h2();
        let past = Past::default();
        Ok(Opened { io: TokioIo::new(Wire { io, past: past.clone() }), past, two })
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

/// Whether the vendor said anything on a connection since the last request was handed to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past(Arc<AtomicBool>);

impl Past {
    /// A new request begins.
    pub(crate) fn forget(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether a byte has come since.
    pub(crate) fn was_heard(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that notes whether the vendor says anything.
pub(crate) struct Wire {
    io: TokioIo<Stream>,
    past: Past,
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
            self.past.0.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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

#[cfg(test)]
mod tests;
