//! Where requests go: an address that a model name, a deployment name or a header cannot move.
//!
//! What it is: scheme, host and port of `base_url` with its path, and URLs built from typed parts.
//!
//! What it promises: every URL made here has the scheme, host and port of `base_url` and begins with its path; names
//! become exactly one path segment. Userinfo, queries, fragments and dot segments are refused, not repaired.
//!
//! What it refuses to know: name resolution, sockets, credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};

/// The longest deployment or model name that may stand in a path, in bytes.
const MAX_NAME: usize = 256;

/// A checked `base_url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    scheme: Scheme,
    authority: Authority,
    path: String,
}

impl Address {
    /// Reads a `base_url`.
    ///
    /// # Errors
    /// A sentence for the operator. It never repeats the text, because people paste keys into URLs.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("expected an address such as https://api.example.com/v1, found nothing");
        }
        if text.bytes().any(|b| b <= b' ' || b >= 0x7f || b == b'\\') {
            return Err("expected visible ASCII without spaces or backslashes in the address");
        }
        if text.contains('?') || text.contains('#') {
            return Err("expected an address without `?` and `#`: penstock adds paths and queries itself");
        }
        if text.contains('@') {
            return Err("expected an address without a user name or password: write the key in `api_key`");
        }
        let uri: Uri = text.parse().map_err(|_| "expected an address such as https://api.example.com/v1")?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err("expected an address that begins with https:// or http://");
        };
        if *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP {
            return Err("expected the scheme https or http");
        }
        if authority.host().is_empty() || authority.host().contains('%') {
            return Err("expected a host name or an IP address after the scheme");
        }
        // `host:` and `host:99999` parse as an authority, but there is no such port.
        if authority.as_str().len() > authority.host().len()
            && authority.port_u16().is_none_or(|port| port == 0)
        {
            return Err("expected a port from 1 to 65535 after the colon");
        }
        let path = uri.path().trim_end_matches('/');
        let crooked = path
            .split('/')
            .skip(1)
            .any(|segment| segment.is_empty() || is_dots(&segment.to_ascii_lowercase()));
        if crooked {
            return Err("expected a path without empty, `.` and `..` segments");
        }
        let authority = authority.as_str().to_ascii_lowercase();
        let authority =
            authority.parse().map_err(|_| "expected a host name or an IP address after the scheme")?;
        Ok(Self { scheme: scheme.clone(), authority, path: path.to_owned() })
    }

    /// The URL of a path below `base_url`. `path` begins with `/`; it and `query` are built by us from encoded parts.
    ///
    /// `None` when the parts do not make a URL, or make one elsewhere.
    pub(crate) fn url(&self, path: &str, query: Option<&str>) -> Option<Uri> {
        let mut whole =
            String::with_capacity(self.path.len() + path.len() + query.map_or(0, |q| q.len() + 1));
        whole.push_str(&self.path);
        whole.push_str(path);
        if let Some(query) = query {
            whole.push('?');
            whole.push_str(query);
        }
        let length = whole.len();
        let tail = PathAndQuery::try_from(whole).ok()?;
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(tail)
            .build()
            .ok()?;
        // The parser drops what follows `#`: a shorter text means that something in the parts was not encoded.
        let intact = uri.path_and_query().is_some_and(|tail| tail.as_str().len() == length);
        (intact && self.is_origin_of(&uri)).then_some(uri)
    }

    /// The address without its path, to connect to.
    pub(crate) fn origin(&self) -> Uri {
        let parts = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        // A scheme and an authority that were parsed make a URI with any path.
        parts.path_and_query("/").build().unwrap_or_default()
    }

    /// The `Host` header: the port only where it is not the scheme's own (RFC 9110, 4.2.3).
    pub(crate) fn host(&self) -> HeaderValue {
        let usual = if self.is_encrypted() { 443 } else { 80 };
        let text = match port(&self.scheme, &self.authority) {
            port if port == usual => self.authority.host(),
            _ => self.authority.as_str(),
        };
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
    }

    /// Whether a URL has the very scheme, host and port that the credential belongs to.
    pub(crate) fn is_origin_of(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return false;
        };
        // Nearly always it is the very text; userinfo was refused when it was read.
        if *scheme == self.scheme && authority.as_str() == self.authority.as_str() {
            return true;
        }
        *scheme == self.scheme
            && authority.host().eq_ignore_ascii_case(self.authority.host())
            && port(scheme, authority) == port(&self.scheme, &self.authority)
            && !authority.as_str().contains('@')
    }

    /// Whether traffic is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// The path of `base_url` without a closing slash.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Whether the host is, by its spelling, on this machine or a private network. Nothing is resolved.
    pub(crate) fn is_private(&self) -> bool {
        let host = self.authority.host();
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => private_v4(ip),
            Ok(IpAddr::V6(ip)) => private_v6(ip),
            Err(_) => private_name(bare),
        }
    }
}

fn port(scheme: &Scheme, authority: &Authority) -> u16 {
    authority.port_u16().unwrap_or(if *scheme == Scheme::HTTPS { 443 } else { 80 })
}

fn private_v4(ip: Ipv4Addr) -> bool {
    let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
    ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared
}

fn private_v6(ip: Ipv6Addr) -> bool {
    match ip.to_ipv4_mapped() {
        Some(v4) => private_v4(v4),
        None => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Names that public DNS does not serve: one label, or a suffix reserved for private use (RFC 6761, 6762, 8375, 9476).
fn private_name(host: &str) -> bool {
    const SUFFIXES: &[&str] = &[".localhost", ".local", ".internal", ".lan", ".home.arpa", ".svc", ".test"];
    // `134744072` and `0x08080808` are spellings of public addresses, not names.
    let numeric = host.bytes().next().is_some_and(|b| b.is_ascii_digit());
    (!host.contains('.') && !numeric) || SUFFIXES.iter().any(|suffix| host.ends_with(suffix))
}

/// Writes a name as one path segment or query value: everything except RFC 3986 unreserved characters is encoded.
///
/// `None` for a name that a server could still read as a way up (`..`, also behind a slash that it decodes), for an
/// empty one, and for one with control characters.
pub(crate) fn segment(name: &str) -> Option<String> {
    let crooked = name.is_empty()
        || name.len() > MAX_NAME
        || name.chars().any(char::is_control)
        || name.to_ascii_lowercase().split(['/', '\\']).any(is_dots);
    if crooked {
        return None;
    }
    let mut encoded = String::with_capacity(name.len() + 8);
    for &byte in name.as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    Some(encoded)
}

/// `.` and `..` in lower case, plain or percent-encoded.
pub(crate) fn is_dots(segment: &str) -> bool {
    matches!(segment.replace("%2e", ".").as_str(), "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_could_hide_something_is_refused() {
        let refused = [
            "",
            "api.example.com/v1",
            "ftp://example.com",
            "https://",
            "https://user:pass@example.com/v1",
            "https://example.com/v1?x=1",
            "https://example.com/v1#x",
            "https://example.com/a/../b",
            "https://example.com/%2e%2E/b",
            "https://example.com//b",
            "https://example.com:0/",
            "https://example.com:/",
            "https://example.com:99999/",
            "https://exa mple.com",
            "https://example.com\\@evil.com",
            "https://ex\r\nample.com",
            "https://пример.com",
        ];
        for text in refused {
            assert!(Address::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_closing_slash_and_capitals_in_the_host_change_nothing() {
        let address = Address::parse("HTTPS://API.Example.com/v1/").expect("address");
        let url = address.url("/chat/completions", None).expect("url");
        assert_eq!(url.to_string(), "https://api.example.com/v1/chat/completions");
        assert_eq!(
            Address::parse("http://[::1]:8000").expect("address").url("/v1/x", None).expect("url"),
            "http://[::1]:8000/v1/x"
        );
    }

    #[test]
    fn hostile_names_stay_one_segment() {
        let address = Address::parse("https://res.openai.azure.com").expect("address");
        for name in
            ["a#b", "a?b=c", "a%2fb", "a/b", "a@evil.com", "//evil.com", "a b", "ü", "a;b", "...", "a..b"]
        {
            let encoded = segment(name).unwrap_or_else(|| panic!("{name:?} was refused"));
            let path = format!("/openai/deployments/{encoded}/chat/completions");
            let url = address.url(&path, Some("api-version=1")).expect("url");
            assert_eq!(url.host(), Some("res.openai.azure.com"), "{name:?}");
            assert_eq!(url.path().split('/').count(), 6, "{name:?} became {url}");
            assert_eq!(url.query(), Some("api-version=1"), "{name:?}");
        }
        for name in
            ["", ".", "..", "%2e%2E", "../x", "x/..", "..\\x", "a\r\nb", "a\0b", "a\u{7f}", &"x".repeat(257)]
        {
            assert!(segment(name).is_none(), "{name:?} was accepted");
        }
    }

    #[test]
    fn parts_that_were_not_encoded_make_no_url() {
        let address = Address::parse("https://example.com/v1").expect("address");
        assert!(address.url("/a#b", None).is_none());
        assert!(address.url("/a\r\nb", None).is_none());
    }

    #[test]
    fn another_scheme_host_or_port_is_another_origin() {
        let address = Address::parse("https://example.com/v1").expect("address");
        let same = |text: &str| address.is_origin_of(&text.parse().expect("uri"));
        assert!(same("https://example.com/other") && same("https://EXAMPLE.com:443/"));
        for other in [
            "http://example.com/",
            "https://example.com:8443/",
            "https://example.com.evil.com/",
            "/v1",
            "https://k@example.com/",
        ] {
            assert!(!same(other), "{other}");
        }
    }

    #[test]
    fn private_hosts_are_told_by_their_spelling() {
        let private = |host: &str| Address::parse(&format!("http://{host}")).expect("address").is_private();
        for host in [
            "localhost:1",
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.9:80",
            "100.64.1.1",
            "[::1]:8000",
            "[fd00::1]",
            "vllm:8000",
            "vllm.svc",
            "box.local",
            "a.b.internal",
            "[::ffff:10.0.0.1]",
        ] {
            assert!(private(host), "{host}");
        }
        for host in [
            "api.openai.com",
            "8.8.8.8",
            "134744072",
            "0x08080808",
            "[2001:4860::1]",
            "100.128.0.1",
            "[::ffff:8.8.8.8]",
        ] {
            assert!(!private(host), "{host}");
        }
    }
}
