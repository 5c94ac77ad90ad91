//! Maps: known settings, missing ones, unknown ones, and the sections of plug-ins.

use serde_json::{Map, Value};

use super::super::yaml::{Data, Entry, Node};
use super::super::{later, nearest};
use super::{Checked, Checker, Rule};
use crate::Kind;
use crate::registry::unknown_kind;

impl Checker<'_> {
    pub(super) fn object(&mut self, entries: &[Entry], rule: Rule<'_>) -> Checked {
        let none = Map::new();
        let properties = rule.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let others = rule.get("additionalProperties").or_else(|| rule.get("unevaluatedProperties"));
        let (mut value, mut shown) = (Map::new(), Map::new());
        for entry in entries {
            let schema = match (properties.get(&entry.key), others) {
                (Some(schema), _) => Some(schema),
                (None, Some(Value::Bool(false))) => None,
                (None, others) => others.or(Some(&Value::Bool(true))),
            };
            let Some(schema) = schema else {
                self.unknown(entry, properties.keys().map(String::as_str));
                continue;
            };
            let inner = rule.at(schema);
            let required = is_required(rule, &entry.key);
            // `admin_listen:` with nothing behind it is a setting that is not set.
            if matches!(entry.node.data, Data::Null) && !required && !inner.allows_null() && !is_map(inner) {
                continue;
            }
            // A map is found by its key, a single value by itself.
            let spot = match entry.node.data {
                Data::Map(_) | Data::List(_) | Data::Null => entry.spot,
                _ => entry.node.spot,
            };
            let checked = self.within(entry.key.clone(), spot, |checker| checker.visit(&entry.node, inner));
            value.insert(entry.key.clone(), checked.value);
            shown.insert(entry.key.clone(), checked.shown);
        }
        self.missing(entries, rule, properties);
        for (key, schema) in properties {
            if !shown.contains_key(key)
                && let Some(default) = default_of(rule.at(schema))
                && !default.is_null()
            {
                shown.insert(key.clone(), default);
            }
        }
        Checked { value: Value::Object(value), shown: Value::Object(shown) }
    }

    fn missing(&mut self, entries: &[Entry], rule: Rule<'_>, properties: &Map<String, Value>) {
        let required = rule.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for key in required.iter().filter_map(Value::as_str) {
            if entries.iter().any(|e| e.key == key) {
                continue;
            }
            let about = properties.get(key).and_then(|s| s.get("description")).and_then(Value::as_str);
            self.trail.push(key.to_owned());
            let problem = self.note(format!("`{key}` is missing"));
            problem.hint = Some(match about.map(|text| text.lines().next().unwrap_or_default()) {
                Some(about) if !about.is_empty() => format!("add `{key}:` here. {about}"),
                _ => format!("add `{key}:` here"),
            });
            self.trail.pop();
        }
    }

    fn unknown<'k>(&mut self, entry: &Entry, known: impl Iterator<Item = &'k str> + Clone) {
        let key = &entry.key;
        let later = later::is_later(&self.trail, key);
        self.cover(&entry.node);
        self.within(key.clone(), entry.spot, |checker| {
            if later {
                checker.note(format!("`{key}` is not available in this version")).hint =
                    Some("remove it: nothing would act on it".to_owned());
                return;
            }
            let near = nearest(key, known.clone()).map(|near| format!("did you mean `{near}`?"));
            let all = known.collect::<Vec<_>>().join(", ");
            let problem = checker.note(format!("unknown setting `{key}`"));
            problem.hint = match (near, all.is_empty()) {
                (Some(near), _) => Some(near),
                (None, false) => Some(format!("expected one of: {all}")),
                (None, true) => Some("there are no settings here".to_owned()),
            };
        });
    }

    /// The section of a plug-in, against the schema of its kind. The value keeps `kind`.
    pub(super) fn section(&mut self, node: &Node) -> Checked {
        let nothing = Checked::plain(Value::Null);
        let Data::Map(entries) = &node.data else {
            self.cover(node);
            self.note("expected a map with `kind` and settings").hint =
                Some("for example {kind: openai, api_key: \"${OPENAI_API_KEY}\"}".to_owned());
            return nothing;
        };
        let kinds = &self.kinds.providers;
        let (name, spot) = match entries.iter().find(|e| e.key == "kind").map(|e| &e.node) {
            Some(Node { data: Data::Text(text), spot, .. }) => (text.clone(), *spot),
            None if let Some(near) =
                entries.iter().find(|e| nearest(&e.key, ["kind"].into_iter()).is_some()) =>
            {
                self.cover(node);
                self.unknown(near, ["kind"].into_iter());
                return nothing;
            }
            other => {
                let known = kinds.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                self.cover(node);
                match other {
                    Some(kind) => self.within("kind".to_owned(), kind.spot, |c| {
                        c.note("`kind` must be a word").hint = Some(format!("known kinds: {known}"))
                    }),
                    None => self.note("`kind` is missing").hint = Some(format!("known kinds: {known}")),
                }
                return nothing;
            }
        };
        let canonical = match kinds.get(&name) {
            Some(Kind { alias_of: Some(kind), .. }) => kind.clone(),
            _ => name.clone(),
        };
        let Some(schema) = kinds.get(&canonical).and_then(|k| k.schema.as_ref()) else {
            let mut problem = unknown_kind(&canonical, kinds);
            for entry in entries.iter().filter(|e| e.key != "kind") {
                self.cover(&entry.node);
            }
            self.within("kind".to_owned(), spot, |checker| {
                problem.path = checker.path();
                let hint = problem.hint.take();
                checker.note(problem.message).hint = hint;
            });
            return nothing;
        };
        let rest: Vec<Entry> = entries.iter().filter(|e| e.key != "kind").cloned().collect();
        let mut checked = self.object(&rest, Rule { schema, root: schema }.resolved());
        self.within("kind".to_owned(), spot, |_| ());
        if let (Value::Object(value), Value::Object(shown)) = (&mut checked.value, &mut checked.shown) {
            value.insert("kind".to_owned(), Value::String(canonical.clone()));
            let settings = std::mem::take(shown);
            shown.insert("kind".to_owned(), Value::String(canonical));
            shown.extend(settings);
        }
        checked
    }
}

fn is_required(rule: Rule<'_>, key: &str) -> bool {
    rule.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|k| k == key))
}

fn is_map(rule: Rule<'_>) -> bool {
    rule.resolved().types().contains(&"object")
}

/// What holds for a setting that is not there: its default, or the defaults of the settings inside it.
fn default_of(rule: Rule<'_>) -> Option<Value> {
    if let Some(default) = rule.get("default") {
        return Some(default.clone());
    }
    let inner = rule.resolved();
    let properties = inner.get("properties").and_then(Value::as_object)?;
    let filled: Map<String, Value> = properties
        .iter()
        .filter_map(|(key, schema)| Some((key.clone(), default_of(inner.at(schema))?)))
        .filter(|(_, value)| !value.is_null())
        .collect();
    Some(Value::Object(filled))
}
