//! `penstock keys`: the same service as the admin API, straight on the database. A running gateway notices within a
//! second.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_config::{DurationText, Limits, TimeText};
use penstock_domain::Error;
use penstock_identity::{KeyRecord, KeyRequest, Keys, Minted};
use serde_json::{Value, json};

use crate::cli::{ConfigFile, CreateKey, ListKeys, RevokeKey, RotateKey};
use crate::{Failure, terminal, wiring};

/// What a key may do unless the operator says otherwise: inference on every model, and the list of models.
const DEFAULT_SCOPES: [&str; 3] = ["chat:*", "embeddings:*", "models:*"];

/// Makes a key and prints it once.
pub(crate) fn create(args: CreateKey) -> Result<ExitCode, Failure> {
    let now = SystemTime::now();
    let scopes = if args.scopes.is_empty() {
        DEFAULT_SCOPES.iter().map(|scope| (*scope).to_owned()).collect()
    } else {
        args.scopes
    };
    let request = KeyRequest {
        name: args.name,
        team: args.team,
        scopes,
        models: (!args.models.is_empty()).then_some(args.models),
        limits: limits(&args.limits)?,
        expires: args.expires.as_deref().map(|text| expiry(text, now)).transpose()?,
        created_by: None,
    };
    let new = request.check(now).map_err(|flaws| {
        flaws
            .iter()
            .map(|flaw| format!("{}: {}", flaw.member, flaw.say))
            .collect::<Vec<_>>()
            .join("\n          ")
    })?;
    super::block(async {
        let minted = service(&args.file).await?.create(new, now).await.map_err(said)?;
        show(&minted, args.json);
        Ok(ExitCode::SUCCESS)
    })
}

/// Lists all keys.
pub(crate) fn list(args: &ListKeys) -> Result<ExitCode, Failure> {
    let keys = super::block(async { Ok(service(&args.file).await?.list()) })?;
    let now = SystemTime::now();
    if args.json {
        let list: Vec<_> = keys.iter().map(|key| row(key, now)).collect();
        terminal::line(json!({"keys": list}).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    if keys.is_empty() {
        terminal::line("there is no key yet: penstock keys create --name NAME");
    }
    for key in keys {
        terminal::line(format!(
            "{:<30} {:<16} …{:<6} {:<8} {}",
            key.id.as_str(),
            key.name,
            key.last_four,
            key.state(now),
            key.scopes.to_vec().join(" ")
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives a key a new secret.
pub(crate) fn rotate(args: &RotateKey) -> Result<ExitCode, Failure> {
    let overlap = args.overlap.as_deref().map(duration).transpose()?.unwrap_or_default();
    super::block(async {
        let keys = service(&args.file).await?;
        let id = find(&keys, &args.key)?.id.clone();
        let minted = keys.rotate(id.as_str(), overlap, SystemTime::now()).await.map_err(said)?;
        show(&minted, args.json);
        Ok(ExitCode::SUCCESS)
    })
}

/// Makes a key useless at once.
pub(crate) fn revoke(args: &RevokeKey) -> Result<ExitCode, Failure> {
    super::block(async {
        let keys = service(&args.file).await?;
        let id = find(&keys, &args.key)?.id.clone();
        let now = SystemTime::now();
        let record = keys.revoke(id.as_str(), now).await.map_err(said)?;
        if args.json {
            terminal::line(row(&record, now).to_string());
        } else {
            terminal::line(format!("{} ({}) is revoked", record.id, record.name));
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn service(file: &ConfigFile) -> Result<Arc<Keys>, Failure> {
    let loaded = super::load(&file.config)?;
    wiring::prepare(&loaded.config)?;
    wiring::open_keys(&loaded.config).await.map_err(said)
}

/// A key by its id, or by its name among keys that are not revoked.
fn find(keys: &Keys, wanted: &str) -> Result<Arc<KeyRecord>, Failure> {
    let known = keys.list();
    let by_id = known.iter().find(|key| key.id.as_str() == wanted);
    let found = by_id.or_else(|| known.iter().find(|key| key.name.as_ref() == wanted));
    found.cloned().ok_or_else(|| {
        format!("there is no key with the id or name '{wanted}'; see penstock keys list").into()
    })
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn said(error: Error) -> Failure {
    error.say().into()
}

fn show(minted: &Minted, as_json: bool) {
    let key = minted.key.expose();
    if as_json {
        let mut shown = row(&minted.record, SystemTime::now());
        shown["key"] = key.into();
        terminal::line(shown.to_string());
    } else {
        terminal::line(key);
        terminal::note(format!(
            "{} ({}): keep the key, it is shown only now",
            minted.record.id, minted.record.name
        ));
    }
}

fn row(key: &KeyRecord, now: SystemTime) -> Value {
    json!({
        "id": key.id.as_str(),
        "name": key.name.as_ref(),
        "team": key.team.as_deref(),
        "state": key.state(now),
        "last_four": key.last_four.as_ref(),
        "scopes": key.scopes.to_vec(),
        "models": key.models.patterns(),
        "limits": {
            "requests_per_minute": key.limits.requests_per_minute,
            "concurrent_requests": key.limits.concurrent_requests,
        },
        "source": key.source.name(),
    })
}

/// `60rpm` and `4concurrent`.
fn limits(texts: &[String]) -> Result<Limits, Failure> {
    let mut limits = Limits::default();
    for text in texts {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let number: Option<u32> = number.parse().ok().filter(|number| *number > 0);
        match (number, unit) {
            (Some(_), "rpm") => limits.requests_per_minute = number,
            (Some(_), "concurrent") => limits.concurrent_requests = number,
            _ => {
                return Err(format!(
                    "--limit is '{text}'; expected a number and rpm or concurrent, such as 60rpm"
                )
                .into());
            }
        }
    }
    Ok(limits)
}

fn duration(text: &str) -> Result<Duration, Failure> {
    serde_json::from_value::<DurationText>(text.into())
        .map(|time| time.0)
        .map_err(|error| format!("'{text}' is no time: {error}").into())
}

fn expiry(text: &str, now: SystemTime) -> Result<SystemTime, Failure> {
    if let Ok(time) = duration(text) {
        return Ok(now + time);
    }
    serde_json::from_value::<TimeText>(text.into()).map(|time| time.0).map_err(|_| {
        format!("--expires is '{text}'; expected a time from now such as 12h, or an RFC 3339 time").into()
    })
}
