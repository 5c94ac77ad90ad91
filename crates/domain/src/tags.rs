use std::fmt;
use std::sync::Arc;

/// Labels that an asker puts on a request, sorted by key; bounded by whoever decoded them. Clones share them, and no
/// labels cost nothing.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tags(Option<Arc<[Tag]>>);

/// Key and value.
type Tag = (Box<str>, Box<str>);

impl Tags {
    /// Key and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|all| all.iter()).map(|(key, value)| (key.as_ref(), value.as_ref()))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(have, _)| *have == key).map(|(_, value)| value)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut all: Vec<Tag> = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Self((!all.is_empty()).then(|| all.into()))
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_found_by_key() {
        let tags: Tags = [("team", "blue"), ("app", "shop")].into_iter().collect();
        assert_eq!(tags.iter().collect::<Vec<_>>(), [("app", "shop"), ("team", "blue")]);
        assert_eq!((tags.get("app"), tags.get("none")), (Some("shop"), None));
        assert!(std::iter::empty::<(&str, &str)>().collect::<Tags>().is_empty());
    }
}
