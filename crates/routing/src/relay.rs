//! Where requests go that no route of ours knows: to one provider, below stated paths, or nowhere.

use crate::Deployment;

/// The provider that relayed requests go to, and the paths that may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayRule {
    /// Where they go; what holds for a deployment's region and trust holds here.
    pub place: Deployment,
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
    use crate::{Bounds, Catalogue, Fleet, Unroutable};

    #[test]
    fn a_pattern_covers_its_root_and_what_is_below_and_nothing_beside() {
        let rule = RelayRule {
            place: Deployment::new("openai", None),
            paths: vec!["/files/*".into(), "/batches".into()],
        };
        for path in ["/files", "/files/file_1", "/files/file_1/content", "/batches"] {
            assert!(rule.covers(path), "{path}");
        }
        for path in ["/filesystem", "/batches/b_1", "/organization", "", "/", "/Files"] {
            assert!(!rule.covers(path), "{path}");
        }
        let all = RelayRule { place: Deployment::new("openai", None), paths: vec!["/*".into()] };
        assert!(all.covers("/organization/users") && all.covers("/files"));
    }

    #[test]
    fn what_a_caller_may_not_leave_holds_for_what_is_relayed_too() {
        let place = Deployment { region: Some("us".into()), ..Deployment::new("openai", None) };
        let rule = RelayRule { place, paths: vec!["/*".into()] };
        let catalogue = Catalogue::new([]).with_relay(Some(rule));
        let only = |regions: &[&str], internal_only| {
            let regions = regions.iter().map(|region| (*region).into()).collect();
            let bounds = Bounds { regions, internal_only };
            catalogue.relay(&Fleet::default(), ("/files", "files"), Some(&bounds)).err()
        };
        assert_eq!(only(&["us"], false), None);
        assert_eq!(only(&["eu"], false), Some(Unroutable::Bounds));
        assert_eq!(only(&[], true), Some(Unroutable::Bounds));
    }
}
