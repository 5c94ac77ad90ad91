//! The only door to the process environment and to files named in the configuration.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What the configuration may ask of the world around it.
pub trait Environment: Send + Sync {
    /// The value of an environment variable; `None` when it is not set or is not UTF-8.
    fn var(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// Whatever the file system says; `InvalidData` when the file is not UTF-8 or larger than 1 MiB.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Whether people other than the file's owner and group may read it. `false` where the system has no such notion.
    fn world_readable(&self, path: &Path) -> bool {
        let _ = path;
        false
    }
}

/// The real environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

/// Largest file that is read, in bytes: a configuration or a secret is never larger.
pub(crate) const MAX_FILE: u64 = 1 << 20;

impl Environment for ProcessEnvironment {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        use std::io::Read;
        let file = std::fs::File::open(path)?;
        let mut text = String::new();
        // `take` and not the length in the metadata: a FIFO or /dev/zero has none.
        file.take(MAX_FILE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is larger than 1 MiB"));
        }
        Ok(text)
    }

    #[cfg(unix)]
    fn world_readable(&self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o004 != 0)
    }
}

/// A made-up environment for tests.
#[derive(Debug, Clone, Default)]
pub struct MapEnvironment {
    vars: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, String>,
    open: Vec<PathBuf>,
}

impl MapEnvironment {
    /// Sets a variable.
    #[must_use]
    pub fn with_var(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// Adds a file that only its owner can read.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.files.insert(path.into(), text.into());
        self
    }

    /// Adds a file that everybody can read.
    #[must_use]
    pub fn with_open_file(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let path = path.into();
        self.open.push(path.clone());
        self.with_file(path, text)
    }
}

impl Environment for MapEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn world_readable(&self, path: &Path) -> bool {
        self.open.iter().any(|p| p == path)
    }
}
