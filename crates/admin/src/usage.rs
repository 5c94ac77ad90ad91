//! What was used, added up.

use std::time::Duration;

use http::{StatusCode, Uri};
use penstock_observe::store::{By, Group, Hours, Report};
use serde_json::{Value, json};

use crate::Parts;
use crate::keys::Answer;
use crate::problem::Refusal;
use crate::query::Parameters;
use crate::record;

/// The time that is added up when nobody says since when.
const SINCE: Duration = Duration::from_secs(24 * 3_600);
/// The longest range.
const MAX_DAYS: u64 = 400;

/// Sums over whole hours by key, model, team, label or hour, from the records.
pub(crate) async fn usage(parts: &Parts, uri: &Uri) -> Answer {
    let (by, hours) = asked(Parameters::new(uri, (parts.now)())?, parts, ("since", "until"))?;
    let report = parts.records.usage(&by, hours).await?;
    Ok((StatusCode::OK, body(parts, &by, hours, &report)))
}

/// What is to be added up; `since` and `until` are called as the route calls them.
pub(crate) fn asked(
    mut parameters: Parameters,
    parts: &Parts,
    (first, last): (&'static str, &'static str),
) -> Result<(By, Hours), Refusal> {
    let by = parameters.text("by");
    let tag = parameters.text("tag");
    let until = parameters.time(last).unwrap_or_else(parts.now);
    let since = parameters.time(first).or(until.checked_sub(SINCE)).unwrap_or(until);
    let by = match (by.as_deref(), tag) {
        (Some("key"), None) => Some(By::Key),
        (Some("model"), None) => Some(By::Model),
        (Some("team"), None) => Some(By::Team),
        (Some("hour") | None, None) => Some(By::Hour),
        (Some("tag"), Some(tag)) => Some(By::Tag(tag)),
        (Some("tag"), None) => {
            parameters.flaw("tag", "is missing: by=tag needs the name of the tag".to_owned());
            None
        }
        (Some("key" | "model" | "team" | "hour") | None, Some(_)) => {
            parameters.flaw("tag", "goes with by=tag alone".to_owned());
            None
        }
        _ => {
            parameters.flaw("by", "expected key, model, team, tag or hour".to_owned());
            None
        }
    };
    let hours = Hours::around(since, until);
    if since > until {
        parameters.flaw(first, format!("is later than {last}"));
    } else if hours.until - hours.since > MAX_DAYS * 24 {
        parameters.flaw(first, format!("is more than {MAX_DAYS} days before {last}"));
    }
    parameters.finish()?;
    by.map(|by| (by, hours)).ok_or_else(|| Vec::new().into())
}

/// A report as JSON.
pub(crate) fn body(parts: &Parts, by: &By, hours: Hours, report: &Report) -> Value {
    let listed: u64 = report.rows.iter().map(|(_, sums)| sums.requests).sum();
    let rows: Vec<Value> = report
        .rows
        .iter()
        .map(|(group, sums)| {
            let mut row = record::sums(*sums);
            row.shift_insert(0, "group".to_owned(), shown(group));
            if let (By::Key, Group::Named(id)) = (by, group) {
                row.shift_insert(1, "name".to_owned(), key_name(parts, id).into());
            }
            Value::Object(row)
        })
        .collect();
    let name = match by {
        By::Key => "key",
        By::Model => "model",
        By::Team => "team",
        By::Hour => "hour",
        By::Tag(_) => "tag",
    };
    json!({
        "by": name,
        "since": record::time(Hours::begins(hours.since)),
        "until": record::time(Hours::begins(hours.until)),
        "total": record::sums(report.total),
        "truncated": listed < report.total.requests,
        "data": rows,
    })
}

/// The name of a key that is still known.
pub(crate) fn key_name(parts: &Parts, id: &str) -> Option<String> {
    parts.keys.get(id).ok().map(|key| key.name.to_string())
}

fn shown(group: &Group) -> Value {
    match group {
        Group::None => Value::Null,
        Group::Named(name) => Value::from(&**name),
        Group::Hour(hour) => record::time(Hours::begins(*hour)).into(),
    }
}
