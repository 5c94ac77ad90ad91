//! The files of the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Folders that hold nothing of ours.
const SKIP: &[&str] =
    &["target", ".git", "node_modules", ".venv", "dist", ".cache", "__pycache__", "penstock-data"];

/// One text file.
#[derive(Debug)]
pub(crate) struct File {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

/// The repository.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Where it is.
    pub(crate) root: PathBuf,
    /// Every text file that git knows or would take.
    pub(crate) files: Vec<File>,
    /// `cargo metadata --no-deps`: our crates and what their manifests say.
    pub(crate) metadata: Value,
}

impl Tree {
    /// Reads the tree.
    pub(crate) fn read(root: &Path) -> Self {
        let paths = from_git(root).unwrap_or_else(|| {
            let mut found = Vec::new();
            walk(root, root, &mut found);
            found
        });
        let files = paths
            .into_iter()
            .filter_map(|path| fs::read_to_string(root.join(&path)).ok().map(|text| File { path, text }))
            .collect();
        let metadata = Command::new("cargo")
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .current_dir(root)
            .output()
            .ok()
            .and_then(|run| serde_json::from_slice(&run.stdout).ok())
            .unwrap_or_default();
        Self { root: root.to_owned(), files, metadata }
    }

    /// The file of this path.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Every Rust file.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// Our crates: short name (`edge`) and manifest.
    pub(crate) fn crates(&self) -> impl Iterator<Item = (&str, &Value)> {
        let packages = self.metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
        packages.filter_map(|package| Some((short(package.get("name")?.as_str()?), package)))
    }
}

/// `penstock-edge` is `edge`.
pub(crate) fn short(name: &str) -> &str {
    name.strip_prefix("penstock-").unwrap_or(name)
}

fn from_git(root: &Path) -> Option<Vec<String>> {
    let run = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()
        .filter(|run| run.status.success())?;
    let text = String::from_utf8(run.stdout).ok()?;
    let mut paths: Vec<String> = text.split('\0').filter(|p| !p.is_empty()).map(str::to_owned).collect();
    paths.sort();
    paths.dedup();
    Some(paths)
}

/// Without git (a source archive): everything that is not build output.
fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && !path.is_symlink() {
            if !SKIP.iter().any(|skip| name == *skip) {
                walk(root, &path, found);
            }
        } else if let Ok(inside) = path.strip_prefix(root) {
            found.push(inside.to_string_lossy().replace('\\', "/"));
        }
    }
}
