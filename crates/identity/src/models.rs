//! Which models a key may name.

use std::sync::Arc;

/// The most patterns that one key holds.
const MAX_PATTERNS: usize = 64;
/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 256;

/// A model allow-list: everything, or names and patterns in which `*` stands for any run of characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelAllow(Option<Arc<[Box<str>]>>);

impl ModelAllow {
    /// Every model.
    pub const ALL: ModelAllow = ModelAllow(None);

    /// Reads patterns; all problems come back at once. An empty list is a problem, because it would allow nothing
    /// while it reads like "no restriction".
    pub fn parse<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, Vec<String>> {
        let patterns: Vec<Box<str>> =
            patterns.into_iter().take(MAX_PATTERNS + 1).map(|pattern| pattern.as_ref().into()).collect();
        let mut problems: Vec<String> = patterns.iter().filter_map(|pattern| check(pattern)).collect();
        if patterns.is_empty() {
            problems.push("the models list is empty: leave it out to allow every model".to_owned());
        }
        if patterns.len() > MAX_PATTERNS {
            problems.push(format!("a key holds at most {MAX_PATTERNS} model patterns"));
        }
        if problems.is_empty() { Ok(Self(Some(patterns.into()))) } else { Err(problems) }
    }

    /// Whether the model may be named.
    pub fn allows(&self, model: &str) -> bool {
        self.0.as_deref().is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern, model)))
    }

    /// The patterns, or `None` for every model.
    pub fn patterns(&self) -> Option<Vec<String>> {
        self.0.as_deref().map(|patterns| patterns.iter().map(|pattern| pattern.to_string()).collect())
    }
}

fn check(pattern: &str) -> Option<String> {
    let shown: String = pattern.chars().take(64).filter(|c| !c.is_control()).collect();
    if pattern.is_empty() || pattern.len() > MAX_PATTERN_BYTES {
        return Some(format!("model pattern `{shown}` must have 1 to {MAX_PATTERN_BYTES} bytes"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "*._-/:@+".contains(c);
    (!pattern.chars().all(allowed))
        .then(|| format!("model pattern `{shown}` may hold letters, digits, `*` and . _ - / : @ + only"))
}

/// Greedy wildcard match that returns to the last star only: at most pattern × text steps, both bounded.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            last_star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star, taken)) = last_star {
            last_star = Some((star, taken + 1));
            p = star + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_a_shell_would() {
        for (pattern, text, expected) in [
            ("large", "large", true),
            ("large", "large2", false),
            ("large", "larg", false),
            ("gpt-*", "gpt-5", true),
            ("gpt-*", "gpt-", true),
            ("gpt-*", "xgpt-5", false),
            ("*", "", true),
            ("*", "anything/at:all", true),
            ("*mini", "gpt-5-mini", true),
            ("*mini", "gpt-5-mini-x", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("a**c", "ac", true),
            ("*", "*", true),
            ("Large", "large", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn every_bad_pattern_is_named_at_once() {
        let problems = ModelAllow::parse(["ok-*", "", "a b", "\u{202e}x"]).expect_err("three are bad");
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(
            ModelAllow::parse(Vec::<String>::new()).is_err(),
            "an empty list must not read as everything"
        );
        assert!(ModelAllow::parse(vec!["x"; 65]).is_err());
        assert!(ModelAllow::ALL.allows("whatever"));
        assert!(!ModelAllow::parse(["small"]).expect("valid").allows("large"));
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let pattern = format!("{}b", "*a".repeat(100));
        let text = "a".repeat(100_000);
        let begin = std::time::Instant::now();
        assert!(!matches(&pattern, &text));
        assert!(begin.elapsed() < std::time::Duration::from_secs(2), "{:?}", begin.elapsed());
    }
}
