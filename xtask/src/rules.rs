//! The house rules. Each module looks at one thing and says how to mend what it finds.

mod docs;
mod knows;
mod sizes;
mod words;

use std::fs;
use std::path::Path;

use crate::tree::Tree;
use crate::{Finding, output};

/// The files that the program prints, and the words that make it print them.
pub(crate) const GENERATED: &[(&str, &[&str])] = &[
    ("docs/reference/config.schema.json", &["config", "schema"]),
    ("docs/reference/openapi.json", &["openapi"]),
];

/// Every breach of every rule.
pub(crate) fn all(tree: &Tree, binary: Option<&Path>) -> Vec<Finding> {
    let mut found = Vec::new();
    knows::check(tree, &mut found);
    sizes::check(tree, &mut found);
    words::check(tree, &mut found);
    docs::check(tree, &mut found);
    generated(tree, binary, &mut found);
    found
}

fn generated(tree: &Tree, binary: Option<&Path>, found: &mut Vec<Finding>) {
    const MEND: &str =
        "cargo build -p penstock && cargo xtask generate, then look at the difference and commit it";
    for (file, args) in GENERATED {
        let Ok(committed) = fs::read_to_string(tree.root.join(file)) else {
            found.push(Finding::new("generated", *file, "is missing", MEND));
            continue;
        };
        match binary.map(|binary| output(binary, args)) {
            None => {}
            Some(Ok(printed)) if printed == committed => {}
            Some(Ok(_)) => {
                found.push(Finding::new("generated", *file, "differs from what the program prints", MEND))
            }
            Some(Err(why)) => found.push(Finding::new("generated", *file, why, MEND)),
        }
    }
}
