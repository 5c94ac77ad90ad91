//! What must stand in files and what must not.

use crate::Finding;
use crate::rust::blank;
use crate::tree::{File, Tree};

/// Words that mark unfinished work. Split so that this file does not hold them.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Folders of somebody's machine.
const MACHINE: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

pub(super) fn check(tree: &Tree, found: &mut Vec<Finding>) {
    heads(tree, found);
    for file in &tree.files {
        text(file, found);
    }
    for file in tree.rust() {
        code(file, found);
    }
}

/// What clippy's ban of `std::env::var` leaves open: its siblings, in the product's own code.
fn environment(file: &File, line: &str, place: &str, found: &mut Vec<Finding>) {
    let product = file.path.starts_with("crates/") && file.path.contains("/src/");
    let siblings = ["env::var_os(", "env::vars(", "env::vars_os(", "env::set_var("];
    if product && !file.path.starts_with("crates/config/") && siblings.iter().any(|s| line.contains(s)) {
        found.push(Finding::new(
            "environment",
            place,
            "reads the environment",
            "ask penstock_config::Environment, so that the setting is documented and testable",
        ));
    }
}

/// The folder of each crate has a root file that says what the crate is.
fn heads(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree.rust() {
        let root = file.path.ends_with("/src/lib.rs") || file.path.ends_with("/src/main.rs");
        let lines = file.text.lines().take_while(|line| line.starts_with("//!")).count();
        if root && lines < 3 {
            found.push(Finding::new(
                "crate-head",
                &file.path,
                "does not say what the crate is",
                "open it with `//!`: what it is, what it promises, what it refuses to know",
            ));
        }
    }
}

fn text(file: &File, found: &mut Vec<Finding>) {
    // Lock files are written by tools, recorded data by others.
    let foreign =
        file.path.ends_with(".lock") || file.path.contains("lock.json") || file.path.contains("fixtures/");
    if foreign {
        return;
    }
    for (number, line) in file.text.lines().enumerate() {
        let place = || format!("{}:{}", file.path, number + 1);
        if let Some(word) = UNFINISHED.iter().find(|word| is_word(line, word)) {
            found.push(Finding::new(
                "unfinished",
                place(),
                format!("says {word}"),
                "do it now, or open an issue and leave the code whole",
            ));
        }
        if let Some(path) = MACHINE.iter().find(|path| begins_path(line, path)) {
            found.push(Finding::new(
                "machine-path",
                place(),
                format!("names a folder of one machine (`{path}…`)"),
                "use a path relative to the repository, or ask the environment",
            ));
        }
    }
}

/// The word on its own: not inside a longer one.
fn is_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !inside(before) && !inside(after)
    })
}

/// An absolute path: what stands before its first slash is no part of a longer path or address.
fn begins_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~}$/*)".contains(c))
    })
}

fn code(file: &File, found: &mut Vec<Finding>) {
    let blanked = blank(&file.text);
    for (number, line) in blanked.lines().enumerate() {
        let place = format!("{}:{}", file.path, number + 1);
        if line.contains("#[allow(") || line.contains("#![allow(") {
            found.push(Finding::new(
                "allow",
                &place,
                "silences a lint without proof",
                "write #[expect(LINT, reason = \"…\")]: it says why, and it speaks up when it is no longer needed",
            ));
        }
        environment(file, line, &place, found);
        if line.contains("unimplemented!") || line.contains(concat!("to", "do!")) {
            found.push(Finding::new("unfinished", place, "is a stub", "write it, or leave the ability out"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text_of_file: &str) -> Vec<&'static str> {
        let file = File { path: path.to_owned(), text: text_of_file.to_owned() };
        let mut found = Vec::new();
        text(&file, &mut found);
        code(&file, &mut found);
        found.iter().map(|f| f.rule).collect()
    }

    #[test]
    fn unfinished_words_and_machine_paths_are_found_only_on_their_own() {
        assert_eq!(rules("a.md", concat!("see TO", "DO below")), ["unfinished"]);
        assert_eq!(rules("a.md", concat!("MATOTO", "DOS")), [""; 0]);
        assert_eq!(rules("a.md", concat!("cd /ho", "me/jane/x")), ["machine-path"]);
        assert_eq!(rules("a.md", concat!("https://example.com/ho", "me/x and $R/wo", "rk/")), [""; 0]);
    }

    #[test]
    fn only_config_reads_the_environment() {
        assert_eq!(rules("crates/edge/src/a.rs", "let a = env::var_os(\"A\");\n"), ["environment"]);
        assert_eq!(rules("crates/edge/build.rs", "let a = env::var_os(\"A\");\n"), [""; 0]);
    }

    #[test]
    fn a_silenced_lint_in_a_comment_is_no_silenced_lint() {
        assert_eq!(rules("a.rs", "#[allow(dead_code)]\nfn a() {}\n"), ["allow"]);
        assert_eq!(rules("a.rs", "// never #[allow(dead_code)]\nlet a = \"#[allow(x)]\";\n"), [""; 0]);
    }
}
