//! Pages that must exist, and links that must lead somewhere.

use std::collections::BTreeSet;

use penstock_domain::Code;

use crate::Finding;
use crate::tree::{File, Tree};

pub(super) fn check(tree: &Tree, found: &mut Vec<Finding>) {
    error_pages(tree, found);
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        links(tree, file, found);
    }
}

fn error_pages(tree: &Tree, found: &mut Vec<Finding>) {
    for code in Code::ALL {
        let path = format!("docs/errors/{}.md", code.name());
        let Some(page) = tree.file(&path) else {
            let mend = format!("write the page; its first paragraph is \"{}\"", code.meaning());
            found.push(Finding::new("error-page", path, "is missing", mend));
            continue;
        };
        let said = first_paragraph(&page.text);
        if said != code.meaning() {
            found.push(Finding::new(
                "error-page",
                path,
                format!("begins with \"{said}\""),
                format!(
                    "its first paragraph must be the code's doc comment in crates/domain: \"{}\"",
                    code.meaning()
                ),
            ));
        }
    }
    let known: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    for file in &tree.files {
        let name = file.path.strip_prefix("docs/errors/").and_then(|rest| rest.strip_suffix(".md"));
        if let Some(name) = name.filter(|name| *name != "README" && !known.contains(name)) {
            found.push(Finding::new(
                "error-page",
                &file.path,
                format!("there is no error code `{name}`"),
                "remove the page, or add the code to crates/domain/src/error.rs",
            ));
        }
    }
}

/// The first lines that are neither a heading nor empty, as one line.
fn first_paragraph(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.trim().is_empty() || line.starts_with('#'));
    lines.take_while(|line| !line.trim().is_empty()).map(str::trim).collect::<Vec<_>>().join(" ")
}

fn links(tree: &Tree, file: &File, found: &mut Vec<Finding>) {
    let mut fenced = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for target in targets(line) {
            if let Some(why) = broken(tree, file, target) {
                found.push(Finding::new(
                    "link",
                    format!("{}:{}", file.path, number + 1),
                    format!("the link `{target}` leads nowhere: {why}"),
                    "mend the path; links are relative to the page",
                ));
            }
        }
    }
}

/// What stands between `](` and `)`, outside of code spans.
fn targets(line: &str) -> Vec<&str> {
    let code: Vec<bool> = line
        .chars()
        .scan(false, |inside, c| {
            *inside ^= c == '`';
            Some(*inside)
        })
        .collect();
    line.match_indices("](")
        .filter(|(at, _)| !code.get(line[..*at].chars().count()).copied().unwrap_or(false))
        .filter_map(|(at, _)| line[at + 2..].split([')', ' ']).next())
        .collect()
}

fn broken(tree: &Tree, file: &File, target: &str) -> Option<String> {
    let outside = ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme));
    if outside || target.is_empty() {
        return target.is_empty().then(|| "it is empty".to_owned());
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { file.path.clone() } else { join(&file.path, path)? };
    if !tree.root.join(&path).exists() {
        return Some(format!("there is no {path}"));
    }
    let anchor = anchor?;
    let page = tree.file(&path)?;
    let headings: BTreeSet<String> = page.text.lines().filter(|l| l.starts_with('#')).map(slug).collect();
    (path.ends_with(".md") && !headings.contains(anchor)).then(|| format!("{path} has no heading `{anchor}`"))
}

/// A relative path from a page, without `.` and `..`.
fn join(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { page.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// A heading as the anchor that forges make of it: lower case, spaces to hyphens, everything else that is no word gone.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let keep = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == ' ';
    text.chars().filter(|c| keep(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let files =
            files.iter().map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() });
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf();
        Tree { root, files: files.collect(), metadata: serde_json::Value::Null }
    }

    #[test]
    fn a_link_to_nothing_is_found_and_a_link_in_code_is_none() {
        let page =
            "[a](src/main.rs) [b](missing.md) `[c](no.md)`\n```\n[d](no.md)\n```\n[e](https://example.com)\n";
        let tree = tree(&[("page.md", page)]);
        let mut found = Vec::new();
        links(&tree, &tree.files[0], &mut found);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].message.contains("missing.md"));
    }

    #[test]
    fn a_page_whose_first_paragraph_differs_is_found() {
        let tree = tree(&[("docs/errors/conflict.md", "# conflict\n\nSomething else.\n")]);
        let mut found = Vec::new();
        error_pages(&tree, &mut found);
        assert!(
            found
                .iter()
                .any(|f| f.place == "docs/errors/conflict.md" && f.message.contains("Something else."))
        );
        assert_eq!(found.len(), Code::ALL.len(), "every other page is missing here");
    }
}
