//! Learns the estimator's weights from texts, against `o200k_base`, and says how far off it is.
//!
//! `cargo run --release -p penstock-tokenizer --example fit -- FOLDER… [--apart FOLDER…] > crates/tokenizer/src/weights.rs`
//!
//! Texts behind `--apart` are not learned from: the error on them is told too.
//!
//! Texts are cut into pieces of about 600 bytes: lines of files, and the strings inside JSON. Least squares relative to
//! the count, weights not below zero, drawn a little towards a prior; by coordinate descent (Friedman, Hastie and
//! Tibshirani, "Regularization Paths for Generalized Linear Models via Coordinate Descent", 2010). Every tenth piece is
//! kept out and used for the error alone.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its terminal")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use penstock_tokenizer::Vocabulary;
use penstock_tokenizer::learning::{CLASSES, STATES, UNIT, walk};

/// Bytes of a piece.
const PIECE: usize = 600;
/// How strongly weights are drawn to the prior.
const RIDGE: f64 = 0.02;
const SWEEPS: usize = 300;

struct Piece {
    tokens: f64,
    steps: Vec<(usize, f64)>,
}

fn main() {
    let (mut texts, mut apart) = (BTreeSet::new(), BTreeSet::new());
    let mut to = &mut texts;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--apart" => to = &mut apart,
            folder => read(Path::new(folder), to),
        }
    }
    apart.retain(|text| !texts.contains(text));
    let pieces: Vec<Piece> = texts.iter().map(|text| piece(text)).collect();
    let (kept, learned): (Vec<_>, Vec<_>) =
        pieces.into_iter().enumerate().partition(|(index, _)| index % 10 == 0);
    let learned: Vec<Piece> = learned.into_iter().map(|(_, piece)| piece).collect();
    let kept: Vec<Piece> = kept.into_iter().map(|(_, piece)| piece).collect();
    eprintln!("{} pieces to learn from, {} kept out", learned.len(), kept.len());
    let weights = fit(&learned);
    let report = error(&kept, &weights);
    if !apart.is_empty() {
        let apart: Vec<Piece> = apart.iter().map(|text| piece(text)).collect();
        eprintln!("{} pieces apart: {}", apart.len(), error(&apart, &weights));
    }
    println!("//! Written by `examples/fit.rs`; `o200k_base` is the measure. Do not edit.\n");
    println!("use crate::estimate::{{CLASSES, STATES}};\n");
    println!("/// How far off the estimate was on pieces that were kept out: {report}.");
    println!("/// What a byte of each class adds in each state, in 1024ths of a token.");
    println!("#[rustfmt::skip]");
    println!("pub(crate) const WEIGHTS: [[u16; CLASSES]; STATES] = [");
    for row in weights.chunks(CLASSES) {
        let row: Vec<String> = row
            .iter()
            .map(|weight| format!("{}", (weight * UNIT as f64).round().min(f64::from(u16::MAX))))
            .collect();
        println!("    [{}],", row.join(", "));
    }
    println!("];");
}

fn read(path: &Path, texts: &mut BTreeSet<String>) {
    if path.is_dir() {
        let Ok(entries) = std::fs::read_dir(path) else { return };
        entries.flatten().for_each(|entry| read(&entry.path(), texts));
        return;
    }
    let known = ["json", "jsonl", "csv", "toml", "md", "txt", "rs", "py", "ts", "yaml"];
    if !path.extension().is_some_and(|end| known.iter().any(|known| *known == end)) {
        return;
    }
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let mut gathered = String::new();
    for line in text.lines() {
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) => strings(&value, &mut gathered, texts),
            Err(_) => add(line, &mut gathered, texts),
        }
    }
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
        strings(&value, &mut gathered, texts);
    }
}

fn strings(value: &serde_json::Value, gathered: &mut String, texts: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::String(text) => add(text, gathered, texts),
        serde_json::Value::Array(all) => all.iter().for_each(|value| strings(value, gathered, texts)),
        serde_json::Value::Object(all) => all.values().for_each(|value| strings(value, gathered, texts)),
        _ => {}
    }
}

fn add(text: &str, gathered: &mut String, texts: &mut BTreeSet<String>) {
    gathered.push_str(text);
    gathered.push('\n');
    if gathered.len() >= PIECE {
        let mut rest = gathered.as_str();
        while rest.len() > PIECE {
            let cut = (PIECE..).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
            texts.insert(rest[..cut].to_owned());
            rest = &rest[cut..];
        }
        gathered.clear();
    }
}

fn piece(text: &str) -> Piece {
    let mut counts: BTreeMap<usize, f64> = BTreeMap::new();
    walk(text.as_bytes(), |state, class| *counts.entry(state * CLASSES + class).or_default() += 1.0);
    Piece { tokens: Vocabulary::O200k.count(text) as f64, steps: counts.into_iter().collect() }
}

/// What a byte adds when no text ever showed it: by class, for the first of a run and for the others.
fn prior(state: usize, class: usize) -> f64 {
    const FIRST: [f64; CLASSES] =
        [0.6, 0.9, 1.0, 0.2, 0.8, 0.8, 0.9, 0.9, 0.5, 0.8, 0.8, 0.9, 1.0, 0.9, 0.9, 0.9, 0.9, 1.8];
    const LATER: [f64; CLASSES] =
        [0.05, 0.35, 0.3, 0.05, 0.1, 0.1, 0.4, 0.5, 0.4, 0.25, 0.4, 0.5, 0.7, 0.6, 0.75, 0.65, 0.8, 1.5];
    // The steps of a run are those that a run of one class makes.
    let mut run = Vec::new();
    let sample: [&str; CLASSES] =
        ["a", "A", "1", " ", "\n", "\t", ".", "{", "é", "д", "ع", "ก", "—", "か", "中", "한", "，", "🙂"];
    walk(sample[class].repeat(16).as_bytes(), |state, _| run.push(state));
    if run[1..].contains(&state) { LATER[class] } else { FIRST[class] }
}

fn fit(pieces: &[Piece]) -> Vec<f64> {
    let size = STATES * CLASSES;
    let priors: Vec<f64> = (0..size).map(|index| prior(index / CLASSES, index % CLASSES)).collect();
    let mut weights = priors.clone();
    let mut columns: Vec<Vec<(usize, f64)>> = vec![Vec::new(); size];
    for (index, piece) in pieces.iter().enumerate() {
        // Relative to the count, so that dense text does not outweigh plain text.
        piece.steps.iter().for_each(|(step, times)| columns[*step].push((index, times / piece.tokens)));
    }
    let mut rest: Vec<f64> = pieces
        .iter()
        .map(|piece| {
            1.0 - piece.steps.iter().map(|(step, times)| times * weights[*step]).sum::<f64>() / piece.tokens
        })
        .collect();
    for _ in 0..SWEEPS {
        for (step, column) in columns.iter().enumerate().filter(|(_, column)| !column.is_empty()) {
            let square: f64 = column.iter().map(|(_, x)| x * x).sum();
            let along: f64 = column.iter().map(|(index, x)| x * rest[*index]).sum();
            let wanted = (along + square * weights[step] + RIDGE * priors[step]) / (square + RIDGE);
            let change = wanted.max(0.0) - weights[step];
            weights[step] += change;
            column.iter().for_each(|(index, x)| rest[*index] -= change * x);
        }
    }
    weights
}

fn error(pieces: &[Piece], weights: &[f64]) -> String {
    let estimate =
        |piece: &Piece| piece.steps.iter().map(|(step, times)| times * weights[*step]).sum::<f64>();
    let mut off: Vec<f64> =
        pieces.iter().map(|piece| (estimate(piece) - piece.tokens).abs() / piece.tokens).collect();
    off.sort_by(f64::total_cmp);
    let at = |share: f64| off[((off.len() - 1) as f64 * share) as usize] * 100.0;
    let mean = off.iter().sum::<f64>() / off.len() as f64 * 100.0;
    let all = pieces.iter().map(estimate).sum::<f64>() / pieces.iter().map(|piece| piece.tokens).sum::<f64>();
    format!(
        "mean {mean:.1} %, median {:.1} %, 95 % of them within {:.1} %; all together {:+.1} %",
        at(0.5),
        at(0.95),
        (all - 1.0) * 100.0
    )
}
