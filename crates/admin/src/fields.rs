//! Reads the members of a JSON object and collects every mistake, instead of stopping at the first.

use penstock_identity::Flaw;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// More mistakes than this are not listed.
const MAX_FLAWS: usize = 32;

/// The members of an object that are still to be read.
pub(crate) struct Fields {
    rest: Map<String, Value>,
    within: String,
    known: Vec<&'static str>,
    flaws: Vec<Flaw>,
}

impl Fields {
    /// Begins with an object; `within` names the member that it stands in, empty for the whole body.
    pub(crate) fn new(object: Map<String, Value>, within: &str) -> Self {
        let within = if within.is_empty() { String::new() } else { format!("{within}.") };
        Self { rest: object, within, known: Vec::new(), flaws: Vec::new() }
    }

    /// Takes a member that may be missing or null; `expected` says what it should be.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        self.known.push(name);
        let value = self.rest.remove(name).filter(|value| !value.is_null())?;
        let found = kind_of(&value);
        match serde_json::from_value(value) {
            Ok(value) => Some(value),
            Err(_) => {
                self.flaw(name, format!("expected {expected}, found {found}"));
                None
            }
        }
    }

    /// Takes a member that must be there.
    pub(crate) fn need<T: DeserializeOwned>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        if self.rest.get(name).is_none_or(Value::is_null) {
            self.known.push(name);
            self.flaw(name, format!("is missing: expected {expected}"));
            return None;
        }
        self.take(name, expected)
    }

    /// Notes a mistake in a member.
    pub(crate) fn flaw(&mut self, name: &str, say: String) {
        self.flaws.push(Flaw { member: format!("{}{name}", self.within), say });
    }

    /// Whether nothing is wrong with this member so far.
    pub(crate) fn sound(&self, name: &str) -> bool {
        let member = format!("{}{name}", self.within);
        !self.flaws.iter().any(|flaw| flaw.member == member)
    }

    /// Ends the reading: members that nobody took are mistakes.
    pub(crate) fn finish(mut self) -> Vec<Flaw> {
        let unknown: Vec<String> = self.rest.keys().take(MAX_FLAWS).cloned().collect();
        for name in unknown {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            let near =
                self.known.iter().max_by(|a, b| strsim::jaro(&name, a).total_cmp(&strsim::jaro(&name, b)));
            let say = match near {
                Some(near) if strsim::jaro(&name, near) > 0.7 => {
                    format!("unknown member, did you mean `{near}`?")
                }
                _ => format!("unknown member: expected one of {}", self.known.join(", ")),
            };
            self.flaw(&shown, say);
        }
        self.flaws.truncate(MAX_FLAWS);
        self.flaws
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
