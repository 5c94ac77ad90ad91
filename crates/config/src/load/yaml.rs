//! Text to a tree in which every node knows its place. The one place that knows the YAML parser.
//!
//! Hostile text costs a bounded amount: depth, number of nodes (what aliases repeat counts again) and length of keys are
//! limited, and reading stops at the first breach.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::Number;

use super::places::Spot;
use crate::Problem;

/// Deepest nesting of lists and maps.
const MAX_DEPTH: usize = 32;
/// Most nodes in a file, repetitions by aliases included.
const MAX_NODES: usize = 20_000;
/// Longest key, in bytes.
const MAX_KEY: usize = 256;

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where the value begins.
    pub(super) spot: Spot,
    /// The last line that it covers.
    pub(super) last_line: u32,
    /// What it is.
    pub(super) data: Data,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A finite number, and how it was written.
    Number(Number, String),
    /// Everything else that is one value.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key stands.
    pub(super) spot: Spot,
    /// The value.
    pub(super) node: Node,
}

/// A problem whose place is known.
pub(super) type Located = Box<(Problem, Spot)>;

/// Reads the one document of a file; an empty file is an empty mapping. Duplicate keys are reported beside the tree, with
/// the first of them kept.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Located>), Located> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        nodes: 0,
        duplicates: Vec::new(),
    };
    let node = reader.document()?;
    Ok((node, reader.duplicates))
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    duplicates: Vec<Located>,
}

fn spot(span: Span) -> Spot {
    let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let width = if span.start.line() == span.end.line() {
        span.end.col().saturating_sub(span.start.col()).max(1)
    } else {
        usize::MAX
    };
    Spot {
        line: clamp(span.start.line()).max(1),
        column: clamp(span.start.col()).saturating_add(1),
        width: clamp(width),
    }
}

fn node(span: Span, data: Data) -> Node {
    let last = u32::try_from(span.end.line()).unwrap_or(u32::MAX);
    Node { spot: spot(span), last_line: last, data }
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Located> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let mark = *error.marker();
                // The parser guards its own stack before our bound is met.
                if error.info().contains("recursion limit") {
                    return Err(Box::new((Problem::error("", "nested too deeply"), spot(Span::empty(mark)))));
                }
                let problem = Problem::error("", format!("this is not valid YAML: {}", error.info()))
                    .with_hint(
                        "look for a missing quote, a missing space after `:`, a tab, or a wrong indentation",
                    );
                Err(Box::new((problem, spot(Span::empty(mark)))))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Node, Located> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    let problem = Problem::error("", "expected one YAML document, found a second one")
                        .with_hint("remove the `---` line between them");
                    return Err(Box::new((problem, spot(span))));
                }
                Event::DocumentStart(_) => {
                    let (event, span) = self.next()?;
                    root = Some(self.value(event, span, 0)?);
                }
                _ => {}
            }
        }
        Ok(match root {
            Some(Node { data: Data::Null, .. }) | None => node(Span::default(), Data::Map(Vec::new())),
            Some(node) => node,
        })
    }

    fn count(&mut self, more: usize, at: Span) -> Result<(), Located> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        Err(Box::new((
            Problem::error("", format!("the file has more than {MAX_NODES} values, aliases included")),
            spot(at),
        )))
    }

    fn value(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Located> {
        self.count(1, span)?;
        if depth > MAX_DEPTH {
            return Err(Box::new((
                Problem::error("", format!("nested more than {MAX_DEPTH} levels deep")),
                spot(span),
            )));
        }
        let (anchor, node) = match event {
            Event::Alias(id) => {
                // An anchor is known only once its value is complete, so a value cannot hold itself.
                let Some(known) = self.anchors.get(&id).cloned() else {
                    return Err(Box::new((
                        Problem::error("", "this alias stands inside the value that it repeats"),
                        spot(span),
                    )));
                };
                self.count(size(&known), span)?;
                if depth + height(&known) > MAX_DEPTH {
                    return Err(Box::new((
                        Problem::error("", format!("nested more than {MAX_DEPTH} levels deep")),
                        spot(span),
                    )));
                }
                (0, Node { spot: spot(span), ..known })
            }
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, node(span, scalar(&text, style, tag.as_deref(), span)?))
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), span)?;
                let (items, end) = self.list(depth)?;
                (anchor, Node { last_line: end, ..node(span, Data::List(items)) })
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), span)?;
                let (entries, end) = self.map(depth)?;
                (anchor, Node { last_line: end, ..node(span, Data::Map(entries)) })
            }
            _ => (0, node(span, Data::Null)),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<(Vec<Node>, u32), Located> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Ok((items, spot(span).line));
            }
            items.push(self.value(event, span, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<(Vec<Entry>, u32), Located> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = BTreeSet::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd | Event::StreamEnd => return Ok((entries, spot(span).line)),
                Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<" => {
                    let problem = Problem::error("", "merge keys (`<<`) are not supported")
                        .with_hint("repeat the settings, or use an alias for a whole value");
                    return Err(Box::new((problem, spot(span))));
                }
                Event::Scalar(text, _, 0, None) if text.len() <= MAX_KEY => text.into_owned(),
                Event::Scalar(_, _, 0, None) => {
                    return Err(Box::new((
                        Problem::error("", format!("a key is longer than {MAX_KEY} bytes")),
                        spot(span),
                    )));
                }
                _ => return Err(Box::new((Problem::error("", "expected a plain word as key"), spot(span)))),
            };
            let (event, value_span) = self.next()?;
            let node = self.value(event, value_span, depth + 1)?;
            if !seen.insert(key.clone()) {
                let first = entries.iter().find(|e| e.key == key).map_or(0, |e| e.spot.line);
                let problem = Problem::error("", format!("`{key}` stands here a second time"))
                    .with_cause(format!("it already has a value in line {first}"))
                    .with_hint("remove one of them");
                self.duplicates.push(Box::new((problem, spot(span))));
                continue;
            }
            entries.push(Entry { key, spot: spot(span), node });
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.data {
        Data::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Data::Map(entries) => 1 + entries.iter().map(|e| size(&e.node)).sum::<usize>(),
        _ => 1,
    }
}

fn height(node: &Node) -> usize {
    match &node.data {
        Data::List(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Data::Map(entries) => 1 + entries.iter().map(|e| height(&e.node)).max().unwrap_or(0),
        _ => 0,
    }
}

fn refuse_tag(tag: Option<&Tag>, span: Span) -> Result<(), Located> {
    match tag {
        None => Ok(()),
        Some(_) => Err(Box::new((Problem::error("", "YAML tags (`!…`) have no meaning here"), spot(span)))),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Data, Located> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
            return Ok(Data::Text(text.to_owned()));
        }
        tag => refuse_tag(tag, span)?,
    }
    Ok(if style == ScalarStyle::Plain { plain(text) } else { Data::Text(text.to_owned()) })
}

/// What an unquoted word means: the core schema of YAML 1.2, section 10.3. `yes` and `on` are text.
pub(super) fn plain(text: &str) -> Data {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Data::Null,
        "true" | "True" | "TRUE" => return Data::Bool(true),
        "false" | "False" | "FALSE" => return Data::Bool(false),
        _ => {}
    }
    let number =
        match text.strip_prefix("0x").map(|t| (t, 16)).or_else(|| text.strip_prefix("0o").map(|t| (t, 8))) {
            Some((digits, radix)) if digits.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                u64::from_str_radix(digits, radix).ok().map(Number::from)
            }
            _ => decimal(text),
        };
    match number {
        Some(number) => Data::Number(number, text.to_owned()),
        None => Data::Text(text.to_owned()),
    }
}

fn decimal(text: &str) -> Option<Number> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    // Rust's float parser also takes `inf`, `nan` and `infinity`; YAML's numbers begin with a digit or a point.
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Ok(n) = unsigned.parse::<u64>() {
        return Some(n.into());
    }
    if let Ok(n) = unsigned.parse::<i64>() {
        return Some(n.into());
    }
    unsigned.parse::<f64>().ok().and_then(Number::from_f64)
}
