use std::fmt;
use std::sync::Arc;

/// Whose a conversation is: a team, or a key that belongs to none. The two never meet, whatever they are called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(Arc<str>);

impl Owner {
    /// The keys of a team, which share what they said.
    pub fn team(name: &str) -> Self {
        Self(format!("team:{name}").into())
    }

    /// A key without a team.
    pub fn key(id: &str) -> Self {
        Self(format!("key:{id}").into())
    }

    /// The owner as stores write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
