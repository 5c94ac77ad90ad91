//! A first look at hostile JSON text, before any parser sees it.
//!
//! What it promises: one pass without allocation that bounds the nesting and refuses text that parsers disagree about:
//! a byte order mark, bytes that are not UTF-8, escapes of lone surrogates. What it refuses to know: the grammar. Text
//! that passes may still be no JSON; the parser behind it decides.

#[cfg(test)]
mod tests;

use memchr::memchr2;
use penstock_domain::{Code, Error};

/// Checks that the text is UTF-8 without byte order mark, nested at most `max_depth` deep, without lone surrogates.
///
/// # Errors
/// `invalid_json` or `json_too_deep`.
pub fn check(bytes: &[u8], max_depth: usize) -> Result<&str, Error> {
    if bytes.starts_with(&[0xEF, 0xBB, 0xBF]) {
        return Err(invalid("the body begins with a byte order mark; send UTF-8 without one"));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| invalid(&format!("the body is not UTF-8: byte {} cannot be read", e.valid_up_to())))?;
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > max_depth {
                    let say =
                        format!("the body is nested more than {max_depth} levels deep at byte {}", at - 1);
                    return Err(Error::new(Code::JsonTooDeep, say));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = skip_string(bytes, at)?,
            _ => {}
        }
    }
    Ok(text)
}

/// The place after the closing quote of the string whose content begins at `at`.
fn skip_string(bytes: &[u8], mut at: usize) -> Result<usize, Error> {
    while let Some(next) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += next;
        if bytes[at] == b'"' {
            return Ok(at + 1);
        }
        match unit(bytes, at) {
            Some(0xD800..=0xDBFF) if matches!(unit(bytes, at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => {
                let say =
                    format!("the body has half a surrogate pair at byte {at}; send both halves or neither");
                return Err(invalid(&say));
            }
            _ => at += 2,
        }
    }
    // No closing quote: the parser says where.
    Ok(bytes.len())
}

/// The UTF-16 unit of the escape `\uXXXX` at `at`, if there is one.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u").filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn invalid(say: &str) -> Error {
    Error::new(Code::InvalidJson, say)
}
