//! Where each setting stands in the file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

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
}

/// A position: line and column from 1, width in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) width: u32,
}

impl Places {
    /// A table; `lines` must hold no secret any more.
    pub(crate) fn new(file: PathBuf, lines: Vec<String>, spots: BTreeMap<String, Spot>) -> Self {
        Self(Arc::new(Inner { file, lines, spots }))
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
    pub(crate) fn at(&self, mut problem: Problem, spot: Spot) -> Problem {
        let line = self.0.lines.get(spot.line.saturating_sub(1) as usize);
        problem.place = Some(Place { file: self.0.file.clone(), line: spot.line, column: spot.column });
        problem.excerpt = line.map(|line| Excerpt { line: line.clone(), width: spot.width });
        problem
    }
}
