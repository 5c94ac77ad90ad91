//! What was used, added up.

use std::time::Duration;

use http::{StatusCode, Uri};
use penstock_observe::store::{By, Group, Hours};
use serde_json::{Value, json};

use crate::Parts;
use crate::keys::Answer;
use crate::query::Parameters;
use crate::record;

/// The time that is added up when nobody says since when.
const SINCE: Duration = Duration::from_secs(24 * 3_600);
/// The longest range.
const MAX_DAYS: u64 = 400;

/// Sums over whole hours by key, model, team, label or hour.
pub(crate) async fn usage(parts: &Parts, uri: &Uri) -> Answer {
    let now = (parts.now)();
    let mut parameters = Parameters::new(uri, now)?;
    let by = parameters.text("by");
    let tag = parameters.text("tag");
    let until = parameters.time("until").unwrap_or(now);
    let since = parameters.time("since").or(until.checked_sub(SINCE)).unwrap_or(until);
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
        parameters.flaw("since", "is later than until".to_owned());
    } else if hours.until - hours.since > MAX_DAYS * 24 {
        parameters.flaw("since", format!("is more than {MAX_DAYS} days before until"));
    }
    parameters.finish()?;
    let Some(by) = by else { return Err(Vec::new().into()) };
    let report = parts.records.usage(&by, hours).await?;
    let listed: u64 = report.rows.iter().map(|(_, sums)| sums.requests).sum();
    let rows: Vec<Value> = report
        .rows
        .iter()
        .map(|(group, sums)| {
            let mut row = record::sums(*sums);
            row.shift_insert(0, "group".to_owned(), shown(group));
            if let (By::Key, Group::Named(id)) = (&by, group) {
                let name = parts.keys.get(id).ok().map(|key| key.name.to_string());
                row.shift_insert(1, "name".to_owned(), name.into());
            }
            Value::Object(row)
        })
        .collect();
    let name = match &by {
        By::Key => "key",
        By::Model => "model",
        By::Team => "team",
        By::Hour => "hour",
        By::Tag(_) => "tag",
    };
    Ok((
        StatusCode::OK,
        json!({
            "by": name,
            "since": record::time(Hours::begins(hours.since)),
            "until": record::time(Hours::begins(hours.until)),
            "total": record::sums(report.total),
            "truncated": listed < report.total.requests,
            "data": rows,
        }),
    ))
}

fn shown(group: &Group) -> Value {
    match group {
        Group::None => Value::Null,
        Group::Named(name) => Value::from(&**name),
        Group::Hour(hour) => record::time(Hours::begins(*hour)).into(),
    }
}
