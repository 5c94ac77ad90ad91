//! Whose key it is: a person, or a program.

use std::fmt;
use std::sync::Arc;

/// The longest name of an owner, in bytes.
const MAX_OWNER_BYTES: usize = 128;

/// What kind of owner a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnerKind {
    /// A person, named as the issuer of tokens names them: a subject or an e-mail address.
    User,
    /// A service account: a program that calls on nobody's behalf but its team's.
    Service,
}

impl OwnerKind {
    /// `user` or `service`.
    pub const fn name(self) -> &'static str {
        match self {
            OwnerKind::User => "user",
            OwnerKind::Service => "service",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        [OwnerKind::User, OwnerKind::Service].into_iter().find(|kind| kind.name() == name)
    }
}

/// Whose key it is. Names are compared byte by byte: `alice` the user and `alice` the service account are two owners.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// What kind.
    pub kind: OwnerKind,
    /// The name.
    pub name: Arc<str>,
}

impl Owner {
    /// Checks a name.
    ///
    /// # Errors
    /// A sentence.
    pub fn new(kind: OwnerKind, name: &str) -> Result<Self, String> {
        let sound = |c: char| !c.is_control() && !c.is_whitespace();
        if name.is_empty() || name.len() > MAX_OWNER_BYTES || !name.chars().all(sound) {
            return Err(format!(
                "owner must be 1 to {MAX_OWNER_BYTES} bytes without spaces, such as alice@example.com or nightly-report"
            ));
        }
        Ok(Self { kind, name: name.into() })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_named_as_issuers_name_them_and_bounded() {
        for good in ["alice@example.com", "auth0|5f7c", "nightly-report", "日本", &"a".repeat(128)] {
            assert!(Owner::new(OwnerKind::User, good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "a\n", "\u{2028}", &"a".repeat(129)] {
            assert!(Owner::new(OwnerKind::Service, bad).is_err(), "{bad:?} was taken");
        }
        assert_ne!(Owner::new(OwnerKind::User, "x"), Owner::new(OwnerKind::Service, "x"));
        assert_eq!(OwnerKind::parse("service"), Some(OwnerKind::Service));
        assert_eq!(OwnerKind::parse("Service"), None);
    }
}
