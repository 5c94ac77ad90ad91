//! Tool calls in what the model writes.
//!
//! Two ways: a *forced* answer is nothing but one call in a fixed form, so its arguments stream as they are written; in a
//! *free* answer a call stands between `<tool_call>` and `</tool_call>`, or the whole answer is one JSON object that names a
//! known tool. What turns out to be no call is given back as text, unchanged.

use serde_json::Value;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
const BETWEEN: &str = "\", \"arguments\": ";

/// What was found in a piece of text.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// Ordinary text.
    Text(String),
    /// A call begins: its name and the first piece of its arguments.
    Call { index: u32, name: String, arguments: String },
    /// More of the arguments of the last call.
    Arguments { index: u32, arguments: String },
}

/// Watches the text of one answer.
#[derive(Debug)]
pub(crate) struct Calls {
    known: Vec<String>,
    state: State,
    held: String,
    count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// The form is given: `{"name": "…", "arguments": …}`.
    Forced,
    /// The same, past the name.
    ForcedArguments,
    /// Nothing but white space so far.
    Start,
    /// The answer began with a brace.
    Object,
    /// Plain text, where a call may begin.
    Prose,
    /// Behind `<tool_call>`.
    Inside,
}

impl Calls {
    /// For an answer that is one call and nothing else.
    pub(crate) fn forced() -> Self {
        Self { known: Vec::new(), state: State::Forced, held: String::new(), count: 0 }
    }

    /// For an answer that may contain calls of the known tools.
    pub(crate) fn free(known: Vec<String>) -> Self {
        Self { known, state: State::Start, held: String::new(), count: 0 }
    }

    /// Whether a call was found.
    pub(crate) fn any(&self) -> bool {
        self.count > 0
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &str) -> Vec<Found> {
        self.held.push_str(piece);
        let mut found = Vec::new();
        while self.step(&mut found) {}
        found
    }

    /// The answer is over.
    pub(crate) fn finish(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        let rest = std::mem::take(&mut self.held);
        match self.state {
            // What is left is the brace around the call, or a form that the token limit cut.
            State::ForcedArguments => {}
            State::Forced => push_text(&mut found, rest),
            State::Object => self.take_whole(&rest, rest.clone(), &mut found),
            // Models often end without the closing tag.
            State::Inside => self.take_whole(&rest, format!("{OPEN}{rest}"), &mut found),
            State::Start | State::Prose => push_text(&mut found, rest),
        }
        found
    }

    /// Works on what is held; whether it should be called again.
    fn step(&mut self, found: &mut Vec<Found>) -> bool {
        match self.state {
            State::Forced => self.forced_name(found),
            State::ForcedArguments => {
                self.forced_arguments(found);
                false
            }
            State::Start => {
                let begun = self.held.trim_start();
                self.state = match begun.chars().next() {
                    None => return false,
                    Some('{') => State::Object,
                    Some(_) => State::Prose,
                };
                true
            }
            State::Object => match object_end(&self.held) {
                Some(end) => {
                    let rest = self.held.split_off(end);
                    let object = std::mem::replace(&mut self.held, rest);
                    self.take_whole(&object.clone(), object, found);
                    self.state = State::Prose;
                    true
                }
                None => false,
            },
            State::Prose => self.prose(found),
            State::Inside => match self.held.find(CLOSE) {
                Some(at) => {
                    let rest = self.held.split_off(at + CLOSE.len());
                    let inside = std::mem::replace(&mut self.held, rest);
                    self.take_whole(&inside[..at], format!("{OPEN}{inside}"), found);
                    self.state = State::Prose;
                    true
                }
                None => false,
            },
        }
    }

    fn forced_name(&mut self, found: &mut Vec<Found>) -> bool {
        let Some(at) = self.held.find(BETWEEN) else { return false };
        let head = format!("{}\"}}", &self.held[..at]);
        let name = serde_json::from_str::<Value>(&head)
            .ok()
            .and_then(|head| head["name"].as_str().map(str::to_owned));
        self.held.drain(..at + BETWEEN.len());
        found.push(Found::Call { index: 0, name: name.unwrap_or_default(), arguments: String::new() });
        self.count = 1;
        self.state = State::ForcedArguments;
        true
    }

    /// Everything but the last character, which may be the brace around the call.
    fn forced_arguments(&mut self, found: &mut Vec<Found>) {
        let Some((last, _)) = self.held.char_indices().next_back() else { return };
        if last > 0 {
            let rest = self.held.split_off(last);
            found.push(Found::Arguments { index: 0, arguments: std::mem::replace(&mut self.held, rest) });
        }
    }

    fn prose(&mut self, found: &mut Vec<Found>) -> bool {
        if let Some(at) = self.held.find(OPEN) {
            let rest = self.held.split_off(at + OPEN.len());
            let mut before = std::mem::replace(&mut self.held, rest);
            before.truncate(at);
            // White space between calls is no answer.
            if !before.trim().is_empty() {
                push_text(found, before);
            }
            self.state = State::Inside;
            return true;
        }
        let risk = (1..OPEN.len()).rev().find(|length| self.held.ends_with(&OPEN[..*length])).unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - risk);
        let text = std::mem::replace(&mut self.held, rest);
        if self.any() && text.trim().is_empty() {
            return false;
        }
        push_text(found, text);
        false
    }

    fn take_whole(&mut self, json: &str, otherwise: String, found: &mut Vec<Found>) {
        match self.read(json) {
            Some((name, arguments)) => {
                found.push(Found::Call { index: self.count, name, arguments });
                self.count += 1;
            }
            None => push_text(found, otherwise),
        }
    }

    fn read(&self, json: &str) -> Option<(String, String)> {
        let value: Value = serde_json::from_str(json.trim()).ok()?;
        let value = value.get("function").filter(|function| function.is_object()).unwrap_or(&value);
        let name = value.get("name")?.as_str()?;
        if !self.known.iter().any(|known| known == name) {
            return None;
        }
        let arguments = match value.get("arguments").or_else(|| value.get("parameters")) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "{}".to_owned(),
        };
        Some((name.to_owned(), arguments))
    }
}

fn push_text(found: &mut Vec<Found>, text: String) {
    if !text.is_empty() {
        found.push(Found::Text(text));
    }
}

/// One past the brace that closes the first one.
fn object_end(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and calls of an answer cut into pieces of `size` characters.
    fn read(mut calls: Calls, answer: &str, size: usize) -> (String, Vec<(String, String)>) {
        let letters: Vec<char> = answer.chars().collect();
        let mut found = Vec::new();
        for piece in letters.chunks(size) {
            found.extend(calls.push(&piece.iter().collect::<String>()));
        }
        found.extend(calls.finish());
        let (mut text, mut list) = (String::new(), Vec::<(String, String)>::new());
        for item in found {
            match item {
                Found::Text(more) => text.push_str(&more),
                Found::Call { index, name, arguments } => {
                    assert_eq!(index as usize, list.len());
                    list.push((name, arguments));
                }
                Found::Arguments { index, arguments } => list[index as usize].1.push_str(&arguments),
            }
        }
        (text, list)
    }

    fn free(answer: &str) -> (String, Vec<(String, String)>) {
        let known = || Calls::free(vec!["f".into(), "g".into()]);
        let whole = read(known(), answer, answer.len().max(1));
        for size in 1..8 {
            assert_eq!(read(known(), answer, size), whole, "{size}");
        }
        whole
    }

    fn call(name: &str, arguments: &str) -> (String, String) {
        (name.into(), arguments.into())
    }

    #[test]
    fn calls_between_tags_are_found() {
        let (text, calls) = free(
            "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\"}}\n</tool_call>\n<tool_call>{\"name\":\"g\"}</tool_call>",
        );
        assert_eq!(text, "Let me see.\n");
        assert_eq!(calls, [call("f", "{\"a\":\"}\"}"), call("g", "{}")]);
        let (_, calls) = free("<tool_call>{\"name\": \"f\", \"parameters\": {}}");
        assert_eq!(calls, [call("f", "{}")]);
    }

    #[test]
    fn a_bare_object_that_names_a_tool_is_a_call() {
        assert_eq!(free(" {\"name\": \"f\", \"arguments\": {\"x\": 1}}").1, [call("f", "{\"x\":1}")]);
    }

    #[test]
    fn what_is_no_call_stays_as_it_was() {
        for text in [
            "{\"name\": \"unknown\"}",
            "{ broken",
            "a < b <tool",
            "<tool_call>nonsense</tool_call> after",
            "  plain",
            "{}{}",
        ] {
            assert_eq!(free(text), (text.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn forced_arguments_stream_without_the_brace_around_them() {
        let answer = r#"{"name": "f \" x", "arguments": {"city": "Zürich", "n": {"m": 1}}}"#;
        for size in 1..10 {
            let (text, calls) = read(Calls::forced(), answer, size);
            assert_eq!(
                (text.as_str(), calls),
                ("", vec![call("f \" x", r#"{"city": "Zürich", "n": {"m": 1}}"#)])
            );
        }
    }
}
