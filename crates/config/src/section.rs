//! A part of the file that only one plug-in understands.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::load::Places;
use crate::registry::PLACEMENT;
use crate::{Placement, Problem, Settings, schema_of};

/// The settings of one plug-in, references resolved, not yet typed.
///
/// Two sections are equal when kind, name and settings are, wherever they stand in the file: a reload keeps what is equal.
#[derive(Clone)]
pub struct Section {
    /// Which plug-in: `openai`, `local`, ….
    pub kind: String,
    /// The name that the operator gave it.
    pub name: String,
    /// Its settings without `kind`. Secrets stand here in clear text: never print or serialise it; `Debug` does not.
    pub value: Value,
    /// Where the section begins: `providers.openai`.
    pub(crate) path: String,
    pub(crate) places: Places,
}

impl Section {
    /// A section that stands in no file, for `up`, tests and the console.
    pub fn new(kind: impl Into<String>, name: impl Into<String>, value: Value) -> Self {
        let name = name.into();
        Self { kind: kind.into(), path: format!("providers.{name}"), name, value, places: Places::default() }
    }

    /// The settings with their type.
    ///
    /// # Errors
    /// The problems that [`crate::load`] would also have found, and those of types that check more than their schema.
    /// Their paths are inside the section: see [`Section::locate`].
    pub fn settings<S: Settings>(&self) -> Result<S, Vec<Problem>> {
        let schema = schema_of::<S>();
        let mut own = self.value.clone();
        if let Some(members) = own.as_object_mut() {
            // Of the members that every section may have, a kind sees those that its own settings name.
            members.retain(|name, _| {
                !PLACEMENT.contains(&name.as_str())
                    || schema.pointer(&format!("/properties/{name}")).is_some()
            });
        }
        serde_path_to_error::deserialize(&own).map_err(|error| {
            let inside = error.path().to_string();
            let inside = if inside == "." { String::new() } else { inside };
            let whole = self.join(&inside);
            let problem = self.places.untyped(whole, error.inner());
            vec![Problem { path: inside, ..problem }]
        })
    }

    /// What routing has to know of it; what is wrong there was found when the file was checked.
    pub fn placement(&self) -> Placement {
        Placement::deserialize(&self.value).unwrap_or_default()
    }

    fn join(&self, inside: &str) -> String {
        match inside {
            "" => self.path.clone(),
            inside if inside.starts_with('[') => format!("{}{inside}", self.path),
            inside => format!("{}.{inside}", self.path),
        }
    }

    /// Turns a path inside this section into a path from the top, and finds its line.
    pub fn locate(&self, mut problem: Problem) -> Problem {
        problem.path = self.join(&problem.path);
        self.places.locate(problem)
    }
}

impl PartialEq for Section {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name == other.name && self.value == other.value
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section").field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}
