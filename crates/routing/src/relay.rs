//! Where requests go that no route of ours knows: to one provider, below stated paths, or nowhere.

use std::sync::Arc;

/// The provider that relayed requests go to, and the paths that may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayRule {
    /// The provider's name.
    pub provider: Arc<str>,
    /// Paths below the API's root, such as `/files`; a path that ends in `/*` covers the one before it and everything below.
    pub paths: Vec<Box<str>>,
}

impl RelayRule {
    /// Whether a path below the API's root may be relayed.
    pub fn covers(&self, path: &str) -> bool {
        self.paths.iter().any(|pattern| match pattern.strip_suffix("/*") {
            None => **pattern == *path,
            Some(root) => {
                path.strip_prefix(root).is_some_and(|below| below.is_empty() || below.starts_with('/'))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_its_root_and_what_is_below_and_nothing_beside() {
        let rule = RelayRule { provider: "openai".into(), paths: vec!["/files/*".into(), "/batches".into()] };
        for path in ["/files", "/files/file_1", "/files/file_1/content", "/batches"] {
            assert!(rule.covers(path), "{path}");
        }
        for path in ["/filesystem", "/batches/b_1", "/organization", "", "/", "/Files"] {
            assert!(!rule.covers(path), "{path}");
        }
        let all = RelayRule { provider: "openai".into(), paths: vec!["/*".into()] };
        assert!(all.covers("/organization/users") && all.covers("/files"));
    }
}
