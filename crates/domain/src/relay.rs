//! Requests that are passed on as bytes, and their answers.

use bytes::Bytes;

/// What a relayed request says besides its body: everything here was checked, and nothing here is a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The HTTP method.
    pub method: &'static str,
    /// The path below the API's root, such as `/files/file_1`: no empty, `.` or `..` segment in any spelling.
    pub path: Box<str>,
    /// What follows the `?`, as it was sent.
    pub query: Option<Box<str>>,
    /// The headers that may go on, by their lower-case names.
    pub headers: Vec<(&'static str, Bytes)>,
}

impl Passage {
    /// The kind of objects that the path is about, its first segment: `files`, `vector_stores`. Scopes name it.
    pub fn family(&self) -> &str {
        let path = self.path.strip_prefix('/').unwrap_or(&self.path);
        path.split('/').next().unwrap_or_default()
    }
}

/// A step of a relayed answer: its head first, then its bytes.
#[derive(Debug, Clone)]
pub enum Relayed {
    /// How the vendor answers.
    Head(Box<RelayedHead>),
    /// The next bytes of the body, as they came.
    Bytes(Bytes),
}

/// The head of a relayed answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayedHead {
    /// The vendor's status.
    pub status: u16,
    /// The headers that may go on, by their lower-case names.
    pub headers: Vec<(&'static str, Bytes)>,
    /// The length of the body in bytes, where the vendor told it.
    pub length: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_is_the_first_segment() {
        for (path, family) in [("/files", "files"), ("/vector_stores/vs_1/files", "vector_stores"), ("/", "")]
        {
            let passage = Passage { method: "GET", path: path.into(), query: None, headers: Vec::new() };
            assert_eq!(passage.family(), family);
        }
    }
}
