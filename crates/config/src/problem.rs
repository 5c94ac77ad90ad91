//! What is wrong with a configuration, where, why, and how to mend it.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted; somebody should look.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A position in a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file as the operator named it.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// The source line of a problem, secrets hidden, for the caret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The line without its line break.
    pub(crate) line: String,
    /// How many characters the caret underlines.
    pub(crate) width: u32,
}

/// One thing that is wrong. Sentences are lower case without a final stop; none of them ever holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is, when it is in a file.
    pub place: Option<Place>,
    /// Which setting: `providers.openai.api_key`, `keys[2].scopes[0]`; empty for the file as a whole.
    pub path: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was expected and what was found.
    pub message: String,
    /// Why that is a problem, when the message alone does not say.
    pub cause: Option<String>,
    /// How to mend it.
    pub hint: Option<String>,
    pub(crate) excerpt: Option<Excerpt>,
}

impl Problem {
    /// An error at a setting. A factory gives paths inside its own section (`base_url`); the registry puts the rest in
    /// front and finds the line.
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: None,
            path: path.into(),
            severity: Severity::Error,
            message: message.into(),
            cause: None,
            hint: None,
            excerpt: None,
        }
    }

    /// A warning at a setting.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, message) }
    }

    /// Adds why it is a problem.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds how to mend it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds where it is.
    #[must_use]
    pub fn with_place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Whether the configuration is refused because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The problem as JSON, for `check --json`: `severity`, `path`, `message`, and where known `file`, `line`,
    /// `column`, `cause`, `hint`.
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "severity": self.severity.name(),
            "path": self.path,
            "message": self.message,
        });
        if let Some(place) = &self.place {
            value["file"] = json!(place.file.display().to_string());
            value["line"] = json!(place.line);
            value["column"] = json!(place.column);
        }
        if let Some(cause) = &self.cause {
            value["cause"] = json!(cause);
        }
        if let Some(hint) = &self.hint {
            value["hint"] = json!(hint);
        }
        value
    }
}

impl fmt::Display for Problem {
    /// As compilers do it: sentence, place, source line with a caret, cause, hint. No line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity.name(), self.message)?;
        let number = self.place.as_ref().map(|p| p.line.to_string()).unwrap_or_default();
        let gutter = " ".repeat(number.len());
        match (&self.place, self.path.is_empty()) {
            (Some(place), true) => write!(f, "\n{gutter}--> {place}")?,
            (Some(place), false) => write!(f, "\n{gutter}--> {place} ({})", self.path)?,
            (None, false) => write!(f, "\n--> {}", self.path)?,
            (None, true) => {}
        }
        if let (Some(place), Some(excerpt)) = (&self.place, &self.excerpt) {
            let column = place.column.saturating_sub(1) as usize;
            // Tabs keep their width under the caret only if they are repeated there.
            let lead: String =
                excerpt.line.chars().take(column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let rest = excerpt.line.chars().count().saturating_sub(column).max(1);
            let carets = "^".repeat((excerpt.width.max(1) as usize).min(rest));
            write!(f, "\n{gutter} |\n{number} | {}\n{gutter} | {lead}{carets}", excerpt.line)?;
        }
        if let Some(cause) = &self.cause {
            write!(f, "\n{gutter} = because: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n{gutter} = help: {hint}")?;
        }
        Ok(())
    }
}

/// All problems as text for a terminal, the worst first, with a closing count.
pub fn report(problems: &[Problem]) -> String {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by(|a, b| a.severity.cmp(&b.severity).then_with(|| a.place.cmp(&b.place)));
    let mut text = String::new();
    for problem in &sorted {
        text.push_str(&format!("{problem}\n\n"));
    }
    let errors = sorted.iter().filter(|p| p.is_error()).count();
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    text.push_str(&format!("{}, {}\n", count(errors, "error"), count(sorted.len() - errors, "warning")));
    text
}
