//! Where each setting stands in the file, and which parts of the file may be shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use penstock_domain::Secret;

use super::check::Cover;
use crate::problem::Excerpt;
use crate::{Place, Problem};

/// Path of a setting → its place. Shared by everything that one load produced.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    file: PathBuf,
    /// Source lines with every secret hidden.
    lines: Vec<String>,
    spots: BTreeMap<String, Spot>,
    /// Settings whose value must not be quoted.
    hidden: BTreeSet<String>,
    /// The values that references led to and secrets that stand in the file.
    secrets: Vec<Secret>,
}

/// Shorter secrets are not looked for in sentences: they would be found inside innocent words.
const MIN_SECRET: usize = 4;

/// A position: line and column from 1, width in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) width: u32,
}

impl Places {
    /// A table; `lines` must hold no secret any more.
    pub(super) fn new(file: PathBuf, lines: Vec<String>, spots: BTreeMap<String, Spot>) -> Self {
        Self(Arc::new(Inner { file, lines, spots, hidden: BTreeSet::new(), secrets: Vec::new() }))
    }

    /// Also knows which settings must not be quoted, and what must not appear in any sentence.
    pub(super) fn hiding(self, hidden: BTreeSet<String>, mut secrets: Vec<Secret>) -> Self {
        let Inner { file, lines, spots, .. } = Arc::unwrap_or_clone(self.0);
        secrets.retain(|secret| secret.expose().len() >= MIN_SECRET);
        Self(Arc::new(Inner { file, lines, spots, hidden, secrets }))
    }

    /// The last guard: whoever wrote the sentence may have quoted a value without knowing where it came from.
    fn scrub(&self, problem: &mut Problem) {
        let Problem { message, cause, hint, .. } = problem;
        for text in [Some(message), cause.as_mut(), hint.as_mut()].into_iter().flatten() {
            for secret in &self.0.secrets {
                if text.contains(secret.expose()) {
                    *text = text.replace(secret.expose(), "…");
                }
            }
        }
    }

    /// Adds the place and the source line of the problem's path, or of the nearest setting around it.
    pub(crate) fn locate(&self, problem: Problem) -> Problem {
        if problem.place.is_some() {
            return problem;
        }
        let mut path = problem.path.as_str();
        let spot = loop {
            if let Some(spot) = self.0.spots.get(path) {
                break Some(*spot);
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => break self.0.spots.get("").copied(),
            }
        };
        match spot {
            Some(spot) => self.at(problem, spot),
            None => problem,
        }
    }

    /// Adds a known place and its source line.
    pub(super) fn at(&self, mut problem: Problem, spot: Spot) -> Problem {
        self.scrub(&mut problem);
        let line = self.0.lines.get(spot.line.saturating_sub(1) as usize);
        problem.place = Some(Place { file: self.0.file.clone(), line: spot.line, column: spot.column });
        problem.excerpt = line.map(|line| Excerpt { line: line.clone(), width: spot.width });
        problem
    }

    /// The problem of a value that its type does not accept. What serde says may quote the value, so it is passed on only
    /// for values that stand in the file and are no secret.
    pub(crate) fn untyped(&self, path: String, error: &dyn fmt::Display) -> Problem {
        let path = if path == "." { String::new() } else { path };
        let inside = |hidden: &&String| hidden.starts_with(&path) || path.starts_with(hidden.as_str());
        if self.0.hidden.iter().any(|hidden| inside(&hidden)) {
            return Problem::error(path, "the value is not accepted")
                .with_hint("compare it with the reference of this setting");
        }
        // serde_path_to_error puts the path in front, which `Problem` shows anyway.
        let text = error.to_string();
        let text = text.strip_prefix(&format!("{path}: ")).unwrap_or(&text).to_owned();
        Problem::error(path, text)
    }
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        Self {
            file: self.file.clone(),
            lines: self.lines.clone(),
            spots: self.spots.clone(),
            hidden: self.hidden.clone(),
            secrets: self.secrets.clone(),
        }
    }
}

/// Longest source line that is shown, in characters.
const MAX_LINE: usize = 200;

fn clip(line: &str) -> String {
    line.chars().take(MAX_LINE).collect()
}

/// The lines of a file with secrets cut out: a line ends where its first secret begins.
pub(super) fn covered_lines(text: &str, covers: &[Cover]) -> Vec<String> {
    let mut cuts: BTreeMap<u32, usize> = BTreeMap::new();
    for cover in covers {
        let first = cover.spot.line;
        let column = cover.spot.column.saturating_sub(1) as usize;
        let cut = cuts.entry(first).or_insert(column);
        *cut = (*cut).min(column);
        for line in first.saturating_add(1)..=cover.last_line {
            cuts.insert(line, 0);
        }
    }
    let lines = text.trim_start_matches('\u{feff}').lines().zip(1u32..);
    lines
        .map(|(line, number)| match cuts.get(&number) {
            Some(cut) => line.chars().take((*cut).min(MAX_LINE)).chain(['…']).collect(),
            None => clip(line),
        })
        .collect()
}

/// The lines of a file that is not YAML, where nobody can say what is a secret: whatever follows a key that sounds like
/// one is cut, and long words with digits are masked.
pub(super) fn guarded_lines(text: &str) -> Vec<String> {
    const SECRET: [&str; 6] = ["key", "secret", "token", "password", "authorization", "credential"];
    let guard = |line: &str| -> String {
        let lower = line.to_ascii_lowercase();
        if let Some(at) = SECRET.iter().filter_map(|word| lower.find(word)).min()
            && let Some(colon) = line[at..].find(':')
        {
            return format!("{} …", clip(&line[..=at + colon]));
        }
        line.split_inclusive(char::is_whitespace)
            .map(mask)
            .collect::<String>()
            .chars()
            .take(MAX_LINE)
            .collect()
    };
    text.trim_start_matches('\u{feff}').lines().map(guard).collect()
}

fn mask(word: &str) -> String {
    let suspicious = word.len() >= 12 && word.bytes().any(|b| b.is_ascii_digit());
    if suspicious {
        word.chars().map(|c| if c.is_alphanumeric() { '•' } else { c }).collect()
    } else {
        word.to_owned()
    }
}
