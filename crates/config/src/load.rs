//! From a file to a snapshot: parse, check against the schema, cross-check, give types.

mod check;
mod cross;
mod later;
mod places;
mod refs;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::model::File;
use crate::{Config, Environment, KindSchemas, Problem, Section, schema_of};
use check::{Checker, Rule};
pub(crate) use places::Places;
use places::Spot;

/// A configuration that was accepted.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The snapshot.
    pub config: Config,
    /// What somebody should look at.
    pub warnings: Vec<Problem>,
    /// Where it came from.
    pub source: Source,
}

/// Where a configuration came from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The file and every secret file that it refers to: what a [`crate::Watch`] looks at.
    pub files: Vec<PathBuf>,
    /// The effective settings with every secret hidden.
    shown: Value,
}

/// Most problems that are shown.
const MAX_SHOWN: usize = 100;

/// Reads and checks a file.
///
/// # Errors
/// Everything that is wrong with it and everything to warn of, in the order of the file; at least one is an error.
pub fn load(path: &Path, env: &dyn Environment, kinds: &KindSchemas) -> Result<Loaded, Vec<Problem>> {
    let text = env.read(path).map_err(|error| {
        let problem =
            Problem::error("", format!("the configuration file {} cannot be read: {error}", path.display()));
        vec![
            problem.with_hint(
                "give another one with --config FILE; `penstock up` writes one when there is none",
            ),
        ]
    })?;
    if text.len() as u64 > crate::environment::MAX_FILE {
        return Err(vec![Problem::error("", "the configuration file is larger than 1 MiB")]);
    }
    let (tree, duplicates) = yaml::parse(&text).map_err(|located| {
        let (problem, spot) = *located;
        let places = Places::new(path.to_owned(), places::guarded_lines(&text), BTreeMap::new());
        vec![places.at(problem, spot)]
    })?;

    let rules = schema_of::<File>();
    let base = path.parent().unwrap_or(Path::new(""));
    let mut checker = Checker::new(env, base, kinds);
    checker.spots.insert(String::new(), Spot { line: 1, column: 1, width: 1 });
    let checked = checker.visit(&tree, Rule { schema: &rules, root: &rules });
    let mut problems = std::mem::take(&mut checker.problems);
    problems.extend(cross::check(&checked.value, path, &checker));

    let Checker { spots, covers, hidden, secrets, files, .. } = checker;
    let lines = places::covered_lines(&text, &covers);
    let places = Places::new(path.to_owned(), lines, spots).hiding(hidden, secrets);
    // Errors first, so that no crowd of warnings hides them.
    problems.sort_by_key(|p| p.severity);
    let more = problems.len().saturating_sub(MAX_SHOWN);
    problems.truncate(MAX_SHOWN);
    let mut problems: Vec<Problem> = problems.into_iter().map(|p| places.locate(p)).collect();
    problems.extend(duplicates.into_iter().map(|located| places.at(located.0, located.1)));
    problems.sort_by(|a, b| a.place.cmp(&b.place));
    if more > 0 {
        problems.push(Problem::warning("", format!("{more} more problems are not shown")));
    }
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    let config = typed(&checked.value, &places)?;
    let mut all = vec![path.to_owned()];
    all.extend(files);
    let source = Source { path: path.to_owned(), files: all, shown: checked.shown };
    Ok(Loaded { config, warnings: problems, source })
}

/// The effective configuration: defaults filled in, references as they were written, every secret hidden.
pub fn show(loaded: &Loaded) -> &Value {
    &loaded.source.shown
}

fn typed(value: &Value, places: &Places) -> Result<Config, Vec<Problem>> {
    let file: File = serde_path_to_error::deserialize(value)
        .map_err(|error| vec![places.locate(places.untyped(error.path().to_string(), error.inner()))])?;
    let providers = file.providers.into_iter().map(|(name, mut value)| {
        let kind = value.as_object_mut().and_then(|map| map.remove("kind"));
        let kind = kind.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let path = format!("providers.{name}");
        (name.clone(), Section { kind, name, value, path, places: places.clone() })
    });
    Ok(Config {
        version: file.version,
        server: file.server,
        data_dir: file.data_dir,
        stores: file.stores,
        auth: file.auth,
        providers: providers.collect(),
        models: file.models,
        teams: file.teams,
        keys: file.keys,
        limits: file.limits,
        organisation: file.organisation,
        records: file.records,
        ledger: file.ledger,
        webhooks: file.webhooks,
        responses: file.responses,
        idempotency: file.idempotency,
        relay: file.relay,
        log: file.log,
    })
}

/// The candidate closest to a misspelt word, if any is close.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect();
    let bound = word.chars().count() / 3 + 1;
    candidates
        .map(|candidate| (strsim::osa_distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= bound && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
