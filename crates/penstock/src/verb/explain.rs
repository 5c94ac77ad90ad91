//! `penstock explain`: what happened to one request, straight from the records; the gateway may run or not.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use penstock_config::Config;
use penstock_domain::{Cost, Error, Rates};
use penstock_observe::store::Status;
use penstock_observe::{Attempt, Entry, Record};
use serde_json::Value;

use crate::cli::Explain;
use crate::people::People;
use crate::stores::Stores;
use crate::{Failure, terminal, wiring};

/// Prints one record; fails when there is none of this id.
pub(crate) fn run(args: &Explain) -> Result<ExitCode, Failure> {
    let loaded = super::load(&args.file.config)?;
    let config = &loaded.config;
    super::block(async {
        let entry = find(config, &args.id).await?;
        if args.json {
            let mut shown = penstock_admin::record(&entry);
            shown["captured"] = entry.record.content.is_some().into();
            terminal::line(shown.to_string());
        } else {
            let name = key_name(config, &entry.record).await;
            terminal::line(text(&entry, name.as_deref(), config).trim_end());
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn find(config: &Config, id: &str) -> Result<Entry, Failure> {
    let told = |error: Error| Failure(error.say().to_owned());
    let stores = Stores::of(config).map_err(told)?;
    // Asking must not make a file.
    let found = if stores.has_records() { stores.records.one(id).await.map_err(told) } else { Ok(None) };
    stores.close().await;
    found?.ok_or_else(|| {
        let place = stores.place_of_records();
        let shown: String = id.chars().filter(|c| !c.is_control()).take(64).collect();
        Failure(format!(
            "there is no record of '{shown}' in {place}: expected an id as in the header x-request-id, of a request that \
             ended not longer ago than records.retention"
        ))
    })
}

/// The key's name, where the database and the file still have it.
async fn key_name(config: &Config, record: &Record) -> Option<String> {
    let id = record.key.as_deref()?;
    let stores = Stores::of(config).ok()?;
    let people = People::open(config, &stores).await.ok()?;
    people.keys.get(id).ok().map(|key| key.name.to_string())
}

/// The lines of a text, each with what it is about in front.
struct Lines(String);

impl Lines {
    fn add(&mut self, what: &str, text: &str) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.0, "  {what:<9} {text}");
    }
}

fn text(entry: &Entry, key: Option<&str>, config: &Config) -> String {
    let record = &entry.record;
    let mut lines = Lines(format!("{}\n", record.id));
    let shown = penstock_admin::record(entry);
    let at = shown["at"].as_str().unwrap_or_default();
    let first = record.first_token.map(|first| format!(", first content after {}", millis(first)));
    lines.add("when", &format!("{at}, took {}{}", millis(record.duration), first.unwrap_or_default()));
    lines.add("who", &who(record, key));
    lines.add("asked", &asked(record));
    lines.add("went to", &way(record));
    for (number, (stage, took)) in record.timings.iter().enumerate() {
        let what = if number == 0 { "stages" } else { "" };
        lines.add(what, &format!("{:<13} {:>12}", stage.name(), millis(took)));
    }
    for (number, one) in record.tries.iter().enumerate() {
        let what = if number == 0 { "calls" } else { "" };
        lines.add(what, &attempt(one, record.tries.len() > 1));
    }
    for (number, one) in record.considered.iter().enumerate() {
        let what = if number == 0 { "thought of" } else { "" };
        let door = door(&one.provider, one.credential, &one.model);
        lines.add(what, &format!("{door}: {}", one.verdict));
    }
    lines.add("tokens", &tokens(record));
    if let Some(price) = price(record, config) {
        lines.add("price", &price);
    }
    lines.add("cost", &cost(record.cost));
    if let Some(pauses) = entry.pauses {
        let [p50, p99, max] = [pauses.p50, pauses.p99, pauses.max].map(millis);
        lines.add("pauses", &format!("{} between pieces: p50 {p50}, p99 {p99}, longest {max}", pauses.count));
    }
    if let Value::Object(tags) = &shown["tags"]
        && !tags.is_empty()
    {
        let tags: Vec<_> = record.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        lines.add("tags", &tags.join(", "));
    }
    if let Some(content) = &record.content {
        let (asked, answered) = (content.request.len(), content.answer.len());
        lines.add("content", &format!("kept: {asked} bytes of request, {answered} of answer"));
    }
    ending(&mut lines, record, config);
    lines.0
}

fn ending(lines: &mut Lines, record: &Record, config: &Config) {
    let status = Status::of(&record.outcome).name();
    let Some(error) = record.outcome.error() else {
        let finish = record.finish.map(|finish| format!(", finished by {}", finish.name()));
        lines.add("outcome", &format!("{status}{}", finish.unwrap_or_default()));
        return;
    };
    let stage = error.stage().map(|stage| format!(" in {stage}")).unwrap_or_default();
    let param = error.param().map(|param| format!(" ({param})")).unwrap_or_default();
    lines.add("outcome", &format!("{status}{stage}: {}{param}", error.code()));
    lines.add("", error.say());
    lines.add("", error.code().meaning());
    lines.add("", &format!("http://{}/docs/errors/{}", config.server.listen, error.code()));
}

fn who(record: &Record, name: Option<&str>) -> String {
    let Some(key) = record.key.as_deref() else { return "nobody was known".to_owned() };
    let key = name.map_or_else(|| format!("key {key}"), |name| format!("key {name} ({key})"));
    match record.team.as_deref() {
        Some(team) => format!("{key} of team {team}"),
        None => key,
    }
}

fn asked(record: &Record) -> String {
    let what = record.task.map_or("something that was not understood", penstock_domain::Task::name);
    let model = record.asked.as_deref().map(|model| format!("{model} for ")).unwrap_or_default();
    let how = if record.stream { " as a stream" } else { "" };
    let dialect = record.dialect.map(|dialect| format!(", in the dialect {}", dialect.name()));
    format!("{model}{what}{how}{}", dialect.unwrap_or_default())
}

fn way(record: &Record) -> String {
    let Some(model) = record.model.as_deref() else { return "no model of the catalogue".to_owned() };
    let mut way = model.to_owned();
    if let Some(provider) = record.provider.as_deref() {
        let _ = write!(way, " → {provider}/{}", record.upstream_model.as_deref().unwrap_or("?"));
    }
    if let Some(version) = record.version.as_deref() {
        let _ = write!(way, " → {version}");
    }
    let _ = match record.attempts {
        0 => write!(way, ", never called"),
        1 => write!(way, ", 1 call"),
        calls => write!(way, ", {calls} calls"),
    };
    way
}

/// One call; what it used is told where it is not the only one.
fn attempt(one: &Attempt, many: bool) -> String {
    let door = door(&one.provider, one.credential, &one.model);
    let mut text = format!("{door}: {} after {}", one.code, millis(one.took));
    if one.why != "first" {
        let _ = write!(text, ", {}", one.why);
    }
    if let (true, Some(usage)) = (many, one.usage) {
        let guessed = if one.estimated { " estimated" } else { "" };
        let _ = write!(text, ", {} input and {} output tokens{guessed}", usage.input, usage.output);
        let _ = write!(text, ", {}", cost(one.cost));
    }
    text
}

/// A model behind a provider; its credential where it is not the first.
fn door(provider: &str, credential: u32, model: &str) -> String {
    match credential {
        0 => format!("{provider}/{model}"),
        other => format!("{provider}#{other}/{model}"),
    }
}

fn tokens(record: &Record) -> String {
    let Some(usage) = record.usage else { return "none: no answer began".to_owned() };
    let parts = |parts: &[(&str, Option<u64>)]| {
        let said: Vec<_> =
            parts.iter().filter_map(|(what, count)| count.map(|count| format!("{count} {what}"))).collect();
        if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) }
    };
    let input = parts(&[
        ("read from cache", usage.cached_input),
        ("written to cache", usage.cache_write),
        ("of these for an hour", usage.cache_write_hour),
    ]);
    let output = parts(&[("reasoning", usage.reasoning)]);
    let guessed =
        if record.estimated { "; estimated: the vendor did not count, or contradicted itself" } else { "" };
    format!("{} input{input}, {} output{output}{guessed}", usage.input, usage.output)
}

/// The prices that held when the request arrived, by the configuration as it is now.
fn price(record: &Record, config: &Config) -> Option<String> {
    let name = record.model.as_deref()?;
    if record.attempts == 0 {
        return None;
    }
    let catalogue = wiring::catalogue(config, &wiring::Providers::new());
    let prices = catalogue.prices_of(name, record.provider.as_deref()?, record.upstream_model.as_deref()?);
    let unknown = || "unknown: set models.NAME.price in the configuration".to_owned();
    let Some(tariff) = prices.as_ref().and_then(|prices| prices.at(record.at)) else {
        return Some(unknown());
    };
    let rates = match &tariff.long {
        Some((over, rates)) if record.usage.is_some_and(|usage| usage.input > *over) => rates,
        _ => &tariff.rates,
    };
    Some(format!("{} USD per million tokens", listed(rates)))
}

fn listed(rates: &Rates) -> String {
    let kinds = [
        ("input", Some(rates.input)),
        ("cached input", rates.cached_input),
        ("cache write", rates.cache_write),
        ("cache write for an hour", rates.cache_write_hour),
        ("output", rates.output),
        ("reasoning", rates.reasoning),
    ];
    let said = kinds.into_iter().filter_map(|(kind, price)| price.map(|price| format!("{kind} {price}")));
    said.collect::<Vec<_>>().join(", ")
}

fn cost(cost: Cost) -> String {
    match cost {
        Cost::None => "none: nothing was called".to_owned(),
        Cost::Known(money) => format!("{money} USD"),
        Cost::Unknown => "unknown: a price is missing".to_owned(),
    }
}

fn millis(time: Duration) -> String {
    format!("{:.3} ms", time.as_micros() as f64 / 1_000.0)
}
