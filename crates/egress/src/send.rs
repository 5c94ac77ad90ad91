//! One request to a target, over a connection of its own.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::address::Reach;
use crate::target::{Host, Target};
use crate::trust;

/// Most addresses of one name that are looked at and tried.
const MOST: usize = 16;

/// What a look-up returns.
pub type Looking<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Who knows the addresses of names.
pub trait Resolve: Send + Sync {
    /// Looks a name up; asked once for each request.
    fn look<'a>(&'a self, name: &'a str) -> Looking<'a>;
}

/// The system's own resolver.
struct System;

impl Resolve for System {
    fn look<'a>(&'a self, name: &'a str) -> Looking<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|a| a.ip()).collect()) })
    }
}

/// What an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The time from the look-up of the name to the last byte.
    pub time: Duration,
    /// Bytes of the answer's body.
    pub body: usize,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status, redirects included: they are not followed.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer. None of them quotes a path or what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The name has no address.
    NoAddress,
    /// The address, or one of those that the name leads to, may not be connected to: what it is.
    Forbidden(IpAddr, &'static str),
    /// It is not public and would be reached in the clear.
    Clear(IpAddr),
    /// No connection.
    Connect(io::ErrorKind),
    /// No trust.
    Tls(String),
    /// The other side broke off, or does not speak HTTP.
    Http,
    /// It took too long.
    Late(Duration),
    /// The answer is larger than the bound, in bytes.
    Large(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NoAddress => f.write_str("its name leads to no address"),
            Fault::Forbidden(address, what) => {
                write!(f, "it leads to {address}, which is {what}: allow that range if it is meant")
            }
            Fault::Clear(address) => {
                write!(f, "it leads to the public address {address}, which is reached by https alone")
            }
            Fault::Connect(kind) => write!(f, "no connection: {kind}"),
            Fault::Tls(why) => write!(f, "TLS failed: {why}"),
            Fault::Http => f.write_str("the connection broke, or what came is no HTTP"),
            Fault::Late(time) => write!(f, "no answer within {} seconds", time.as_secs()),
            Fault::Large(most) => write!(f, "the answer is larger than {most} bytes"),
        }
    }
}

impl std::error::Error for Fault {}

/// Sends requests, each over a connection of its own that is closed afterwards.
pub struct Egress {
    resolver: Arc<dyn Resolve>,
    tls: OnceCell<Arc<ClientConfig>>,
}

impl Egress {
    /// With the system's resolver and certificate authorities; those are read at the first connection that needs them.
    pub fn new() -> Self {
        Self { resolver: Arc::new(System), tls: OnceCell::new() }
    }

    /// With another resolver.
    pub fn resolving(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, ..Self::new() }
    }

    /// With certificate authorities of one's own.
    #[must_use]
    pub fn trusting(self, config: Arc<ClientConfig>) -> Self {
        Self { tls: OnceCell::new_with(Some(config)), ..self }
    }

    /// With the certificate authorities of a PEM file alone. Reads the file at once.
    ///
    /// # Errors
    /// A sentence on what is wrong with it.
    pub fn trusting_file(file: &Path) -> Result<Self, String> {
        trust::only(file).map(|config| Self::new().trusting(config))
    }

    /// Sends a request whose method, headers and body stand; address and header `host` are the target's.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(
        &self,
        target: &Target,
        reach: &Reach,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Result<Answer, Fault> {
        let sending = async {
            let stream = connect(&self.addresses(target, reach).await?).await?;
            if !target.tls {
                return ask(stream, target, request, bounds.body).await;
            }
            let name = match &target.host {
                Host::Name(name) => ServerName::try_from(name.to_string()),
                Host::Address(address) => Ok(ServerName::from(*address)),
            };
            let name = name.map_err(|_| Fault::Tls("the host is no name that TLS knows".to_owned()))?;
            let connector = tokio_rustls::TlsConnector::from(self.trust().await?);
            let stream = connector.connect(name, stream).await.map_err(|why| Fault::Tls(why.to_string()))?;
            ask(stream, target, request, bounds.body).await
        };
        tokio::time::timeout(bounds.time, sending).await.unwrap_or(Err(Fault::Late(bounds.time)))
    }

    /// The addresses of a target, every one of which may be connected to.
    async fn addresses(&self, target: &Target, reach: &Reach) -> Result<Vec<SocketAddr>, Fault> {
        let found = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.resolver.look(name).await.map_err(|_| Fault::NoAddress)?,
        };
        let mut addresses = Vec::new();
        // One bad address among good ones is refused too: whoever answers so is up to something.
        for address in found {
            if let Some(what) = reach.refusal(address) {
                return Err(Fault::Forbidden(address, what));
            }
            if !target.tls && !reach.allows(address) {
                return Err(Fault::Clear(address));
            }
            addresses.push(SocketAddr::new(address, target.port));
        }
        addresses.truncate(MOST);
        if addresses.is_empty() { Err(Fault::NoAddress) } else { Ok(addresses) }
    }

    async fn trust(&self) -> Result<Arc<ClientConfig>, Fault> {
        // Reading the system's authorities takes long enough to be done off the runtime's threads.
        let read = || async {
            let read = tokio::task::spawn_blocking(trust::system).await;
            read.map_err(|why| Fault::Tls(why.to_string()))?.map_err(Fault::Tls)
        };
        self.tls.get_or_try_init(read).await.map(Arc::clone)
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Fault> {
    let mut last = Fault::NoAddress;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Fault::Connect(error.kind()),
        }
    }
    Err(last)
}

async fn ask<S>(stream: S, target: &Target, request: Request<Bytes>, most: usize) -> Result<Answer, Fault>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut head, body) = request.into_parts();
    head.uri = target.path.parse().map_err(|_| Fault::Http)?;
    head.headers.insert(HOST, target.authority().parse().map_err(|_| Fault::Http)?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| Fault::Http)?;
    // Driven here and dropped with the answer: no task outlives the request.
    let driving = async {
        let _ = connection.await;
        std::future::pending().await
    };
    let asking = async {
        let request = Request::from_parts(head, Full::new(body));
        let response = sender.send_request(request).await.map_err(|_| Fault::Http)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, most).collect().await.map_err(|why| {
            let large = why.is::<http_body_util::LengthLimitError>();
            if large { Fault::Large(most) } else { Fault::Http }
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    tokio::select! {
        answer = asking => answer,
        () = driving => Err(Fault::Http),
    }
}
