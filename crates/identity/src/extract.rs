//! The one place that reads a credential from a request. Every listener uses it, so no header spelling is checked less.

use std::net::IpAddr;

use penstock_domain::{Credential, Secret};

/// Finds the credential among header names and values: `Authorization: Bearer KEY`, `x-api-key`, `api-key`.
///
/// The same key twice is one credential; two different ones are [`Credential::Conflicting`]. An `Authorization` of
/// another scheme counts as a credential that no key will match, so that it cannot ride along unseen. Empty values
/// count as absent, because client libraries send them when no key is set. The query string is never read: addresses
/// end up in logs. `from` is the address of whoever sent them, where it is known.
pub fn credential<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    from: Option<IpAddr>,
) -> Credential {
    let mut found: Option<&[u8]> = None;
    for (name, value) in headers {
        let value = if name.eq_ignore_ascii_case("authorization") {
            bearer(value.trim_ascii())
        } else if name.eq_ignore_ascii_case("x-api-key") || name.eq_ignore_ascii_case("api-key") {
            value.trim_ascii()
        } else {
            continue;
        };
        match found {
            _ if value.is_empty() => {}
            None => found = Some(value),
            Some(first) if first == value => {}
            Some(_) => return Credential::Conflicting,
        }
    }
    match found {
        None => Credential::Missing,
        // Keys are ASCII: a replacement character makes the text match none of them.
        Some(value) => {
            let text = Secret::new(String::from_utf8_lossy(value));
            match from {
                Some(from) => Credential::KeyFrom(text, from),
                None => Credential::Key(text),
            }
        }
    }
}

fn bearer(value: &[u8]) -> &[u8] {
    match value.split_at_checked(6) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer") => match rest.first() {
            None => &[],
            Some(b' ' | b'\t') => rest.trim_ascii_start(),
            Some(_) => value,
        },
        _ => value,
    }
}

#[cfg(test)]
mod tests;
