//! Single values: types, ranges, patterns, words, secrets.

use std::net::SocketAddr;

use serde_json::{Number, Value};

use super::super::yaml::{self, Data, Node};
use super::super::{nearest, refs};
use super::{Checked, Checker, Rule};
use crate::Severity;

/// What a node says, references followed.
struct Said {
    data: Data,
    /// What may be quoted.
    shown: String,
    /// A reference was followed, so an unquoted number or truth value is meant when the setting wants one.
    followed: bool,
}

impl Checker<'_> {
    pub(super) fn scalar(&mut self, node: &Node, rule: Rule<'_>, types: &[&str]) -> Checked {
        let failed = Checked::plain(Value::Null);
        if rule.is_secret() {
            return self.secret(node, rule);
        }
        let Some(said) = self.said(node) else { return failed };
        let wants = |word: &str| types.contains(&word);
        let (value, fits) = match said.data {
            Data::Bool(b) => (Value::Bool(b), wants("boolean")),
            // Wanted exactly as it was written: a float would round it.
            Data::Number(n, raw) if wants("number") && wants("string") => {
                self.bounds(&Value::Number(n.clone()), &said.shown, rule);
                let exact = Value::String(raw);
                self.bounds(&exact, &said.shown, rule);
                return Checked { value: exact, shown: Value::Number(n) };
            }
            Data::Number(n, _) => {
                let fits = wants("number") || (wants("integer") && !n.is_f64());
                (Value::Number(n), fits)
            }
            Data::Text(text) if wants("string") => (Value::String(text), true),
            Data::Text(text) if said.followed => return self.typed(&text, &said.shown, node, rule),
            _ => (Value::Null, false),
        };
        if !fits {
            self.mismatch(node, rule);
            return failed;
        }
        self.bounds(&value, &said.shown, rule);
        let shown = if said.followed { Value::String(said.shown) } else { value.clone() };
        Checked { value, shown }
    }

    /// Text from a reference where a number or truth value is wanted: it is read as if it stood there unquoted.
    fn typed(&mut self, text: &str, shown: &str, node: &Node, rule: Rule<'_>) -> Checked {
        let types = rule.types();
        let value = match yaml::plain(text.trim()) {
            Data::Bool(b) if types.contains(&"boolean") => Value::Bool(b),
            Data::Number(n, _)
                if types.contains(&"number") || (types.contains(&"integer") && !n.is_f64()) =>
            {
                Value::Number(n)
            }
            _ => {
                self.mismatch(node, rule);
                return Checked::plain(Value::Null);
            }
        };
        self.bounds(&value, shown, rule);
        Checked { value, shown: Value::String(shown.to_owned()) }
    }

    fn said(&mut self, node: &Node) -> Option<Said> {
        Some(match &node.data {
            Data::Text(text) => match refs::expand(text, self.env) {
                Ok(out) => {
                    if out.followed {
                        self.hide(&out.text);
                        if text.contains(":-") {
                            self.cover(node);
                        }
                    }
                    Said { data: Data::Text(out.text), shown: out.shown, followed: out.followed }
                }
                Err(broken) => {
                    self.cover(node);
                    self.broken(broken);
                    return None;
                }
            },
            data => Said { data: data.clone(), shown: describe(data), followed: false },
        })
    }

    fn secret(&mut self, node: &Node, rule: Rule<'_>) -> Checked {
        let failed = Checked::plain(Value::Null);
        self.hidden.insert(self.path());
        let Data::Text(written) = &node.data else {
            self.cover(node);
            if matches!(node.data, Data::Null) && rule.allows_null() {
                return failed;
            }
            let hint = "write \"${NAME}\" to take it from the environment, file:PATH to take it from a file, or put it in quotes";
            self.note("expected a secret as text").hint = Some(hint.to_owned());
            return failed;
        };
        let (text, shown, empty) = if let Some(reference) = written.strip_prefix("file:") {
            match self.secret_file(reference) {
                Some(text) => (text, written.clone(), None),
                None => return failed,
            }
        } else {
            // Nothing but a name may be shown: text around it, or a default, may be the secret.
            let alone = refs::is_name(written);
            if !alone {
                self.cover(node);
            }
            let out = match refs::expand(written, self.env) {
                Ok(out) => out,
                Err(broken) => {
                    self.broken(broken);
                    return failed;
                }
            };
            if !out.followed && !written.is_empty() {
                self.literal_secrets.push(self.path());
            }
            let shown = if alone { out.shown } else { "…".to_owned() };
            (out.text, shown, out.empty)
        };
        self.hide(&text);
        if text.trim().is_empty() {
            let problem = self.note("expected a secret, found nothing");
            problem.cause = empty.map(|name| format!("the environment variable `{name}` is set but empty"));
            return failed;
        }
        Checked { value: Value::String(text), shown: Value::String(shown) }
    }

    fn secret_file(&mut self, reference: &str) -> Option<String> {
        let (path, text) = match refs::read_secret(reference, self.base, self.env) {
            Ok(read) => read,
            Err(broken) => {
                self.broken(broken);
                return None;
            }
        };
        if self.env.world_readable(&path) {
            // Container engines mount secrets readable for all inside the container and nobody else is in there.
            let mounted = path.starts_with("/run/secrets") || path.starts_with("/var/run/secrets");
            let shown = path.display().to_string();
            let problem =
                self.note(format!("the secret file {shown} can be read by everybody on this machine"));
            problem.severity = if mounted { Severity::Warning } else { Severity::Error };
            problem.hint = Some(format!("chmod 600 {shown} (Kubernetes: defaultMode: 0400)"));
        }
        self.files.push(path);
        Some(text)
    }

    /// An enum: `enum`, `const`, or a choice of such.
    pub(super) fn word(&mut self, node: &Node, rule: Rule<'_>) -> Checked {
        let mut words: Vec<&Value> = Vec::new();
        collect_words(rule, &mut words);
        let Some(said) = self.said(node) else { return Checked::plain(Value::Null) };
        let value = match said.data {
            Data::Null => Value::Null,
            Data::Bool(b) => Value::Bool(b),
            Data::Number(n, _) => Value::Number(n),
            Data::Text(text) if said.followed && words.iter().all(|w| w.is_number()) => {
                text.trim().parse::<u64>().map_or(Value::Null, |n| Value::Number(n.into()))
            }
            Data::Text(text) => Value::String(text),
            Data::List(_) | Data::Map(_) => {
                self.cover(node);
                self.mismatch(node, rule);
                return Checked::plain(Value::Null);
            }
        };
        if words.contains(&&value) {
            let shown = if said.followed { Value::String(said.shown) } else { value.clone() };
            return Checked { value, shown };
        }
        let text = value.as_str().unwrap_or_default();
        let near =
            nearest(text, words.iter().filter_map(|w| w.as_str())).map(|w| format!("did you mean `{w}`?"));
        let shown = if said.followed { said.shown } else { clip(&describe_value(&value)) };
        self.note(format!("expected {}, found {shown}", list(&words))).hint = near;
        Checked::plain(Value::Null)
    }

    /// Ranges, lengths, patterns and formats of a value whose type is right.
    fn bounds(&mut self, value: &Value, shown: &str, rule: Rule<'_>) {
        match value {
            Value::Number(number) => self.range(number, rule),
            Value::String(text) => self.text(text, shown, rule),
            _ => {}
        }
    }

    fn range(&mut self, number: &Number, rule: Rule<'_>) {
        let most = rule.get("maximum").and_then(Value::as_f64).or(
            match rule.get("format").and_then(Value::as_str) {
                Some("uint8") => Some(f64::from(u8::MAX)),
                Some("uint16") => Some(f64::from(u16::MAX)),
                Some("uint32") => Some(f64::from(u32::MAX)),
                Some("int32") => Some(f64::from(i32::MAX)),
                _ => None,
            },
        );
        let Some(found) = number.as_f64() else { return };
        let hidden = self.hidden.contains(&self.path());
        let found_text = if hidden { "another number".to_owned() } else { number.to_string() };
        if let Some(least) = rule.get("minimum").and_then(Value::as_f64).filter(|least| found < *least) {
            self.note(format!("must be at least {least}, found {found_text}"));
        } else if let Some(most) = most.filter(|most| found > *most) {
            self.note(format!("must be at most {most}, found {found_text}"));
        } else if rule.get("exclusiveMinimum").and_then(Value::as_f64).is_some_and(|least| found <= least) {
            self.note(format!("must be more than {}, found {found_text}", rule.schema["exclusiveMinimum"]));
        } else if rule.get("exclusiveMaximum").and_then(Value::as_f64).is_some_and(|most| found >= most) {
            self.note(format!("must be less than {}, found {found_text}", rule.schema["exclusiveMaximum"]));
        }
    }

    fn text(&mut self, text: &str, shown: &str, rule: Rule<'_>) {
        let count = text.chars().count() as u64;
        if text.is_empty() && rule.get("minLength").and_then(Value::as_u64).is_some_and(|least| least > 0) {
            self.note("must not be empty");
            return;
        }
        if let Some(most) = rule.get("maxLength").and_then(Value::as_u64).filter(|most| count > *most) {
            self.note(format!("must be at most {most} characters long, found {count}"));
        }
        let pattern = rule.get("pattern").and_then(Value::as_str);
        let matches = match pattern.map(regex_lite::Regex::new) {
            Some(Ok(pattern)) => pattern.is_match(text),
            _ => true,
        };
        let is_address = rule.get("format").and_then(Value::as_str) == Some("socket-address");
        if matches && (!is_address || text.parse::<SocketAddr>().is_ok()) {
            return;
        }
        let wanted = wanted(rule);
        let hint = if is_address {
            Some(
                "numbers only: 127.0.0.1:8080, or [::1]:8080; 0.0.0.0:8080 listens on every interface"
                    .to_owned(),
            )
        } else {
            None
        };
        self.note(format!("expected {wanted}, found `{}`", clip(shown))).hint = hint;
    }

    pub(super) fn mismatch(&mut self, node: &Node, rule: Rule<'_>) {
        let wanted = wanted(rule);
        let found = if self.hidden.contains(&self.path()) {
            "another kind of value".to_owned()
        } else {
            describe(&node.data)
        };
        let hint = match &node.data {
            Data::Text(t)
                if wanted == "true or false" && matches!(t.as_str(), "yes" | "on" | "Yes" | "On") =>
            {
                Some("write true".to_owned())
            }
            Data::Text(t)
                if wanted == "true or false" && matches!(t.as_str(), "no" | "off" | "No" | "Off") =>
            {
                Some("write false".to_owned())
            }
            Data::Text(t) if matches!(yaml::plain(t), Data::Number(..) | Data::Bool(_)) => {
                Some("remove the quotes".to_owned())
            }
            Data::Number(..) | Data::Bool(_)
                if rule.get("examples").is_none() && rule.types().contains(&"string") =>
            {
                Some("put it in quotes".to_owned())
            }
            _ => None,
        };
        self.note(format!("expected {wanted}, found {found}")).hint = hint;
    }
}

fn collect_words<'s>(rule: Rule<'s>, words: &mut Vec<&'s Value>) {
    let rule = rule.resolved();
    words.extend(rule.get("const"));
    words.extend(rule.get("enum").and_then(Value::as_array).into_iter().flatten());
    for option in rule.options().unwrap_or_default() {
        collect_words(rule.at(option), words);
    }
    words.retain(|word| !word.is_null());
}

fn list(words: &[&Value]) -> String {
    words.iter().map(|w| describe_value(w)).collect::<Vec<_>>().join(" or ")
}

fn describe_value(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => other.to_string(),
    }
}

/// What a setting wants, in words.
fn wanted(rule: Rule<'_>) -> String {
    if let Some(example) = rule.get("examples").and_then(|e| e.get(0)).and_then(Value::as_str) {
        let what = rule.get("title").and_then(Value::as_str).map_or("text".to_owned(), str::to_lowercase);
        let article = match what.chars().next() {
            _ if what == "text" => "",
            Some('a' | 'e' | 'i' | 'o') => "an ",
            _ => "a ",
        };
        return format!("{article}{what} such as {example}");
    }
    if let Some(pattern) = rule.get("pattern").and_then(Value::as_str) {
        return format!("text that matches {pattern}");
    }
    let words = |word: &&str| match *word {
        "string" => Some("text"),
        "integer" => Some("a whole number"),
        "number" => Some("a number"),
        "boolean" => Some("true or false"),
        "array" => Some("a list"),
        "object" => Some("a map of settings"),
        _ => None,
    };
    let mut types: Vec<&str> = rule.types().iter().filter_map(words).collect();
    for option in rule.options().unwrap_or_default() {
        types.extend(rule.at(option).resolved().types().iter().filter_map(words));
    }
    types.dedup();
    if types.is_empty() { "another value".to_owned() } else { types.join(" or ") }
}

fn describe(data: &Data) -> String {
    match data {
        Data::Null => "nothing".to_owned(),
        Data::Bool(b) => format!("`{b}`"),
        Data::Number(_, raw) => format!("the number {}", clip(raw)),
        Data::Text(text) => format!("the text `{}`", clip(text)),
        Data::List(_) => "a list".to_owned(),
        Data::Map(_) => "a map".to_owned(),
    }
}

/// At most 60 characters of something that is quoted.
fn clip(text: &str) -> String {
    let one_line = text.lines().next().unwrap_or_default();
    match one_line.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &one_line[..cut]),
        None => one_line.to_owned(),
    }
}
