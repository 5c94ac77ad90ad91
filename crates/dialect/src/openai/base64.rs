//! Base64 (RFC 4648, section 4): of little-endian `f32`, as embedding answers carry vectors, and of documents.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes bytes as padded base64.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |word, b| word << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Writes a vector.
pub(crate) fn vector(numbers: &[f32]) -> String {
    encode(&numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>())
}

/// Reads padded base64.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0_u32, 0);
    for digit in digits {
        let value = ALPHABET.iter().position(|a| a == digit)?;
        word = (word << 6 | value as u32) & 0xFFFF;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    Some(bytes)
}

/// Reads text that was written as base64.
pub(crate) fn text(text: &str) -> Option<String> {
    String::from_utf8(decode(text)?).ok()
}

/// Reads a vector; `None` when the text is not padded base64 of whole numbers.
pub(crate) fn floats(text: &str) -> Option<Vec<f32>> {
    let bytes = decode(text)?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|n| f32::from_le_bytes(*n)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_vectors_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        for length in 0..9 {
            let numbers: Vec<f32> = (0..length).map(|i| i as f32 * -1.7).collect();
            assert_eq!(floats(&vector(&numbers)), Some(numbers));
        }
        for bad in ["Zg==", "Zm9", "????????", "A===", "AAAA=AAA"] {
            assert_eq!(floats(bad), None, "{bad}");
        }
    }
}
