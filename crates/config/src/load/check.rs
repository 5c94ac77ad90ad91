//! The tree against the schema: every problem at once, references followed on the way.
//!
//! An own walker over the subset of JSON Schema that schemars writes, because a general validator neither follows
//! references nor knows places, and its sentences are about schemas instead of settings. What the subset lacks is left
//! to serde, which has the last word anyway.

mod object;
mod scalar;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use penstock_domain::Secret;
use serde_json::{Map, Value};

use super::places::Spot;
use super::refs::{self, Broken};
use super::yaml::{Data, Node};
use crate::{Environment, KindSchemas, Problem};

/// Problems beyond this many are counted and not listed.
const MAX_PROBLEMS: usize = 100;

/// A value, and what may be shown of it.
pub(super) struct Checked {
    pub(super) value: Value,
    pub(super) shown: Value,
}

impl Checked {
    fn plain(value: Value) -> Self {
        Self { shown: value.clone(), value }
    }
}

/// A schema and the document in which its `$ref`s point.
#[derive(Clone, Copy)]
pub(super) struct Rule<'s> {
    pub(super) schema: &'s Value,
    pub(super) root: &'s Value,
}

impl<'s> Rule<'s> {
    fn at(self, schema: &'s Value) -> Self {
        Self { schema, ..self }
    }

    /// Follows `$ref`; a circle of references ends at the bound.
    fn resolved(self) -> Self {
        let mut rule = self;
        for _ in 0..16 {
            let target = rule.schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
            match target.and_then(|pointer| rule.root.pointer(pointer)) {
                Some(schema) => rule = rule.at(schema),
                None => break,
            }
        }
        rule
    }

    fn get(self, key: &str) -> Option<&'s Value> {
        self.schema.get(key)
    }

    fn options(self) -> Option<&'s [Value]> {
        self.get("oneOf").or_else(|| self.get("anyOf")).and_then(Value::as_array).map(Vec::as_slice)
    }

    fn is_secret(self) -> bool {
        self.get("writeOnly") == Some(&Value::Bool(true))
    }

    /// The words of `type`; empty when the schema does not say.
    fn types(self) -> Vec<&'s str> {
        match self.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    fn allows_null(self) -> bool {
        let rule = self.resolved();
        match rule.options() {
            Some(options) => options.iter().any(|o| rule.at(o).allows_null()),
            None => {
                rule.types().contains(&"null") || rule.schema == &Value::Bool(true) || rule.types().is_empty()
            }
        }
    }
}

/// Lines that must not be shown from a column on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cover {
    pub(super) spot: Spot,
    pub(super) last_line: u32,
}

/// One pass over one file.
pub(super) struct Checker<'a> {
    pub(super) env: &'a dyn Environment,
    /// The folder that relative secret files start from.
    pub(super) base: &'a Path,
    pub(super) kinds: &'a KindSchemas,
    pub(super) problems: Vec<Problem>,
    pub(super) spots: BTreeMap<String, Spot>,
    /// Where secrets stand in the file.
    pub(super) covers: Vec<Cover>,
    /// Paths whose value must not be quoted.
    pub(super) hidden: BTreeSet<String>,
    /// What must not appear in any sentence: values of references, and secrets that stand in the file.
    pub(super) secrets: Vec<Secret>,
    /// Secret files that were read.
    pub(super) files: Vec<PathBuf>,
    /// Settings that hold a secret in clear text.
    pub(super) literal_secrets: Vec<String>,
    trail: Vec<String>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(env: &'a dyn Environment, base: &'a Path, kinds: &'a KindSchemas) -> Self {
        Self {
            env,
            base,
            kinds,
            problems: Vec::new(),
            spots: BTreeMap::new(),
            covers: Vec::new(),
            hidden: BTreeSet::new(),
            secrets: Vec::new(),
            files: Vec::new(),
            literal_secrets: Vec::new(),
            trail: Vec::new(),
        }
    }

    /// The path of the node that is being looked at.
    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.trail {
            if !path.is_empty() && !step.starts_with('[') {
                path.push('.');
            }
            path.push_str(step);
        }
        path
    }

    fn note(&mut self, message: impl Into<String>) -> &mut Problem {
        let problem = Problem::error(self.path(), message);
        // Beyond the bound the last one is overwritten: its caller may still add a hint to it.
        if self.problems.len() >= MAX_PROBLEMS {
            self.problems.pop();
        }
        self.problems.push(problem);
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    fn broken(&mut self, broken: Broken) {
        self.note(broken.message).hint = Some(broken.hint);
    }

    fn within<T>(&mut self, step: String, spot: Spot, work: impl FnOnce(&mut Self) -> T) -> T {
        self.trail.push(step);
        let path = self.path();
        self.spots.entry(path).or_insert(spot);
        let result = work(self);
        self.trail.pop();
        result
    }

    /// Keeps the value of this setting out of every sentence.
    fn hide(&mut self, value: &str) {
        self.hidden.insert(self.path());
        self.secrets.push(Secret::new(value));
    }

    /// Hides everything under a node from excerpts: it is unknown, so it may be a secret.
    fn cover(&mut self, node: &Node) {
        self.covers.push(Cover { spot: node.spot, last_line: node.last_line });
    }

    /// Checks one node.
    pub(super) fn visit(&mut self, node: &Node, rule: Rule<'_>) -> Checked {
        let rule = rule.resolved();
        if rule.get("x-family").is_some() {
            return self.section(node);
        }
        if let Some(options) = rule.options() {
            return self.choice(node, rule, options);
        }
        let types = rule.types();
        if matches!(node.data, Data::Null) && types.contains(&"null") {
            return Checked::plain(Value::Null);
        }
        if rule.get("const").is_some() || rule.get("enum").is_some() {
            return self.word(node, rule);
        }
        match &node.data {
            _ if types.is_empty() => self.free(node),
            Data::Map(entries) if types.contains(&"object") => self.object(entries, rule),
            Data::Null if types.contains(&"object") => self.object(&[], rule),
            Data::List(items) if types.contains(&"array") => self.list(items, rule),
            Data::Null if types.contains(&"array") => Checked::plain(Value::Array(Vec::new())),
            Data::Map(_) | Data::List(_) => {
                self.cover(node);
                self.mismatch(node, rule);
                Checked::plain(Value::Null)
            }
            _ => self.scalar(node, rule, &types),
        }
    }

    fn list(&mut self, items: &[Node], rule: Rule<'_>) -> Checked {
        let always = Value::Bool(true);
        let each = rule.get("items").unwrap_or(&always);
        let (mut values, mut shown) = (Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            let checked =
                self.within(format!("[{index}]"), item.spot, |checker| checker.visit(item, rule.at(each)));
            values.push(checked.value);
            shown.push(checked.shown);
        }
        let count = items.len() as u64;
        if let Some(least) = rule.get("minItems").and_then(Value::as_u64).filter(|least| count < *least) {
            self.note(format!("expected at least {least} entries, found {count}"));
        }
        if let Some(most) = rule.get("maxItems").and_then(Value::as_u64).filter(|most| count > *most) {
            self.note(format!("expected at most {most} entries, found {count}"));
        }
        Checked { value: Value::Array(values), shown: Value::Array(shown) }
    }

    /// One of several schemas: an enum with documented words, an optional value, or a choice by a member.
    fn choice(&mut self, node: &Node, rule: Rule<'_>, options: &[Value]) -> Checked {
        let candidates: Vec<Rule<'_>> = options.iter().map(|o| rule.at(o).resolved()).collect();
        let is_word = |r: &Rule<'_>| r.get("const").is_some() || r.get("enum").is_some();
        if matches!(node.data, Data::Null) && rule.allows_null() {
            return Checked::plain(Value::Null);
        }
        let real: Vec<Rule<'_>> = candidates.into_iter().filter(|r| r.types() != ["null"]).collect();
        if real.iter().all(is_word) {
            return self.word(node, rule);
        }
        if let [only] = real.as_slice() {
            return self.visit(node, *only);
        }
        // A word that may be shown, or text that may not.
        if let [word, other] = real.as_slice()
            && is_word(word)
            && other.is_secret()
        {
            let text = if let Data::Text(text) = &node.data { Some(text.as_str()) } else { None };
            let named = text.is_some() && text == word.get("const").and_then(Value::as_str);
            return self.visit(node, if named { *word } else { *other });
        }
        if let Some(tagged) = real.iter().copied().find(|r| has_tag(node, *r)) {
            return self.visit(node, tagged);
        }
        let fitting: Vec<Rule<'_>> = real.iter().copied().filter(|r| fits(node, *r)).collect();
        match fitting.as_slice() {
            [] => {
                self.cover(node);
                self.mismatch(node, rule);
                Checked::plain(Value::Null)
            }
            [only] => self.visit(node, *only),
            // Undecided: serde tries the variants in order and says what is wrong.
            _ => self.free(node),
        }
    }

    /// A value without rules: references are followed, everything else stays.
    fn free(&mut self, node: &Node) -> Checked {
        match &node.data {
            Data::Null => Checked::plain(Value::Null),
            Data::Bool(b) => Checked::plain(Value::Bool(*b)),
            Data::Number(n, _) => Checked::plain(Value::Number(n.clone())),
            Data::Text(text) => match refs::expand(text, self.env) {
                Ok(out) => {
                    if out.followed {
                        self.hide(&out.text);
                    }
                    Checked { value: Value::String(out.text), shown: Value::String(out.shown) }
                }
                Err(broken) => {
                    self.broken(broken);
                    Checked::plain(Value::Null)
                }
            },
            Data::List(items) => self.list(items, Rule { schema: &Value::Bool(true), root: &Value::Null }),
            Data::Map(entries) => {
                let (mut value, mut shown) = (Map::new(), Map::new());
                for entry in entries {
                    let checked =
                        self.within(entry.key.clone(), entry.node.spot, |checker| checker.free(&entry.node));
                    value.insert(entry.key.clone(), checked.value);
                    shown.insert(entry.key.clone(), checked.shown);
                }
                Checked { value: Value::Object(value), shown: Value::Object(shown) }
            }
        }
    }
}

/// Whether a map names this variant by a member that the variant fixes.
fn has_tag(node: &Node, rule: Rule<'_>) -> bool {
    let (Data::Map(entries), Some(Value::Object(properties))) = (&node.data, rule.get("properties")) else {
        return false;
    };
    properties.iter().any(|(name, schema)| {
        let Some(fixed) = schema.get("const").and_then(Value::as_str) else { return false };
        entries.iter().any(|e| &e.key == name && matches!(&e.node.data, Data::Text(text) if text == fixed))
    })
}

/// Whether a node is of one of the types of a schema.
fn fits(node: &Node, rule: Rule<'_>) -> bool {
    let types = rule.types();
    let has = |word: &str| types.contains(&word);
    match &node.data {
        Data::Null => has("null"),
        Data::Bool(_) => has("boolean"),
        Data::Number(n, _) => has("number") || (has("integer") && !n.is_f64()),
        Data::Text(_) => has("string") || rule.get("enum").is_some() || rule.get("const").is_some(),
        Data::List(_) => has("array"),
        Data::Map(_) => has("object"),
    }
}
