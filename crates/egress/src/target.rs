//! An address, read strictly.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// Longest address, in bytes.
const LONGEST: usize = 2_048;

/// Where a request goes. `Debug` and `Display` show scheme, host and port alone: a path may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub(crate) tls: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: Box<str>,
}

/// A name, or an address that needs no resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(Box<str>),
    Address(IpAddr),
}

impl Target {
    /// Reads `https://HOST[:PORT]/PATH`, or the same with `http`. A host is a name, four decimal numbers, or IPv6 in brackets:
    /// the other spellings of IPv4 (`2130706433`, `0x7f.1`, `0177.0.0.1`) are refused, because programs differ in what they
    /// mean.
    ///
    /// # Errors
    /// What was expected, without the address.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("expected an address of at most 2048 bytes");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['\\', '#']) {
            return Err("expected an address of printable ASCII, without `\\`, `#` or blanks");
        }
        let uri: Uri =
            text.parse().map_err(|_| "expected an address such as https://app.example.com/hooks")?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("expected an address that begins with https:// or http://"),
        };
        let authority = uri.authority().ok_or("expected an address with a host")?;
        if authority.as_str().contains('@') {
            return Err("expected an address without a user name or password");
        }
        let host = host(authority.host())?;
        let rest = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match rest.strip_prefix(':') {
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => {
                port.parse().ok().filter(|port| *port > 0).ok_or("expected a port from 1 to 65535")?
            }
        };
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Ok(Self { tls, host, port, path: path.into() })
    }

    /// Whether it is `https`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host and, unless it is the usual one, the port: as the header `host` has it.
    pub(crate) fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

fn host(text: &str) -> Result<Host, &'static str> {
    if let Some(inside) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = inside.parse().map_err(|_| "expected an IPv6 address in the brackets")?;
        return Ok(Host::Address(address.into()));
    }
    // Whatever ends in a number is meant as an address (WHATWG URL, section 3.5, "ends in a number").
    let last = text.strip_suffix('.').unwrap_or(text).rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    if is_number || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        let address: Ipv4Addr =
            text.parse().map_err(|_| "expected an IPv4 address as four decimal numbers")?;
        return Ok(Host::Address(address.into()));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > 253 || !name.split('.').all(label) {
        return Err("expected a host name of letters, digits, hyphens and points");
    }
    Ok(Host::Name(name.to_ascii_lowercase().into()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// `https://app.example.com`, `http://[::1]:8080`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_their_paths() {
        for (text, shown) in [
            ("https://App.Example.com/hooks/s3cret?t=1", "https://app.example.com"),
            ("https://app.example.com.:8443", "https://app.example.com:8443"),
            ("http://10.0.0.1:80/x", "http://10.0.0.1"),
            ("https://[2606:4700::1111]:443/", "https://[2606:4700::1111]"),
            ("https://a_b-c.example/", "https://a_b-c.example"),
            ("http://localhost.", "http://localhost"),
        ] {
            let target = Target::parse(text).expect(text);
            assert_eq!(target.to_string(), shown);
            assert_eq!(format!("{target:?}"), format!("Target({shown})"));
        }
        assert_eq!(&*Target::parse("https://a.example/p?q=1").expect("good").path, "/p?q=1");
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "/hooks",
            "app.example.com/hooks",
            "ftp://a.example",
            "file:///etc/passwd",
            "gopher://a.example",
            "javascript:alert(1)",
            "https://",
            "https:///x",
            "https://u:p@a.example/",
            "https://a.example@169.254.169.254/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://127.0.0.1./",
            "https://127.0.0.0x1/",
            "https://1.2.3.4.5/",
            "https://0/",
            "https://[::1%25eth0]/",
            "https://[127.0.0.1]/",
            "https://a..example/",
            "https://.example/",
            "https://a.example:0/",
            "https://a.example:99999/",
            "https://a.example:/",
            "https://a.example/#x",
            "https://a.example\\@b.example/",
            "https://a.example/\r\nx: y",
            "https://a example/",
            "https://ａ.example/",
            "https://%31%32%37.0.0.1/",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad} was read as {:?}", Target::parse(bad));
        }
        assert!(Target::parse(&format!("https://a.example/{}", "x".repeat(3_000))).is_err());
    }
}
