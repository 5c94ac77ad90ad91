//! Asking issuers: discovery document, key set, and what is posted to them. One request per connection, HTTP/1.1, bounded in
//! size and time.
//!
//! The addresses of a name are looked up once and checked before one of them is connected to, with the name kept for TLS:
//! between check and use nothing can change (DNS rebinding). Redirects are refused.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::ConfigBuilderExt;
use hyper_util::rt::TokioIo;
use penstock_config::OidcIssuer;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::jwk::{self, Key};

/// The largest document.
const MAX_BODY: usize = 512 * 1024;
/// How long one document may take, from the look-up of its name to its last byte.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Keys, and how long their issuer lets them be kept.
pub(crate) struct Fetched {
    pub(crate) keys: Vec<Key>,
    pub(crate) fresh_for: Option<Duration>,
}

/// Who named an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedBy {
    /// The configuration: machines of the operator's own are fine.
    Operator,
    /// A document: it must not lead to machines of the operator's own.
    Document,
}

/// Who named an address, and the file of the authorities to trust there instead of the system's.
pub(crate) type How<'a> = (NamedBy, Option<&'a Path>);

/// What we read of a discovery document (OpenID Connect Discovery 1.0, section 3; RFC 8414).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Discovery {
    issuer: String,
    jwks_uri: String,
    pub(crate) introspection_endpoint: Option<String>,
    pub(crate) authorization_endpoint: Option<String>,
    pub(crate) token_endpoint: Option<String>,
    pub(crate) end_session_endpoint: Option<String>,
    /// Whether its redirects say who they come from (RFC 9207).
    #[serde(default)]
    pub(crate) authorization_response_iss_parameter_supported: bool,
}

impl Discovery {
    /// The keys that the document leads to.
    ///
    /// # Errors
    /// A sentence for the log.
    pub(crate) async fn keys(&self, trust: Option<&Path>) -> Result<Vec<Key>, String> {
        let (url, named) = self.place(&self.jwks_uri)?;
        let (_, body) = get(&url, (named, trust)).await?;
        jwk::read(&body).map_err(|why| format!("{url}: {why}"))
    }

    /// An address of the document, and who named it: what lies beside the issuer is the operator's choice.
    ///
    /// # Errors
    /// A sentence for the log.
    pub(crate) fn place(&self, url: &str) -> Result<(Uri, NamedBy), String> {
        let (issuer, found) = (parse(&self.issuer)?, parse(url)?);
        if found.scheme_str() != Some("https") && issuer.scheme_str() == Some("https") {
            return Err(format!("the document of {} leads from https to {found}", self.issuer));
        }
        let beside = found.authority() == issuer.authority();
        Ok((found, if beside { NamedBy::Operator } else { NamedBy::Document }))
    }
}

/// What is posted: a form, and who we are (RFC 6749, 2.3.1) where we have a secret.
pub(crate) struct Form<'a> {
    pub(crate) members: &'a [(&'a str, &'a str)],
    pub(crate) client: Option<(&'a str, &'a str)>,
}

/// Fetches an issuer's keys.
///
/// # Errors
/// A sentence for the log.
pub(crate) async fn keys(settings: &OidcIssuer) -> Result<Fetched, String> {
    let trust = settings.ca_file.as_deref();
    let (url, named) = match &settings.jwks_url {
        Some(url) => (parse(url)?, NamedBy::Operator),
        None => discover(&settings.issuer, trust).await?,
    };
    let (headers, body) = get(&url, (named, trust)).await?;
    let keys = jwk::read(&body).map_err(|why| format!("{url}: {why}"))?;
    Ok(Fetched { keys, fresh_for: max_age(&headers) })
}

/// Where the keys are.
async fn discover(issuer: &str, trust: Option<&Path>) -> Result<(Uri, NamedBy), String> {
    let document = document(issuer, trust).await?;
    document.place(&document.jwks_uri)
}

/// The issuer's discovery document (OpenID Connect Discovery 1.0, section 4).
///
/// # Errors
/// A sentence for the log.
pub(crate) async fn document(issuer: &str, trust: Option<&Path>) -> Result<Discovery, String> {
    let url = parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
    let (_, body) = get(&url, (NamedBy::Operator, trust)).await?;
    let found: Discovery =
        serde_json::from_slice(&body).map_err(|_| format!("{url} is not a discovery document"))?;
    if found.issuer != issuer {
        return Err(format!(
            "{url} is the document of another issuer: compare `issuer` with the configuration letter by letter"
        ));
    }
    Ok(found)
}

/// Posts a form and reads the answer, whose status is 200.
///
/// # Errors
/// A sentence for the log; it holds nothing of what was posted.
pub(crate) async fn post(url: &Uri, how: How<'_>, form: &Form<'_>) -> Result<Bytes, String> {
    bounded(url, how, Some(form)).await.map(|(_, body)| body)
}

pub(crate) fn parse(text: &str) -> Result<Uri, String> {
    let bad = || "expected an address that begins with https://, without a user name".to_owned();
    let uri: Uri = text.parse().map_err(|_| bad())?;
    let secure = uri.scheme_str() == Some("https") || uri.scheme_str() == Some("http");
    let userinfo = uri.authority().is_none_or(|authority| authority.as_str().contains('@'));
    if !secure || userinfo || text.contains('#') { Err(bad()) } else { Ok(uri) }
}

async fn get(url: &Uri, how: How<'_>) -> Result<(HeaderMap, Bytes), String> {
    bounded(url, how, None).await
}

async fn bounded(url: &Uri, how: How<'_>, form: Option<&Form<'_>>) -> Result<(HeaderMap, Bytes), String> {
    match tokio::time::timeout(MAX_TIME, slowly(url, how, form)).await {
        Ok(outcome) => outcome.map_err(|why| format!("{url}: {why}")),
        Err(_) => Err(format!("{url} did not answer within {} seconds", MAX_TIME.as_secs())),
    }
}

async fn slowly(
    url: &Uri,
    (named, trusted): How<'_>,
    form: Option<&Form<'_>>,
) -> Result<(HeaderMap, Bytes), String> {
    let host = url.host().ok_or("there is no host in it")?.trim_matches(['[', ']']);
    let tls = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let stream = connect(host, port, named, tls).await?;
    if !tls {
        return ask(stream, url, form).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "its host is no name that TLS knows")?;
    let connector = tokio_rustls::TlsConnector::from(trust(trusted).await?);
    let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS failed: {error}"))?;
    ask(stream, url, form).await
}

async fn connect(host: &str, port: u16, named: NamedBy, tls: bool) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| format!("its name is not found: {error}"))?;
    let addresses: Vec<SocketAddr> = found.collect();
    // One bad address among good ones is refused too: whoever answers so is up to something.
    if let Some(bad) = addresses.iter().find(|address| !may_reach(address.ip(), named, tls)) {
        return Err(format!("its name leads to {}, where no issuer may be", bad.ip()));
    }
    let mut last = "its name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(last)
}

/// Whether keys may be fetched from an address. Without TLS only from this machine; what a document names only in public;
/// never from link-local addresses, where clouds keep their metadata.
fn may_reach(address: IpAddr, named: NamedBy, tls: bool) -> bool {
    let address = address.to_canonical();
    if !tls {
        return address.is_loopback();
    }
    let (local, private) = match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]);
            let local = v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast();
            (local, v4.is_private() || v4.is_loopback() || shared || v4.octets()[0] == 0)
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            // NAT64 (RFC 6052) leads to IPv4 addresses of any kind.
            let translated = v6.segments()[..2] == [0x64, 0xff9b];
            let local = first & 0xffc0 == 0xfe80 || v6.is_unspecified() || v6.is_multicast() || translated;
            (local, first & 0xfe00 == 0xfc00 || v6.is_loopback())
        }
    };
    !local && (named == NamedBy::Operator || !private)
}

async fn ask<S>(stream: S, url: &Uri, form: Option<&Form<'_>>) -> Result<(HeaderMap, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let method = if form.is_some() { Method::POST } else { Method::GET };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, url.authority().map_or("", |authority| authority.as_str()))
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("penstock/", env!("CARGO_PKG_VERSION")));
    if form.is_some() {
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    if let Some((id, secret)) = form.and_then(|form| form.client) {
        let pair = STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
        let mut value =
            HeaderValue::try_from(format!("Basic {pair}")).map_err(|_| "the client's secret is no header")?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let body = form.map(|form| Bytes::from(query(form.members))).unwrap_or_default();
    let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            let redirect = if head.status.is_redirection() { "; redirects are not followed" } else { "" };
            return Err(format!("expected status 200, found {}{redirect}", head.status.as_u16()));
        }
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body =
            body.map_err(|error| format!("it cannot be read, or is larger than {MAX_BODY} bytes: {error}"))?;
        Ok((head.headers, body.to_bytes()))
    };
    // Both in one task: dropping this future closes the connection.
    tokio::pin!(connection, exchange);
    tokio::select! {
        outcome = &mut exchange => outcome,
        ended = &mut connection => match ended {
            // The last bytes may have come with the end.
            Ok(()) => exchange.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// Names and values as forms and query strings have them.
pub(crate) fn query(members: &[(&str, &str)]) -> String {
    let pairs = members.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Everything but letters, digits and `-._~` in percent signs: right for every reader of forms and of addresses.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Whom to trust: the authorities of a file, read each time so that a new one is taken up, or those of the system, read once.
/// Off the runtime's threads.
async fn trust(file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    static SYSTEM: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let off = |read: Box<dyn FnOnce() -> Result<ClientConfig, String> + Send>| async {
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|error| error.to_string())?.map(Arc::new)
    };
    match file.map(Path::to_owned) {
        Some(file) => off(Box::new(move || only(&file))).await,
        None => SYSTEM.get_or_try_init(|| off(Box::new(system))).await.map(Arc::clone),
    }
}

fn system() -> Result<ClientConfig, String> {
    let config = versions()?.with_native_roots();
    let config = config.map_err(|error| format!("the system's trust roots cannot be read: {error}"))?;
    Ok(config.with_no_client_auth())
}

fn only(file: &Path) -> Result<ClientConfig, String> {
    let bad = |error: &dyn std::fmt::Display| format!("ca_file {} cannot be used: {error}", file.display());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| bad(&error))? {
        roots.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
    }
    if roots.is_empty() {
        return Err(bad(&"there is no certificate in it"));
    }
    Ok(versions()?.with_root_certificates(roots).with_no_client_auth())
}

fn versions() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(CACHE_CONTROL)?.to_str().ok()?;
    let seconds = value.split(',').find_map(|word| word.trim().strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_no_place_where_secrets_of_the_network_are() {
        let reach = |address: &str, named, tls| may_reach(address.parse().expect(address), named, tls);
        for metadata in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "64:ff9b::a9fe:a9fe",
            "224.0.0.1",
        ] {
            assert!(!reach(metadata, NamedBy::Operator, true), "{metadata}");
        }
        for private in [
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(reach(private, NamedBy::Operator, true), "{private} of the operator's own");
            assert!(!reach(private, NamedBy::Document, true), "{private} of a document");
        }
        for public in ["8.8.8.8", "2001:4860::1"] {
            assert!(reach(public, NamedBy::Document, true), "{public}");
            assert!(!reach(public, NamedBy::Operator, false), "{public} without TLS");
        }
        assert!(reach("127.0.0.1", NamedBy::Document, false), "tests and tools on this machine");
    }

    #[test]
    fn how_long_keys_may_be_kept_is_read_from_the_header() {
        let of = |value: &'static str| {
            max_age(&HeaderMap::from_iter([(CACHE_CONTROL, value.parse().expect("a value"))]))
        };
        assert_eq!(of("public, max-age=300, must-revalidate"), Some(Duration::from_secs(300)));
        assert_eq!(of("no-store"), None);
        assert_eq!(of("max-age=-1"), None);
    }
}
