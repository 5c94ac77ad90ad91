//! Which addresses are public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use penstock_config::IpRange;

/// Which addresses may be connected to beside the public ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    private: Vec<IpRange>,
}

impl Reach {
    /// Public addresses, and those in these ranges.
    pub fn with(private: &[IpRange]) -> Self {
        Self { private: private.to_vec() }
    }

    /// Whether an address that is not public is allowed by a range.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.private.iter().any(|range| range.contains(address))
    }

    /// Why an address may not be connected to.
    pub(crate) fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        forbidden(address).filter(|_| !self.allows(address))
    }
}

/// IPv4 ranges that are not public: the IANA special-purpose registry (RFC 6890), multicast (RFC 5771) and the address at
/// which a cloud's machines find its platform.
const V4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private network"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "a carrier's network"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "this machine"),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "a cloud's platform"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "the local link, where clouds keep credentials"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private network"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "a range for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "a range for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a relay of 6to4"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private network"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "a range for measurements"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "a range for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "a range for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "a reserved range"),
];

/// IPv6 ranges inside global unicast (2000::/3) that are not public or lead to an IPv4 address.
const V6: &[(Ipv6Addr, u32, &str)] = &[
    // Teredo, benchmarking, ORCHID and what else the protocols keep (RFC 2928).
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "a range for protocols"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "a range for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "an IPv4 address inside 6to4"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "a range for documentation"),
];

/// What an address is if it is not public: `None` for those that anybody on the internet may have.
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let bits = u32::from(v4);
            V4.iter().find(|(first, len, _)| (bits ^ u32::from(*first)) >> (32 - len) == 0).map(|row| row.2)
        }
        IpAddr::V6(v6) => special(v6),
    }
}

fn special(v6: Ipv6Addr) -> Option<&'static str> {
    let bits = u128::from(v6);
    if bits >> 125 != 0b001 {
        return Some(match v6.segments()[0] {
            0 if bits <= 1 => "this machine",
            0x64 => "an IPv4 address behind NAT64",
            0xfc00..=0xfdff => "a private network",
            0xfe80..=0xfebf => "the local link",
            0xff00..=0xffff => "multicast",
            _ => "no public address",
        });
    }
    V6.iter().find(|(first, len, _)| (bits ^ u128::from(*first)) >> (128 - len) == 0).map(|row| row.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn nothing_that_is_not_public_is_reached_in_any_spelling() {
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.255.255",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(forbidden(ip(bad)).is_some(), "{bad}");
        }
        for good in
            ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "198.20.0.1", "2606:4700::1111", "2a00::1"]
        {
            assert_eq!(forbidden(ip(good)), None, "{good}");
        }
    }

    #[test]
    fn a_range_opens_what_it_names_and_nothing_beside_it() {
        let reach =
            Reach::with(&["10.2.0.0/16".parse().expect("a range"), "::1".parse().expect("an address")]);
        assert_eq!(reach.refusal(ip("10.2.3.4")), None);
        assert_eq!(reach.refusal(ip("::ffff:10.2.3.4")), None);
        assert_eq!(reach.refusal(ip("::1")), None);
        assert_eq!(reach.refusal(ip("10.3.0.1")), Some("a private network"));
        assert_eq!(reach.refusal(ip("127.0.0.1")), Some("this machine"));
        assert_eq!(Reach::default().refusal(ip("8.8.8.8")), None);
    }
}
