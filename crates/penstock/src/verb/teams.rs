//! `penstock teams`: the same service as the admin API, straight on the database. A running gateway notices within a
//! second.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use penstock_domain::Error;
use penstock_identity::{AuditLog, Flaw, TeamRecord, read_team};
use serde_json::{Map, Value, json};

use crate::cli::{ChangeTeam, ConfigFile, ListTeams, ShowTeam};
use crate::people::People;
use crate::stores::Stores;
use crate::{Failure, audit, terminal, wiring};

/// Makes a team.
pub(crate) fn create(args: &ChangeTeam) -> Result<ExitCode, Failure> {
    let mut wish = Value::Object(Map::new());
    penstock_admin::merge(&mut wish, patch(args)?);
    let settings = read_team(&args.name, &wish.to_string()).map_err(|flaws| told(&flaws))?;
    super::block(async {
        let (people, log) = service(&args.file).await?;
        let made = people.teams.create(&args.name, settings, SystemTime::now()).await.map_err(said)?;
        let after = penstock_admin::team(&made);
        audit::changed(&*log, "team.create", None, &after).await?;
        print(&made, args.json);
        Ok(ExitCode::SUCCESS)
    })
}

/// Changes what the flags name.
pub(crate) fn update(args: &ChangeTeam) -> Result<ExitCode, Failure> {
    let patch = patch(args)?;
    super::block(async {
        let (people, log) = service(&args.file).await?;
        let before = people.teams.get(&args.name).map_err(said)?;
        let changed = people.teams.update(&args.name, SystemTime::now(), |settings| {
            let mut wish = penstock_admin::settings_of(settings);
            penstock_admin::merge(&mut wish, patch.clone());
            read_team(&args.name, &wish.to_string()).map_err(Trouble::Flaws)
        });
        let changed = changed.await.map_err(|trouble| match trouble {
            Trouble::Flaws(flaws) => told(&flaws),
            Trouble::Error(error) => said(error),
        })?;
        let (before, after) = (penstock_admin::team(&before), penstock_admin::team(&changed));
        audit::changed(&*log, "team.update", Some(&before), &after).await?;
        print(&changed, args.json);
        Ok(ExitCode::SUCCESS)
    })
}

/// Lists all teams.
pub(crate) fn list(args: &ListTeams) -> Result<ExitCode, Failure> {
    let teams = super::block(async { Ok(service(&args.file).await?.0.teams.list()) })?;
    if args.json {
        let list: Vec<_> = teams.iter().map(|team| penstock_admin::team(team)).collect();
        terminal::line(json!({"teams": list}).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    if teams.is_empty() {
        terminal::line("there is no team yet: penstock teams create NAME");
    }
    teams.iter().for_each(|team| print(team, false));
    Ok(ExitCode::SUCCESS)
}

/// Shows one team.
pub(crate) fn show(args: &ShowTeam) -> Result<ExitCode, Failure> {
    let team = super::block(async { service(&args.file).await?.0.teams.get(&args.name).map_err(said) })?;
    print(&team, args.json);
    Ok(ExitCode::SUCCESS)
}

/// Deletes a team.
pub(crate) fn delete(args: &ShowTeam) -> Result<ExitCode, Failure> {
    super::block(async {
        let (people, log) = service(&args.file).await?;
        let now = SystemTime::now();
        let gone = people.teams.delete(&args.name, &people.keys, now).await.map_err(said)?;
        let before = penstock_admin::team(&gone);
        audit::changed(&*log, "team.delete", Some(&before), &json!({"name": args.name})).await?;
        if args.json {
            terminal::line(before.to_string());
        } else {
            terminal::line(format!("{} is deleted", args.name));
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn service(file: &ConfigFile) -> Result<(People, Arc<dyn AuditLog>), Failure> {
    let loaded = super::load(&file.config)?;
    wiring::prepare(&loaded.config)?;
    let stores = Stores::of(&loaded.config).map_err(said)?;
    let people = People::open(&loaded.config, &stores).await.map_err(said)?;
    Ok((people, Arc::clone(&stores.audit)))
}

enum Trouble {
    Error(Error),
    Flaws(Vec<Flaw>),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What the flags say, as a JSON Merge Patch.
fn patch(args: &ChangeTeam) -> Result<Value, Failure> {
    let mut patch = json!({});
    if !args.limits.is_empty() {
        patch["limits"] = json!(super::keys::limits(&args.limits)?);
    }
    if let Some(budget) = args.budget.as_deref() {
        patch["budget"] = json!(super::keys::budget(budget)?);
    }
    if !args.residency.is_empty() {
        patch["residency"] = json!(args.residency);
    }
    if let Some(internal) = args.internal_only {
        patch["internal_only"] = internal.into();
    }
    for text in &args.set {
        set(&mut patch, text)?;
    }
    Ok(patch)
}

/// `capture.content=true`: a path and JSON. What is no JSON is a text.
fn set(patch: &mut Value, text: &str) -> Result<(), Failure> {
    let Some((path, value)) = text.split_once('=').filter(|(path, _)| !path.is_empty()) else {
        return Err(format!("--set is '{text}'; expected PATH=JSON, such as capture.content=true").into());
    };
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    let mut place = patch;
    for step in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[step];
    }
    *place = value;
    Ok(())
}

fn print(team: &TeamRecord, as_json: bool) {
    if as_json {
        terminal::line(penstock_admin::team(team).to_string());
        return;
    }
    let settings = penstock_admin::settings_of(&team.settings);
    terminal::line(format!("{:<24} {:<9} {settings}", team.name, team.source.name()));
}

fn told(flaws: &[Flaw]) -> Failure {
    let lines: Vec<_> = flaws.iter().map(|flaw| format!("{}: {}", flaw.member, flaw.say)).collect();
    Failure(lines.join("\n          "))
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn said(error: Error) -> Failure {
    error.say().into()
}
