//! Whose address a request comes from.
//!
//! The address of the connection counts. Where it is that of a proxy that the operator trusts, that proxy's word counts
//! instead: the right-most entry of `x-forwarded-for` that is not such a proxy again. What stands further left was written
//! by whoever sent the request, and proves nothing.

use std::net::IpAddr;

use http::HeaderMap;
use penstock_identity::IpRange;

/// The most entries that are looked at.
const MOST: usize = 32;

/// The address that a request comes from; `None` where it cannot be told.
pub(crate) fn address(peer: Option<IpAddr>, headers: &HeaderMap, proxies: &[IpRange]) -> Option<IpAddr> {
    let peer = peer.map(|peer| peer.to_canonical())?;
    let trusted = |address: IpAddr| proxies.iter().any(|range| range.contains(address));
    if !trusted(peer) {
        return Some(peer);
    }
    let mut nearest = Some(peer);
    let entries = headers.get_all("x-forwarded-for").iter().rev();
    let entries = entries.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
    for entry in entries.take(MOST) {
        // A proxy that wrote something else than an address told nothing, and beyond it nobody is to be believed.
        nearest = read(entry.trim());
        match nearest {
            Some(address) if trusted(address) => {}
            _ => break,
        }
    }
    nearest
}

/// `10.0.0.1`, `10.0.0.1:1234`, `2001:db8::1`, `[2001:db8::1]:1234`.
fn read(entry: &str) -> Option<IpAddr> {
    let socket = || entry.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    bare.parse().ok().or_else(socket).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(peer: &str, forwarded: &[&str], proxies: &[&str]) -> Option<String> {
        let headers =
            forwarded.iter().map(|v| (http::HeaderName::from_static("x-forwarded-for"), v.parse().unwrap()));
        let proxies: Vec<IpRange> = proxies.iter().map(|range| range.parse().unwrap()).collect();
        address(Some(peer.parse().unwrap()), &headers.collect(), &proxies).map(|address| address.to_string())
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_for_their_own_entry() {
        let told = |peer, forwarded: &[&str], proxies: &[&str], expected: Option<&str>| {
            assert_eq!(
                told(peer, forwarded, proxies).as_deref(),
                expected,
                "{peer} {forwarded:?} {proxies:?}"
            );
        };
        told("1.1.1.1", &[], &[], Some("1.1.1.1"));
        told("1.1.1.1", &["9.9.9.9"], &[], Some("1.1.1.1"));
        told("1.1.1.1", &["9.9.9.9"], &["10.0.0.0/8"], Some("1.1.1.1"));
        told("10.0.0.1", &["9.9.9.9"], &["10.0.0.0/8"], Some("9.9.9.9"));
        told("::ffff:10.0.0.1", &["9.9.9.9"], &["10.0.0.0/8"], Some("9.9.9.9"));
        // The left entries are the client's own words.
        told("10.0.0.1", &["8.8.8.8, 9.9.9.9"], &["10.0.0.0/8"], Some("9.9.9.9"));
        told("10.0.0.1", &["8.8.8.8", "9.9.9.9"], &["10.0.0.0/8"], Some("9.9.9.9"));
        told("10.0.0.1", &["8.8.8.8, 9.9.9.9, 10.0.0.2"], &["10.0.0.0/8"], Some("9.9.9.9"));
        told("10.0.0.1", &["[2001:db8::1]:443"], &["10.0.0.0/8"], Some("2001:db8::1"));
        told("10.0.0.1", &["9.9.9.9:1234"], &["10.0.0.0/8"], Some("9.9.9.9"));
        told("10.0.0.1", &[], &["10.0.0.0/8"], Some("10.0.0.1"));
        // Nonsense from a proxy is nobody's address, not the next one's.
        for odd in ["unknown", "", "9.9.9.9, ", "_hidden", "127.1"] {
            told("10.0.0.1", &[odd], &["10.0.0.0/8"], None);
        }
    }
}
