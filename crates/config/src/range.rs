//! Ranges of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

/// A range of addresses in CIDR notation (RFC 4632, RFC 4291).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpRange {
    first: IpAddr,
    bits: u8,
}

impl IpRange {
    /// Whether the address is in it. An IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => same_beginning(
                u128::from(u32::from(first)) << 96,
                u128::from(u32::from(address)) << 96,
                self.bits,
            ),
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                same_beginning(first.into(), address.into(), self.bits)
            }
            _ => false,
        }
    }
}

fn same_beginning(a: u128, b: u128, bits: u8) -> bool {
    bits == 0 || (a ^ b) >> (128 - u32::from(bits)) == 0
}

impl FromStr for IpRange {
    type Err = String;

    /// # Errors
    /// A sentence on what was expected.
    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
        let bad =
            || format!("expected an address or a range such as 10.0.0.0/8 or 2001:db8::/32, found `{shown}`");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| bad())?;
        let address = written.to_canonical();
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            // A range of IPv4 addresses that are written as IPv6 would have to be counted from another end.
            Some(_) if written != address => return Err(bad()),
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(bad)?
            }
            Some(_) => return Err(bad()),
        };
        let range = Self { first: masked(address, bits), bits };
        if range.first != address {
            return Err(format!(
                "`{shown}` is an address inside a range: for the range write {range}, for the address leave `/{bits}` out"
            ));
        }
        Ok(range)
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl<'de> Deserialize<'de> for IpRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for IpRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for IpRange {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "AddressRange".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "title": "Address range", "examples": ["10.0.0.0/8"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(range: &str, address: &str) -> bool {
        range.parse::<IpRange>().expect(range).contains(address.parse().expect(address))
    }

    #[test]
    fn a_range_holds_its_addresses_in_every_spelling_and_no_others() {
        for (range, address, expected) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("10.0.0.0/8", "::ffff:11.1.1.1", false),
            ("192.168.1.7", "192.168.1.7", true),
            ("192.168.1.7", "192.168.1.8", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
        ] {
            assert_eq!(holds(range, address), expected, "{address} in {range}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in [
            "",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "::/129",
            "a/8",
            "10.0.0.0/8/8",
            "::ffff:10.0.0.0/104",
            "010.0.0.0/8",
            " 10.0.0.1",
        ] {
            assert!(bad.parse::<IpRange>().is_err(), "{bad:?} was taken");
        }
    }
}
