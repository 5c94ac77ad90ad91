//! Which directives a request gets: its own, then the first rule that speaks for it, then the default.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::script::{Directives, Rule, Script, ScriptError};

/// How many different scripts with `repeat` are remembered; the oldest is forgotten first.
const MAX_COUNTED: usize = 4_096;

/// A script with its counters.
pub(crate) struct Selector {
    default: Arc<Directives>,
    default_used: AtomicU64,
    rules: Vec<Counted>,
    models: Vec<String>,
    inline: Mutex<Inline>,
}

struct Counted {
    rule: Rule,
    steps: Arc<Directives>,
    matched: AtomicU64,
    used: AtomicU64,
}

#[derive(Default)]
struct Inline {
    used: HashMap<u64, u64>,
    order: VecDeque<u64>,
}

/// The facts that rules look at. `text` is asked for only when a rule needs it.
pub(crate) struct Facts<'a> {
    pub(crate) path: &'a str,
    pub(crate) model: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) text: &'a dyn Fn() -> Cow<'a, str>,
}

impl Selector {
    pub(crate) fn new(script: Script) -> Self {
        let rules = script.rules.into_iter().map(|rule| Counted {
            steps: Arc::new(rule.act.clone()),
            rule,
            matched: AtomicU64::new(0),
            used: AtomicU64::new(0),
        });
        let models = if script.models.is_empty() { vec!["mock".to_owned()] } else { script.models };
        Self {
            default: Arc::new(script.default),
            default_used: AtomicU64::new(0),
            rules: rules.collect(),
            models,
            inline: Mutex::default(),
        }
    }

    pub(crate) fn models(&self) -> &[String] {
        &self.models
    }

    /// Starts every counter again.
    pub(crate) fn reset(&self) {
        self.default_used.store(0, Ordering::Relaxed);
        for rule in &self.rules {
            rule.matched.store(0, Ordering::Relaxed);
            rule.used.store(0, Ordering::Relaxed);
        }
        *self.inline.lock() = Inline::default();
    }

    /// The directives for a request that brought its own script.
    pub(crate) fn inline(&self, text: &str) -> Result<Arc<Directives>, ScriptError> {
        let directives = Directives::from_json(text)?;
        if directives.repeat.is_none() {
            return Ok(Arc::new(directives));
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let used = self.inline.lock().count(hasher.finish());
        Ok(step(&Arc::new(directives), used).unwrap_or_default())
    }

    /// The directives for a request that did not.
    pub(crate) fn select(&self, facts: &Facts<'_>) -> Arc<Directives> {
        for counted in &self.rules {
            if !counted.rule.when.holds(facts) {
                continue;
            }
            let matched = counted.matched.fetch_add(1, Ordering::Relaxed) + 1;
            if counted.rule.when.nth.is_some_and(|nth| nth != matched) {
                continue;
            }
            if counted.rule.when.share.is_some_and(|share| draw(counted.rule.when.seed, matched) >= share) {
                continue;
            }
            if let Some(directives) = step(&counted.steps, counted.used.fetch_add(1, Ordering::Relaxed)) {
                return directives;
            }
        }
        let used = match self.default.repeat {
            Some(_) => self.default_used.fetch_add(1, Ordering::Relaxed),
            None => 0,
        };
        step(&self.default, used).unwrap_or_default()
    }
}

/// A number in [0, 1) for the nth draw: SplitMix64 (Steele, Lea, Flood 2014).
fn draw(seed: u64, n: u64) -> f64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// The link of a chain, without a copy in the usual case of a chain of one.
fn step(chain: &Arc<Directives>, used: u64) -> Option<Arc<Directives>> {
    let link = chain.at_use(used)?;
    if std::ptr::eq(link, Arc::as_ptr(chain)) {
        Some(Arc::clone(chain))
    } else {
        Some(Arc::new(link.clone()))
    }
}

impl Inline {
    fn count(&mut self, key: u64) -> u64 {
        if let Some(used) = self.used.get_mut(&key) {
            *used += 1;
            return *used - 1;
        }
        if self.order.len() == MAX_COUNTED
            && let Some(oldest) = self.order.pop_front()
        {
            self.used.remove(&oldest);
        }
        self.order.push_back(key);
        self.used.insert(key, 1);
        0
    }
}

impl crate::script::When {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.path.as_deref().is_none_or(|path| path == facts.path)
            && self.model.as_deref().is_none_or(|glob| glob_matches(glob, facts.model))
            && self.key.as_deref().is_none_or(|key| facts.key == Some(key))
            && self.text_contains.as_deref().is_none_or(|part| (facts.text)().contains(part))
    }
}

/// Matches a name against a pattern where `*` stands for any text; linear, without backtracking into earlier stars.
fn glob_matches(glob: &str, name: &str) -> bool {
    let Some((head, tail)) = glob.split_once('*') else { return glob == name };
    let Some(mut rest) = name.strip_prefix(head) else { return false };
    let mut parts = tail.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(selector: &Selector, path: &str, model: &str, text: &str) -> Arc<Directives> {
        let text = || Cow::Owned(text.to_owned());
        selector.select(&Facts { path, model, key: Some("sk-1"), text: &text })
    }

    #[test]
    fn a_share_is_drawn_by_its_seed_the_same_in_every_run() {
        let failures = |seed: u64| -> Vec<bool> {
            let script = format!(
                r#"{{"rules": [{{"when": {{"share": 0.3, "seed": {seed}}}, "do": {{"status": 503}}}}]}}"#
            );
            let selector = Selector::new(Script::from_json(&script).unwrap());
            (0..10_000).map(|_| pick(&selector, "/", "m", "").status.is_some()).collect()
        };
        let drawn = failures(1);
        let failed = drawn.iter().filter(|failed| **failed).count();
        assert!((2_800..3_200).contains(&failed), "{failed} of 10,000");
        assert_eq!(drawn, failures(1));
        assert_ne!(drawn, failures(2));
    }

    #[test]
    fn a_rule_can_speak_for_one_credential() {
        let script = r#"{"rules": [{"when": {"key": "sk-2"}, "do": {"status": 401}},
                                   {"when": {"key": "sk-1"}, "do": {"status": 402}}]}"#;
        let selector = Selector::new(Script::from_json(script).unwrap());
        assert_eq!(pick(&selector, "/", "m", "").status, Some(402));
    }

    #[test]
    fn the_first_rule_that_holds_decides_and_uses_run_out() {
        let selector = Selector::new(
            Script::from_json(
                r#"{"default": {"text": "d"}, "rules": [
                    {"when": {"path": "/v1/x"}, "do": {"text": "path"}},
                    {"when": {"model": "gpt-*", "text_contains": "boom"}, "do": {"status": 500, "repeat": 1}},
                    {"when": {"model": "gpt-*", "nth": 2}, "do": {"status": 503}}]}"#,
            )
            .unwrap(),
        );
        assert_eq!(pick(&selector, "/v1/x", "gpt-1", "").text.as_deref(), Some("path"));
        assert_eq!(pick(&selector, "/", "gpt-1", "a boom b").status, Some(500));
        assert_eq!(pick(&selector, "/", "gpt-1", "a boom b").text.as_deref(), Some("d"));
        assert_eq!(pick(&selector, "/", "gpt-1", "").status, Some(503));
        assert_eq!(pick(&selector, "/", "gpt-1", "").text.as_deref(), Some("d"));
        selector.reset();
        assert_eq!(pick(&selector, "/", "gpt-1", "a boom b").status, Some(500));
    }

    #[test]
    fn scripts_in_requests_count_by_their_text_and_only_so_many() {
        let selector = Selector::new(Script::default());
        let script = r#"{"status": 503, "repeat": 1, "key": "a"}"#;
        assert_eq!(selector.inline(script).unwrap().status, Some(503));
        assert_eq!(selector.inline(script).unwrap().status, None);
        assert_eq!(selector.inline(&script.replace("\"a\"", "\"b\"")).unwrap().status, Some(503));
        for n in 0..MAX_COUNTED + 10 {
            selector.inline(&script.replace("\"a\"", &format!("\"n{n}\""))).unwrap();
        }
        assert_eq!(selector.inline.lock().used.len(), MAX_COUNTED);
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (glob, name, holds) in [
            ("gpt", "gpt", true),
            ("gpt", "gpt-1", false),
            ("gpt-*", "gpt-5", true),
            ("*-5", "gpt-5", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
        ] {
            assert_eq!(glob_matches(glob, name), holds, "{glob} {name}");
        }
    }
}
