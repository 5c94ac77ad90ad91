//! Request ids: drawn here, never taken from a client. They begin with the time and sort by it, so that the index that
//! finds a record by its id grows at one end.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use penstock_domain::RequestId;
use rand::Rng;

/// In the order of their bytes.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX: &[u8; 4] = b"req_";
/// Characters of the time in milliseconds since 1970: enough until the year 2081.
const TIME: usize = 7;
/// Characters of chance: 101 bits.
const DRAWN: usize = 17;

/// Draws an id, and gives the header value beside it.
pub(crate) fn draw() -> (RequestId, HeaderValue) {
    let mut text = [0_u8; PREFIX.len() + TIME + DRAWN];
    let (prefix, rest) = text.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(PREFIX);
    let (time, drawn) = rest.split_at_mut(TIME);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    write(time, now.as_millis() as u64);
    let mut rng = rand::rng();
    for six in drawn.chunks_mut(6) {
        // 62^6 is below 2^36, so the remainder's bias is below 2^-28 and of no use to anybody.
        write(six, rng.next_u64());
    }
    let value = HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("req_"));
    (RequestId::new(String::from_utf8_lossy(&text).as_ref()), value)
}

/// Fills the bytes with the last digits of a number.
fn write(bytes: &mut [u8], mut number: u64) {
    for byte in bytes.iter_mut().rev() {
        *byte = ALPHABET[(number % 62) as usize];
        number /= 62;
    }
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

    #[test]
    fn ids_sort_by_the_millisecond_in_which_they_were_drawn() {
        let mut older = [0; super::TIME];
        for millis in [0, 61, 62, 1_800_000_000_000, 1_800_000_000_001, 3_500_000_000_000_u64] {
            let mut newer = [0; super::TIME];
            super::write(&mut newer, millis);
            assert!(older < newer || millis == 0, "{millis}");
            older = newer;
        }
    }
}
