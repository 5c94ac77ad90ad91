//! Request ids: drawn here, never taken from a client.

use http::HeaderValue;
use penstock_domain::RequestId;
use rand::Rng;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX: &[u8; 4] = b"req_";
/// Characters after the prefix: 142 bits.
const DRAWN: usize = 24;

/// Draws an id, and gives the header value beside it.
pub(crate) fn draw() -> (RequestId, HeaderValue) {
    let mut text = [0_u8; PREFIX.len() + DRAWN];
    text[..PREFIX.len()].copy_from_slice(PREFIX);
    let mut rng = rand::rng();
    for eight in text[PREFIX.len()..].chunks_mut(8) {
        // 62^8 is below 2^48, so the remainder's bias is below 2^-16 and of no use to anybody.
        let mut number = rng.next_u64();
        for byte in eight {
            *byte = ALPHABET[(number % 62) as usize];
            number /= 62;
        }
    }
    let value = HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("req_"));
    (RequestId::new(String::from_utf8_lossy(&text).as_ref()), value)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn ids_are_prefixed_base62_and_do_not_repeat() {
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            let (id, value) = super::draw();
            assert_eq!(id.as_str().as_bytes(), value.as_bytes());
            let drawn = id.as_str().strip_prefix("req_").unwrap();
            assert_eq!(drawn.len(), 24);
            assert!(drawn.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert!(seen.insert(drawn.to_owned()));
        }
    }
}
