//! `penstock spend`: what was spent, straight from the ledger; the gateway may run or not.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use penstock_config::{Config, DurationText, TimeText};
use penstock_domain::{Error, Money};
use penstock_observe::store::{By, Group, Hours, Report, Sums};
use serde_json::{Value, json};

use crate::cli::Spend;
use crate::people::People;
use crate::stores::Stores;
use crate::{Failure, terminal};

/// The time that is added up when nobody says since when.
const SINCE: Duration = Duration::from_secs(30 * 86_400);

/// Prints the sums of the ledger.
pub(crate) fn run(args: &Spend) -> Result<ExitCode, Failure> {
    let loaded = super::load(&args.file.config)?;
    let config = &loaded.config;
    let now = SystemTime::now();
    let by = by(&args.by)?;
    let to = args.to.as_deref().map_or(Ok(now), |text| moment("--to", text, now))?;
    let from = args.from.as_deref().map(|text| moment("--from", text, now)).transpose()?;
    let from = from.or(to.checked_sub(SINCE)).unwrap_or(to);
    if from > to {
        return Err("--from is later than --to".into());
    }
    super::block(async {
        let report = read(config, &by, Hours::around(from, to)).await?;
        let names = if by == By::Key { names(config).await } else { HashMap::new() };
        if args.csv {
            terminal::line(penstock_admin::csv(&report).trim_end());
        } else if args.json {
            terminal::line(as_json(&report).to_string());
        } else {
            show(&report, &names);
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn by(text: &str) -> Result<By, Failure> {
    match text {
        "key" => Ok(By::Key),
        "team" => Ok(By::Team),
        "model" => Ok(By::Model),
        "hour" => Ok(By::Hour),
        _ => match text.strip_prefix("tag:").filter(|name| !name.is_empty()) {
            Some(name) => Ok(By::Tag(name.into())),
            None => Err(format!("--by is '{text}'; expected key, team, model, hour or tag:NAME").into()),
        },
    }
}

fn moment(option: &str, text: &str, now: SystemTime) -> Result<SystemTime, Failure> {
    if let Ok(ago) = serde_json::from_value::<DurationText>(text.into()) {
        return Ok(now.checked_sub(ago.0).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    serde_json::from_value::<TimeText>(text.into()).map(|time| time.0).map_err(|_| {
        format!("{option} is '{text}'; expected a day, an RFC 3339 time, or how long ago, such as 24h").into()
    })
}

async fn read(config: &Config, by: &By, hours: Hours) -> Result<Report, Failure> {
    let told = |error: Error| error.say().to_owned();
    let stores = Stores::of(config).map_err(told)?;
    // Asking must not make a file.
    if !stores.has_ledger() {
        return Ok(Report::default());
    }
    let report = stores.spending.spend(by, hours).await.map_err(told);
    stores.close().await;
    Ok(report?)
}

/// The names of the keys that are still known.
async fn names(config: &Config) -> HashMap<String, String> {
    let Ok(stores) = Stores::of(config) else { return HashMap::new() };
    let Ok(people) = People::open(config, &stores).await else { return HashMap::new() };
    people.keys.list().iter().map(|key| (key.id.to_string(), key.name.to_string())).collect()
}

fn group(group: &Group) -> Option<String> {
    match group {
        Group::None => None,
        Group::Named(name) => Some(name.to_string()),
        Group::Hour(hour) => {
            let time = jiff::Timestamp::try_from(Hours::begins(*hour)).ok()?;
            Some(time.to_string())
        }
    }
}

fn show(report: &Report, names: &HashMap<String, String>) {
    terminal::line(format!(
        "{:<32} {:>10} {:>14} {:>14} {:>16}",
        "", "requests", "input tokens", "output tokens", "USD"
    ));
    for (name, sums) in &report.rows {
        let name = group(name).unwrap_or_else(|| "-".to_owned());
        terminal::line(row(names.get(&name).unwrap_or(&name), *sums));
    }
    terminal::line(row("total", report.total));
    if report.total.unpriced > 0 {
        terminal::note(format!(
            "{} requests cost something that nobody knows: set models.NAME.price",
            report.total.unpriced
        ));
    }
}

fn row(name: &str, sums: Sums) -> String {
    // Labels are what askers choose: nothing of them may steer a terminal.
    let name: String = name.chars().filter(|c| !c.is_control()).take(32).collect();
    let cost = Money::from_micros(sums.cost).to_string();
    format!("{name:<32} {:>10} {:>14} {:>14} {cost:>16}", sums.requests, sums.input, sums.output)
}

fn as_json(report: &Report) -> Value {
    let sums = |sums: &Sums| {
        json!({
            "requests": sums.requests,
            "input_tokens": sums.input,
            "output_tokens": sums.output,
            "cost": {"micro_usd": sums.cost, "usd": Money::from_micros(sums.cost).to_string()},
            "requests_of_unknown_cost": sums.unpriced,
        })
    };
    let rows = report.rows.iter().map(|(name, row)| {
        let mut row = sums(row);
        row["group"] = group(name).into();
        row
    });
    json!({"data": rows.collect::<Vec<_>>(), "total": sums(&report.total)})
}
