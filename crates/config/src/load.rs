//! From a file to a snapshot.

mod places;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Config, Environment, KindSchemas, Problem};

pub(crate) use places::Places;

/// A configuration that was accepted.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The snapshot.
    pub config: Config,
    /// What somebody should look at.
    pub warnings: Vec<Problem>,
    /// Where it came from.
    pub source: Source,
}

/// Where a configuration came from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The file and every other file that it refers to: what a watch looks at.
    pub files: Vec<PathBuf>,
    /// The effective settings with every secret hidden.
    shown: Value,
}

/// Reads and checks a file.
///
/// # Errors
/// Everything that is wrong with it, at least one of them an error.
pub fn load(path: &Path, env: &dyn Environment, kinds: &KindSchemas) -> Result<Loaded, Vec<Problem>> {
    let _ = (path, env, kinds);
    Err(vec![Problem::error("", "not yet")])
}

/// The effective configuration, defaults filled in and every secret hidden.
pub fn show(loaded: &Loaded) -> &Value {
    &loaded.source.shown
}

/// The candidate closest to a misspelt word, if any is close.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (word.chars().count() / 3).max(1) + 1;
    candidates
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
