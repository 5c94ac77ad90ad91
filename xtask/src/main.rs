//! House rules as tests, and the files that are generated.
//!
//! What it is: `cargo xtask tidy` reads the tree and the manifests and prints every breach of a house rule with the way
//! to mend it; `cargo xtask generate` writes the reference files that the program prints; `cargo test -p xtask` is tidy.
//!
//! What it promises: a few seconds, no network, nothing compiled but itself.
//!
//! What it refuses to know: what the code does. Whatever the compiler or clippy can check is left to them.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool speaks through its output"
)]

mod exceptions;
mod rules;
mod rust;
mod tree;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use tree::Tree;

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The rule's name, as in `exceptions.toml`.
    pub(crate) rule: &'static str,
    /// What breaks it: a file, `file::function`, or a crate.
    pub(crate) place: String,
    /// What is wrong.
    pub(crate) message: String,
    /// How to mend it.
    pub(crate) mend: String,
}

impl Finding {
    pub(crate) fn new(
        rule: &'static str,
        place: impl Into<String>,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { rule, place: place.into(), message: message.into(), mend: mend.into() }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = root();
    match words.as_slice() {
        ["tidy", rest @ ..] => tidy(&root, binary(rest)),
        ["generate", rest @ ..] => match binary(rest).or_else(|| built(&root)) {
            Some(binary) => generate(&root, &binary),
            None => fail("there is no built program: run `cargo build -p penstock`, or give --bin FILE"),
        },
        _ => fail(
            "usage: cargo xtask tidy [--bin FILE]       check the house rules; with a program also that generated files are fresh\n\
             \x20      cargo xtask generate [--bin FILE]   write docs/reference/config.schema.json and openapi.json",
        ),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The built program, when the caller names one: only then generated files can be compared.
#[expect(
    clippy::disallowed_methods,
    reason = "a tool of the build, not the product: it has no configuration"
)]
fn binary(args: &[&str]) -> Option<PathBuf> {
    match args {
        ["--bin", file] => Some(PathBuf::from(file)),
        _ => env::var("PENSTOCK_BIN").ok().filter(|path| !path.is_empty()).map(PathBuf::from),
    }
}

/// The newest program in the target folder.
fn built(root: &Path) -> Option<PathBuf> {
    let profiles =
        ["debug", "release", "dist"].map(|profile| root.join("target").join(profile).join("penstock"));
    profiles
        .into_iter()
        .filter(|p| p.is_file())
        .max_by_key(|p| fs::metadata(p).and_then(|m| m.modified()).ok())
}

fn tidy(root: &Path, binary: Option<PathBuf>) -> ExitCode {
    let findings = findings(root, binary.as_deref());
    for Finding { rule, place, message, mend } in &findings {
        println!("{place}: {message}\n    mend: {mend} [{rule}]");
    }
    if binary.is_none() {
        println!("(generated files were not compared: give --bin FILE or PENSTOCK_BIN)");
    }
    if findings.is_empty() {
        println!("tidy");
        ExitCode::SUCCESS
    } else {
        println!("{} to mend", findings.len());
        ExitCode::FAILURE
    }
}

/// Every breach that no exception covers, sorted.
fn findings(root: &Path, binary: Option<&Path>) -> Vec<Finding> {
    let tree = Tree::read(root);
    let mut found = rules::all(&tree, binary);
    let text = fs::read_to_string(root.join("xtask/exceptions.toml")).unwrap_or_default();
    found = exceptions::apply(found, &text, &penstock_domain::calendar::date(std::time::SystemTime::now()));
    found.sort();
    found
}

fn generate(root: &Path, binary: &Path) -> ExitCode {
    for (file, args) in rules::GENERATED {
        let path = root.join(file);
        let text = match output(binary, args) {
            Ok(text) => text,
            Err(why) => return fail(&why),
        };
        let folder = path.parent().map(fs::create_dir_all).transpose();
        if let Err(error) = folder.and_then(|_| fs::write(&path, text)) {
            return fail(&format!("{file} cannot be written: {error}"));
        }
        println!("wrote {file}");
    }
    ExitCode::SUCCESS
}

/// What a program prints.
pub(crate) fn output(binary: &Path, args: &[&str]) -> Result<String, String> {
    let named = || format!("{} {}", binary.display(), args.join(" "));
    let run = Command::new(binary).args(args).output().map_err(|error| format!("{}: {error}", named()))?;
    if !run.status.success() {
        return Err(format!("{} failed: {}", named(), String::from_utf8_lossy(&run.stderr).trim()));
    }
    String::from_utf8(run.stdout).map_err(|_| format!("{} printed something that is not UTF-8", named()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        let found = findings(&root(), binary(&[]).as_deref());
        let lines: Vec<String> = found
            .iter()
            .map(|f| format!("{}: {}\n    mend: {} [{}]", f.place, f.message, f.mend, f.rule))
            .collect();
        assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
    }
}
