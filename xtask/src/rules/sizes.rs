//! How large files, functions and ports may get.

use crate::Finding;
use crate::rust::{blank, items, methods};
use crate::tree::Tree;

const FILE: usize = 600;
const FUNCTION: usize = 80;
const PORT: usize = 5;

pub(super) fn check(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree.rust() {
        let lines = file.text.lines().count();
        if lines > FILE {
            found.push(Finding::new(
                "file-length",
                &file.path,
                format!("has {lines} lines, {FILE} are allowed"),
                "split it by what it does; tests of more than 150 lines go to a tests.rs beside it",
            ));
        }
        let blanked = blank(&file.text);
        for item in items(&blanked, "fn") {
            let lines = item.last + 1 - item.first;
            if lines > FUNCTION {
                found.push(Finding::new(
                    "function-length",
                    format!("{}::{}", file.path, item.name),
                    format!("has {lines} lines, {FUNCTION} are allowed"),
                    "give its steps names of their own; a table may have a dated exception",
                ));
            }
        }
        if file.path.contains("/tests/") {
            continue;
        }
        for item in items(&blanked, "trait") {
            let count = methods(&item.body);
            if count > PORT {
                found.push(Finding::new(
                    "port-size",
                    format!("{}::{}", file.path, item.name),
                    format!("has {count} methods, {PORT} are allowed"),
                    "split it by ability, so that nobody writes stubs for what they cannot do",
                ));
            }
        }
    }
}
