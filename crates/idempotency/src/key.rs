use std::fmt;

use penstock_domain::{Code, Error};

/// The longest key, in characters.
const LONGEST: usize = 255;

/// What a client calls a request, so that sending it again is known to be the same. Shown by nothing: whoever has it, and
/// the right to ask, has the answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Box<str>);

impl Key {
    /// Reads the header `idempotency-key`: 1 to 255 printable ASCII characters, bare or as the draft's quoted string, which
    /// means the same key.
    ///
    /// # Errors
    /// `invalid_value` when it is empty, too long, not printable ASCII, badly quoted, or there several times.
    pub fn read<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let mut values = values.into_iter();
        let found = values.next().unwrap_or_default();
        if values.next().is_some() {
            return Err(bad("found several"));
        }
        let text = std::str::from_utf8(found).map_err(|_| bad("found other characters"))?.trim();
        let plain = match text.strip_prefix('"') {
            Some(quoted) => unquoted(quoted).ok_or_else(|| bad("found an unfinished quoted string"))?,
            None => text.to_owned(),
        };
        if plain.is_empty() || plain.len() > LONGEST {
            return Err(bad(&format!("found {}", plain.len())));
        }
        if !plain.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(bad("found other characters"));
        }
        Ok(Self(plain.into()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The text of a string of RFC 8941 (3.3.3) behind its first quote.
fn unquoted(quoted: &str) -> Option<String> {
    let mut plain = String::with_capacity(quoted.len());
    let mut rest = quoted.chars();
    loop {
        match rest.next()? {
            '"' => return rest.next().is_none().then_some(plain),
            '\\' => plain.push(rest.next().filter(|c| matches!(c, '"' | '\\'))?),
            c => plain.push(c),
        }
    }
}

fn bad(found: &str) -> Error {
    let say = format!("idempotency-key takes 1 to {LONGEST} printable ASCII characters, {found}");
    Error::new(Code::InvalidValue, say).with_param("idempotency-key")
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Key, Code> {
        Key::read(values.iter().map(|value| value.as_bytes())).map_err(|error| error.code())
    }

    #[test]
    fn quoted_and_bare_are_the_same_key() {
        assert_eq!(read(&["order 17"]), read(&["\"order 17\""]));
        assert_eq!(read(&[r#"a"b\c"#]), read(&[r#""a\"b\\c""#]));
        assert_ne!(read(&["a"]), read(&["b"]));
        assert!(read(&[&"x".repeat(255)]).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = "x".repeat(256);
        for odd in ["", "\"\"", "  ", "\"a", "\"a\"b", r#""\n""#, "ü", "a\tb", &long] {
            assert_eq!(read(&[odd]), Err(Code::InvalidValue), "{odd:?}");
        }
        assert_eq!(read(&["a", "a"]), Err(Code::InvalidValue));
    }

    #[test]
    fn a_key_is_shown_by_nothing() {
        assert_eq!(format!("{:?}", read(&["secret"])), "Ok(Key(…))");
    }
}
