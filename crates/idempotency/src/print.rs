//! What makes two requests the same: a digest over everything that changes what is asked.

use blake3::Hasher;
use memchr::memmem;

/// The digest of a request. It is not keyed yet: it never leaves the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Print([u8; 32]);

/// A digest in the making.
pub struct Printing(Hasher);

impl Print {
    /// Begins with the path and the query, as they were sent.
    pub fn begin(path: &str, query: Option<&str>) -> Printing {
        Printing(Hasher::new()).with(path.as_bytes()).with(query.unwrap_or_default().as_bytes())
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Printing {
    /// Adds a part; where one ends and the next begins makes a difference.
    #[must_use]
    pub fn with(mut self, part: &[u8]) -> Self {
        self.add(part);
        self
    }

    /// Ends with the body and its type. The boundary of a form is drawn anew whenever a client builds the same form, so it
    /// counts as nothing.
    #[must_use]
    pub fn body(mut self, media: &[u8], body: &[u8]) -> Print {
        match boundary(media) {
            Some(boundary) => {
                self.add(b"multipart");
                let mut begin = 0;
                for at in memmem::find_iter(body, boundary) {
                    self.add(&body[begin..at]);
                    begin = at + boundary.len();
                }
                self.add(&body[begin..]);
            }
            None => {
                self.add(media);
                self.add(body);
            }
        }
        Print(*self.0.finalize().as_bytes())
    }

    fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }
}

/// The boundary of a form (RFC 2046, 5.1.1).
fn boundary(media: &[u8]) -> Option<&[u8]> {
    let mut parts = media.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let kind = parts.next()?;
    if !kind.get(..10)?.eq_ignore_ascii_case(b"multipart/") {
        return None;
    }
    let value = parts.find_map(|part| {
        let (name, value) = part.split_at_checked(9)?;
        name.eq_ignore_ascii_case(b"boundary=").then_some(value)
    })?;
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(path: &str, query: Option<&str>, body: &str) -> [u8; 32] {
        Print::begin(path, query).body(b"application/json", body.as_bytes()).0
    }

    #[test]
    fn every_part_counts_and_none_runs_into_the_next() {
        let one = print("/a", Some("b"), "{}");
        assert_eq!(one, print("/a", Some("b"), "{}"));
        for other in [
            print("/a", None, "{}"),
            print("/ab", None, "{}"),
            print("/a", Some("b{"), "}"),
            print("/a", Some("b"), "{} "),
        ] {
            assert_ne!(one, other);
        }
        let with = |parts: &[&[u8]]| {
            parts.iter().fold(Print::begin("/", None), |print, part| print.with(part)).body(b"", b"").0
        };
        assert_ne!(with(&[b"ab", b""]), with(&[b"a", b"b"]));
    }

    #[test]
    fn a_form_is_the_same_under_another_boundary() {
        let form = |boundary: &str, file: &str| {
            let media = format!("Multipart/form-data; boundary=\"{boundary}\"");
            let body = format!("--{boundary}\r\n\r\n{file}\r\n--{boundary}--\r\n");
            Print::begin("/v1/files", None).body(media.as_bytes(), body.as_bytes()).0
        };
        assert_eq!(form("one", "words"), form("another", "words"));
        assert_ne!(form("one", "words"), form("one", "others"));
    }
}
