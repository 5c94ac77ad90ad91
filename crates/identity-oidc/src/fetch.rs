//! Asking issuers: discovery document, key set, and what is posted to them. One request per connection, bounded in size and
//! time, through the guard of [`penstock_egress`]; here stands which addresses an issuer may have. Redirects are refused.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use penstock_config::{IpRange, OidcIssuer};
use penstock_egress::{Bounds, Egress, Fault, Reach, Target};
use serde::Deserialize;

use crate::jwk::{self, Key};

/// The largest document, and how long one may take.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), body: 512 * 1024 };

/// This machine: the one place that may be asked without TLS.
const HERE: &[&str] = &["127.0.0.0/8", "::1"];
/// Networks of the operator's own. Link-local addresses, where clouds keep their credentials, are nobody's.
const OWN: &[&str] = &[
    "127.0.0.0/8",
    "::1",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "198.18.0.0/15",
    "fc00::/7",
];

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

async fn bounded(
    url: &Uri,
    (named, trusted): How<'_>,
    form: Option<&Form<'_>>,
) -> Result<(HeaderMap, Bytes), String> {
    let said = |why: &dyn std::fmt::Display| format!("{url}: {why}");
    let target = Target::parse(&url.to_string()).map_err(|why| said(&why))?;
    let request = request(form).map_err(|why| said(&why))?;
    let reach = reach(named, target.is_tls());
    let sent = match trusted {
        None => system().send(&target, &reach, request, BOUNDS).await,
        Some(file) => only(file).await?.send(&target, &reach, request, BOUNDS).await,
    };
    let answer = sent.map_err(|fault| match fault {
        Fault::Forbidden(address, what) => {
            said(&format!("its name leads to {address} ({what}), where no issuer may be"))
        }
        fault => said(&fault),
    })?;
    if answer.status == StatusCode::OK {
        return Ok((answer.headers, answer.body));
    }
    let redirect = if answer.status.is_redirection() { "; redirects are not followed" } else { "" };
    Err(said(&format!("expected status 200, found {}{redirect}", answer.status.as_u16())))
}

/// Where keys may be fetched from. Without TLS only from this machine; what a document names only in public; never from
/// link-local addresses.
fn reach(named: NamedBy, tls: bool) -> Reach {
    let ranges = match (tls, named) {
        (false, _) => HERE,
        (true, NamedBy::Operator) => OWN,
        (true, NamedBy::Document) => &[],
    };
    Reach::with(&ranges.iter().filter_map(|range| range.parse().ok()).collect::<Vec<IpRange>>())
}

fn request(form: Option<&Form<'_>>) -> Result<Request<Bytes>, &'static str> {
    let mut request = Request::builder()
        .method(if form.is_some() { Method::POST } else { Method::GET })
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
    request.body(body).map_err(|_| "it cannot be asked")
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

/// Who trusts the system's authorities, which are read once.
fn system() -> &'static Egress {
    static SYSTEM: OnceLock<Egress> = OnceLock::new();
    SYSTEM.get_or_init(Egress::new)
}

/// Who trusts the authorities of a file alone, which is read each time so that a new one is taken up.
async fn only(file: &Path) -> Result<Egress, String> {
    let bad = |why: &dyn std::fmt::Display| format!("ca_file {} cannot be used: {why}", file.display());
    let owned = file.to_owned();
    let read = tokio::task::spawn_blocking(move || Egress::trusting_file(&owned)).await;
    read.map_err(|why| bad(&why))?.map_err(|why| bad(&why))
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
        let may = |address: &str, named, tls| {
            let address = address.parse().expect(address);
            let open = penstock_egress::forbidden(address).is_none() && tls;
            open || reach(named, tls).allows(address)
        };
        for metadata in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "168.63.129.16",
            "fe80::1",
            "0.0.0.0",
            "::",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "224.0.0.1",
        ] {
            assert!(!may(metadata, NamedBy::Operator, true), "{metadata}");
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
            assert!(may(private, NamedBy::Operator, true), "{private} of the operator's own");
            assert!(!may(private, NamedBy::Document, true), "{private} of a document");
        }
        for public in ["8.8.8.8", "2001:4860::1"] {
            assert!(may(public, NamedBy::Document, true), "{public}");
            assert!(!may(public, NamedBy::Operator, false), "{public} without TLS");
        }
        assert!(may("127.0.0.1", NamedBy::Document, false), "tests and tools on this machine");
        assert!(!may("10.0.0.1", NamedBy::Operator, false), "not even the operator's own without TLS");
        let ranges = HERE.iter().chain(OWN);
        assert!(ranges.into_iter().all(|range| range.parse::<IpRange>().is_ok()));
    }

    #[tokio::test]
    async fn what_leads_to_a_forbidden_address_is_told_with_what_it_is() {
        let url = parse("https://169.254.169.254/latest").expect("an address");
        let why = bounded(&url, (NamedBy::Operator, None), None).await.expect_err("refused");
        assert!(why.contains("169.254.169.254 (the local link") && why.contains("no issuer may be"), "{why}");
        let url = parse("https://2852039166/latest").expect("an address");
        assert!(
            bounded(&url, (NamedBy::Operator, None), None).await.is_err(),
            "the same in another spelling"
        );
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
