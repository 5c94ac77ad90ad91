//! The file that `penstock up` writes when there is none.

/// What `up` found on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Vendors whose API key is in the environment: kind and variable, such as `("openai", "OPENAI_API_KEY")`.
    pub keys: Vec<(String, String)>,
    /// Model servers that answer on this machine: kind, base URL, names of their models.
    pub servers: Vec<(String, String, Vec<String>)>,
    /// Whether the embedded model is in this build and its file is there.
    pub local: bool,
}

/// A commented configuration that uses everything that was found. Its first line lets editors complete and check it.
pub fn starter(found: &Found) -> String {
    let _ = found;
    String::new()
}
