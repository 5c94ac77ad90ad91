use std::fmt;
use std::net::IpAddr;

/// Text that must not be shown: `Debug` and `Display` print a fixed placeholder, there is no serialisation, and the
/// bytes are overwritten when the last owner drops it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a value read from a header, a file or the environment.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// The secret itself. Call it where the value leaves for its own provider or is digested, nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_boxed_bytes();
        bytes.fill(0);
        // The optimiser must not remove the overwrite of memory that is about to be freed.
        std::hint::black_box(&bytes);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What a caller shows to prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// No credential of any spelling was sent.
    Missing,
    /// An API key or an access token, whichever header carried it, from nobody knows where.
    Key(Secret),
    /// The same, and the address that it came from.
    KeyFrom(Secret, IpAddr),
    /// Two credentials were sent and they differ: refused, because guessing which one counts is how checks get skipped.
    Conflicting,
}
