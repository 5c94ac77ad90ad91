//! The notice that a file changed.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Environment, ProcessEnvironment};

/// Watches files by looking: call [`Watch::changed`] about once a second.
///
/// Looking costs one `stat` per file and works where notifications do not: network mounts, container bind mounts, and
/// the symlink swap by which Kubernetes updates a mounted map.
#[derive(Debug)]
pub struct Watch {
    files: BTreeMap<PathBuf, Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    modified: Option<SystemTime>,
    length: u64,
    content: Option<u64>,
}

impl Watch {
    /// Starts with the files as they are now.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().map(|file| (file.clone(), look(&file))).collect() }
    }

    /// Whether a file's content differs from the last look. Touching a file without changing it is no change, and a file
    /// that is gone for a moment, as when editors replace it, is none until it is back. Reads files; call it where
    /// blocking is allowed.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for (file, seen) in &mut self.files {
            let Ok(metadata) = fs::metadata(file) else { continue };
            if metadata.modified().ok() == seen.modified && metadata.len() == seen.length {
                continue;
            }
            let now = look(file);
            changed |= now.content.is_some() && now.content != seen.content;
            // An unreadable moment must not pass for the last known content.
            *seen = Seen { content: now.content.or(seen.content), ..now };
        }
        changed
    }

    /// Looks at other files from now on, after a reload; those that stay keep what was seen of them.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut old = std::mem::take(&mut self.files);
        self.files = files
            .into_iter()
            .map(|file| {
                let seen = old.remove(&file).unwrap_or_else(|| look(&file));
                (file, seen)
            })
            .collect();
    }
}

fn look(file: &Path) -> Seen {
    // The metadata is taken first: a write between the two is then seen as a change at the next look.
    let metadata = fs::metadata(file).ok();
    let content = ProcessEnvironment.read(file).ok().map(|text| {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    });
    Seen {
        modified: metadata.as_ref().and_then(|m| m.modified().ok()),
        length: metadata.map_or(0, |m| m.len()),
        content,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_different_content_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("penstock.yaml");
        fs::write(&file, "version: 1\n").unwrap();
        let mut watch = Watch::new([file.clone()]);
        assert!(!watch.changed());

        let touched = fs::File::options().write(true).open(&file).unwrap();
        touched.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(!watch.changed(), "touching is no change");

        fs::remove_file(&file).unwrap();
        assert!(!watch.changed(), "gone for a moment is no change");
        fs::write(&file, "version: 1\nlog: {}\n").unwrap();
        assert!(watch.changed());
        assert!(!watch.changed(), "a change is reported once");

        let other = folder.path().join("key");
        watch.follow([file.clone(), other.clone()]);
        fs::write(&other, "a new secret").unwrap();
        assert!(watch.changed(), "a file that appears is a change");
    }
}
