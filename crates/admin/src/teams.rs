//! What the team routes do.

use axum::http::Uri;
use http::StatusCode;
use penstock_admission::Level;
use penstock_domain::Error;
use penstock_identity::{AuditEvent, Caller, Flaw, KeySource, TeamRecord, read_team};
use serde_json::{Map, Value, json};

use crate::keys::{Answer, stamp};
use crate::problem::Refusal;
use crate::query::Parameters;
use crate::{Parts, audit, spend};

const PAGE: usize = 50;
const MAX_PAGE: usize = 200;

/// Teams in the order of their names, those of the config included.
pub(crate) fn list(parts: &Parts, uri: &Uri) -> Answer {
    let mut parameters = Parameters::new(uri, (parts.now)())?;
    let limit = parameters.read("limit", "a number from 1 to 200", |text| {
        text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit))
    });
    let after = parameters.text("after");
    parameters.finish()?;
    let teams = parts.teams.list();
    let begin = teams.partition_point(|team| after.as_deref().is_some_and(|after| &*team.name <= after));
    let rest = &teams[begin..];
    let shown = &rest[..rest.len().min(limit.unwrap_or(PAGE))];
    let has_more = shown.len() < rest.len();
    let next = shown.last().filter(|_| has_more).map(|team| team.name.to_string());
    let data: Vec<Value> = shown.iter().map(|team| show(team)).collect();
    Ok((StatusCode::OK, json!({"data": data, "has_more": has_more, "next": next})))
}

/// One team with its keys and what it spent.
pub(crate) fn get(parts: &Parts, name: &str) -> Answer {
    let record = parts.teams.get(name)?;
    let now = (parts.now)();
    let mut shown = show(&record);
    let of_team = |key: &&std::sync::Arc<penstock_identity::KeyRecord>| key.team.as_deref() == Some(name);
    let keys = parts.keys.list();
    shown["active_keys"] =
        keys.iter().filter(of_team).filter(|key| key.state(now) == "active").count().into();
    let standings = parts.view.standings();
    let standing = standings.iter().find(|one| one.level == Level::Team && &*one.name == name);
    shown["standing"] = standing.map_or(Value::Null, |one| spend::row(parts, one));
    Ok((StatusCode::OK, shown))
}

pub(crate) async fn create(parts: &Parts, caller: &Caller, mut body: Map<String, Value>) -> Answer {
    let now = (parts.now)();
    let name = match body.remove("name") {
        Some(Value::String(name)) => name,
        _ => {
            let say = "is missing: expected a text".to_owned();
            return Err(vec![Flaw { member: "name".to_owned(), say }].into());
        }
    };
    let mut wish = Value::Object(Map::new());
    merge(&mut wish, Value::Object(body));
    let settings = read_team(&name, &wish.to_string())?;
    let record = parts.teams.create(&name, settings, now).await?;
    note(parts, ("team.create", caller), None, Some(&record)).await?;
    Ok((StatusCode::CREATED, show(&record)))
}

/// Changes what the body names and leaves the rest (RFC 7396: null takes a setting away).
pub(crate) async fn update(parts: &Parts, caller: &Caller, name: &str, body: Map<String, Value>) -> Answer {
    let now = (parts.now)();
    let before = parts.teams.get(name)?;
    let patch = Value::Object(body);
    let record = parts
        .teams
        .update(name, now, |settings| {
            let mut wish = settings_of(settings);
            merge(&mut wish, patch.clone());
            read_team(name, &wish.to_string()).map_err(Refusal::from)
        })
        .await?;
    note(parts, ("team.update", caller), Some(&before), Some(&record)).await?;
    Ok((StatusCode::OK, show(&record)))
}

pub(crate) async fn delete(parts: &Parts, caller: &Caller, name: &str) -> Answer {
    let record = parts.teams.delete(name, &parts.keys, (parts.now)()).await?;
    note(parts, ("team.delete", caller), Some(&record), None).await?;
    Ok((StatusCode::OK, show(&record)))
}

async fn note(
    parts: &Parts,
    (action, caller): (&'static str, &Caller),
    before: Option<&TeamRecord>,
    after: Option<&TeamRecord>,
) -> Result<(), Error> {
    let name = before.or(after).map_or("", |record| &record.name);
    let text = |record: &TeamRecord| show(record).to_string();
    let event = AuditEvent::new((parts.now)(), caller.key_id.as_str(), action, name)
        .with(before.map(text).as_deref(), after.map(text).as_deref());
    audit::write(parts, event).await
}

/// A team as it is shown.
pub fn show(record: &TeamRecord) -> Value {
    let mut shown = settings_of(&record.settings);
    if let Value::Object(members) = &mut shown {
        members.insert("name".to_owned(), (*record.name).into());
        members.insert("source".to_owned(), record.source.name().into());
        let stored = record.source == KeySource::Database;
        members.insert("created".to_owned(), stored.then(|| stamp(record.created)).flatten().into());
        members.insert("changed".to_owned(), stored.then(|| stamp(record.changed)).flatten().into());
    }
    shown
}

/// The settings of a team as the API has them. Numbers, words and lists only: writing them into memory cannot fail.
pub fn settings_of(settings: &penstock_config::Team) -> Value {
    serde_json::to_value(settings).unwrap_or_else(|_| Value::Object(Map::new()))
}

/// JSON Merge Patch (RFC 7396). The patch was read with a bound on its depth.
pub fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Value::Object(members) = into else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_takes_away_what_it_says_null_to() {
        for (mut before, patch, after) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({"a": null}), json!({"b": 1}), json!({"a": null, "b": 1})),
        ] {
            merge(&mut before, patch);
            assert_eq!(before, after);
        }
    }
}
