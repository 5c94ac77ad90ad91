//! As much of Rust as counting needs: code without comments and texts, functions and traits by their braces.

/// A function or trait and its extent in lines, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its name.
    pub(crate) name: String,
    /// Line of the keyword.
    pub(crate) first: usize,
    /// Line of the closing brace.
    pub(crate) last: usize,
    /// The text between the braces, comments and texts blanked.
    pub(crate) body: String,
}

/// The source with comments, strings and character literals blanked; lines and columns stay.
pub(crate) fn blank(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        if end > at {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Where the comment or text that begins here ends; `at` itself when none begins.
fn token_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    let wordy = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next == Some('/') => find(chars, at, |c| c == '\n'),
        '/' if next == Some('*') => block_end(chars, at),
        '"' => string_end(chars, at + 1),
        'r' if !wordy => raw_end(chars, at + 1).unwrap_or(at),
        'b' | 'c' if !wordy && next == Some('r') => raw_end(chars, at + 2).unwrap_or(at),
        '\'' => char_end(chars, at),
        _ => at,
    }
}

fn find(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&i| wanted(chars[i])).unwrap_or(chars.len())
}

fn block_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                i += 1;
                continue;
            }
        }
        i += 2;
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut i: usize) -> usize {
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// After `r`: hashes and a quote, or this is no raw string.
fn raw_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let mut i = at + hashes + 1;
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return Some(i + 1 + hashes);
        }
        i += 1;
    }
    Some(chars.len())
}

/// A character literal, or `at` for a lifetime.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => find(chars, at + 3, |c| c == '\'') + 1,
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
    .min(chars.len())
}

/// Every `fn` or `trait` (the keyword) that has a body.
pub(crate) fn items(blanked: &str, keyword: &str) -> Vec<Item> {
    let bytes = blanked.as_bytes();
    let mut found = Vec::new();
    for (at, _) in blanked.match_indices(keyword) {
        let wordy = |i: usize| bytes.get(i).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let after = at + keyword.len();
        if (at > 0 && wordy(at - 1)) || bytes.get(after) != Some(&b' ') {
            continue;
        }
        let name: String =
            blanked[after + 1..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some((open, close)) = braces(bytes, after).filter(|_| !name.is_empty()) else { continue };
        let line = |i: usize| bytes[..i].iter().filter(|b| **b == b'\n').count() + 1;
        found.push(Item {
            name,
            first: line(at),
            last: line(close),
            body: blanked[open + 1..close].to_owned(),
        });
    }
    found
}

/// The braces of the item that begins here; none for a declaration without a body.
fn braces(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut around = 0i32;
    let mut open = None;
    for (i, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => around += 1,
            b')' | b']' => around -= 1,
            b';' if around == 0 => return None,
            b'{' if around <= 0 => {
                open = Some(i);
                break;
            }
            _ => {}
        }
    }
    let open = open?;
    let mut depth = 0i32;
    for (i, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some((open, i));
        }
    }
    None
}

/// How many functions stand directly in a trait's body.
pub(crate) fn methods(body: &str) -> usize {
    let mut depth = 0i32;
    let mut count = 0;
    let mut top = String::new();
    for c in body.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            c if depth == 0 => top.push(c),
            _ => {}
        }
    }
    for (at, _) in top.match_indices("fn ") {
        let before = top[..at].chars().next_back();
        count += usize::from(!before.is_some_and(|c| c.is_alphanumeric() || c == '_'));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_in_texts_and_comments_do_not_count() {
        let source = "fn a<'x>(s: &'x str) -> char {\n  // }\n  let b = \"}\\\"}\"; let r = r#\"}\"#; /* } /* } */ */\n  '}'\n}\nfn b();\nfn c() {}\n";
        let found = items(&blank(source), "fn");
        let lines: Vec<(String, usize, usize)> =
            found.into_iter().map(|i| (i.name, i.first, i.last)).collect();
        assert_eq!(lines, [("a".to_owned(), 1, 5), ("c".to_owned(), 7, 7)]);
    }

    #[test]
    fn methods_with_and_without_body_count_and_inner_functions_do_not() {
        let source = "pub trait T {\n fn a(&self);\n fn b(&self) { fn inner() {} }\n type X;\n}\n";
        let found = items(&blank(source), "trait");
        assert_eq!(methods(&found[0].body), 2);
    }
}
