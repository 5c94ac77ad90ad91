//! `penstock keys`: the same service as the admin API, straight on the database. A running gateway notices within a
//! second.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_config::{Budget, DurationText, Limits, Per, TimeText, Usd};
use penstock_domain::Error;
use penstock_identity::{AuditLog, KeyRecord, KeyRequest, Keys, Minted};
use serde_json::{Value, json};

use crate::cli::{ConfigFile, CreateKey, ListKeys, RevokeKey, RotateKey, Whose};
use crate::people::People;
use crate::stores::Stores;
use crate::{Failure, audit, terminal, wiring};

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
        owner: args.owner,
        kind: args.kind,
        scopes,
        models: (!args.models.is_empty()).then_some(args.models),
        limits: limits(&args.limits)?,
        budget: args.budget.as_deref().map(budget).transpose()?,
        allow_ips: args.allow_ips,
        priority: args.priority,
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
        let (keys, log) = service(&args.file).await?;
        let minted = keys.create(new, now).await.map_err(said)?;
        audit::changed(&*log, "key.create", None, &row(&minted.record, now)).await?;
        show(&minted, args.json);
        Ok(ExitCode::SUCCESS)
    })
}

/// Lists all keys, or those of an owner or a team.
pub(crate) fn list(args: &ListKeys) -> Result<ExitCode, Failure> {
    let mut keys = super::block(async { Ok(service(&args.file).await?.0.list()) })?;
    keys.retain(|key| is_of(key, &args.whose));
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
        let owner = key.owner.as_ref().map(|owner| format!("  ({owner})")).unwrap_or_default();
        let class = key.priority.map(|class| format!("  {}", class.name())).unwrap_or_default();
        terminal::line(format!(
            "{:<30} {:<16} …{:<6} {:<8} {}{owner}{class}",
            key.id.as_str(),
            key.name,
            key.last_four,
            key.state(now),
            key.scopes.to_vec().join(" ")
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a key is of the owner and the team that were asked for.
fn is_of(key: &KeyRecord, whose: &Whose) -> bool {
    let owner = whose.owner.as_deref();
    owner.is_none_or(|name| key.owner.as_ref().is_some_and(|owner| &*owner.name == name))
        && whose.team.as_deref().is_none_or(|team| key.team.as_deref() == Some(team))
}

/// Gives a key a new secret.
pub(crate) fn rotate(args: &RotateKey) -> Result<ExitCode, Failure> {
    let overlap = args.overlap.as_deref().map(duration).transpose()?.unwrap_or_default();
    super::block(async {
        let (keys, log) = service(&args.file).await?;
        let before = find(&keys, &args.key)?;
        let now = SystemTime::now();
        let minted = keys.rotate(before.id.as_str(), overlap, now).await.map_err(said)?;
        audit::changed(&*log, "key.rotate", Some(&row(&before, now)), &row(&minted.record, now)).await?;
        show(&minted, args.json);
        Ok(ExitCode::SUCCESS)
    })
}

/// Makes a key useless at once, or all keys of an owner or a team.
pub(crate) fn revoke(args: &RevokeKey) -> Result<ExitCode, Failure> {
    super::block(async {
        let (keys, log) = service(&args.file).await?;
        let all = match args.key.as_deref() {
            Some(key) => vec![find(&keys, key)?],
            None => keys.in_force(|key| is_of(key, &args.whose)),
        };
        if all.is_empty() {
            terminal::note("no key of the database that is not revoked yet fits");
        }
        for before in all {
            let now = SystemTime::now();
            let record = keys.revoke(before.id.as_str(), now).await.map_err(said)?;
            audit::changed(&*log, "key.revoke", Some(&row(&before, now)), &row(&record, now)).await?;
            if args.json {
                terminal::line(row(&record, now).to_string());
            } else {
                terminal::line(format!("{} ({}) is revoked", record.id, record.name));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn service(file: &ConfigFile) -> Result<(Arc<Keys>, Arc<dyn AuditLog>), Failure> {
    let loaded = super::load(&file.config)?;
    wiring::prepare(&loaded.config)?;
    let stores = Stores::of(&loaded.config).map_err(said)?;
    let keys = People::open(&loaded.config, &stores).await.map_err(said)?.keys;
    Ok((keys, Arc::clone(&stores.audit)))
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

/// A key as it is shown, without its text.
pub(super) fn row(key: &KeyRecord, now: SystemTime) -> Value {
    json!({
        "id": key.id.as_str(),
        "name": key.name.as_ref(),
        "team": key.team.as_deref(),
        "owner": key.owner.as_ref().map(|owner| &*owner.name),
        "kind": key.owner.as_ref().map(|owner| owner.kind.name()),
        "state": key.state(now),
        "last_four": key.last_four.as_ref(),
        "scopes": key.scopes.to_vec(),
        "models": key.models.patterns(),
        "limits": key.limits,
        "budget": key.budget,
        "allow_ips": key.allow_ips,
        "priority": key.priority.map(penstock_domain::Priority::name),
        "source": key.source.name(),
    })
}

/// `60rpm`, `10000tpm`, `4concurrent` and the like.
pub(super) fn limits(texts: &[String]) -> Result<Limits, Failure> {
    let mut limits = Limits::default();
    for text in texts {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let number: Option<u64> = number.parse().ok().filter(|number| *number > 0);
        let small = number.and_then(|number| u32::try_from(number).ok());
        let taken = match unit {
            "rpm" => take(&mut limits.requests_per_minute, small),
            "rph" => take(&mut limits.requests_per_hour, small),
            "rpd" => take(&mut limits.requests_per_day, small),
            "tpm" => take(&mut limits.tokens_per_minute, number),
            "tph" => take(&mut limits.tokens_per_hour, number),
            "tpd" => take(&mut limits.tokens_per_day, number),
            "itpm" => take(&mut limits.input_tokens_per_minute, number),
            "itph" => take(&mut limits.input_tokens_per_hour, number),
            "itpd" => take(&mut limits.input_tokens_per_day, number),
            "otpm" => take(&mut limits.output_tokens_per_minute, number),
            "otph" => take(&mut limits.output_tokens_per_hour, number),
            "otpd" => take(&mut limits.output_tokens_per_day, number),
            "concurrent" => take(&mut limits.concurrent_requests, small),
            _ => false,
        };
        if !taken {
            return Err(format!(
                "--limit is '{text}'; expected a number and a unit: rpm, rph or rpd for requests per minute, hour or day, \
                 tpm, tph or tpd for tokens, the same with i or o before it for tokens of prompts or answers, or concurrent"
            )
            .into());
        }
    }
    Ok(limits)
}

/// Puts a number where it belongs; says whether there was one.
fn take<T>(place: &mut Option<T>, number: Option<T>) -> bool {
    let there = number.is_some();
    *place = number;
    there
}

/// `5/day`, `0.25/month`, `100/lifetime`.
pub(super) fn budget(text: &str) -> Result<Budget, Failure> {
    let read = || {
        let (usd, per) = text.split_once('/')?;
        let per = [Per::Day, Per::Month, Per::Lifetime].into_iter().find(|known| known.name() == per)?;
        Some(Budget::new(Usd::parse(usd)?, per))
    };
    read().ok_or_else(|| {
        format!(
            "--budget is '{text}'; expected US dollars and a time, such as 5/day, 0.25/month or 100/lifetime"
        )
        .into()
    })
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
