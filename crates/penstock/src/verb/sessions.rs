//! `penstock sessions`: who is signed in with a browser. What is ended here is over for every gateway at its next request.

use std::process::ExitCode;
use std::time::SystemTime;

use penstock_domain::Error;
use penstock_identity::{Ending, Session};
use serde_json::json;

use crate::cli::{EndSessions, ListSessions};
use crate::people::People;
use crate::stores::Stores;
use crate::{Failure, audit, terminal, wiring};

/// Lists who is signed in.
pub(crate) fn list(args: &ListSessions) -> Result<ExitCode, Failure> {
    let loaded = super::load(&args.file.config)?;
    wiring::prepare(&loaded.config)?;
    let stores = Stores::of(&loaded.config).map_err(said)?;
    let all = super::block(async {
        let people = People::open(&loaded.config, &stores).await.map_err(said)?;
        people.use_door(&loaded.config).map_err(|_| "auth.admin_login cannot be used: run penstock check")?;
        people.sessions.list(SystemTime::now()).await.map_err(said)
    })?;
    if all.is_empty() && !args.json {
        terminal::line("nobody is signed in");
    }
    all.iter().for_each(|session| print(session, args.json));
    Ok(ExitCode::SUCCESS)
}

/// Ends sessions.
pub(crate) fn end(args: &EndSessions) -> Result<ExitCode, Failure> {
    let loaded = super::load(&args.file.config)?;
    wiring::prepare(&loaded.config)?;
    let which = match (&args.id, &args.subject) {
        (Some(id), _) => Ending::Id(id.as_str().into()),
        (None, Some(subject)) => Ending::Subject(subject.as_str().into()),
        (None, None) => Ending::All,
    };
    let stores = Stores::of(&loaded.config).map_err(said)?;
    super::block(async {
        let people = People::open(&loaded.config, &stores).await.map_err(said)?;
        let ended = people.sessions.end(which).await.map_err(said)?;
        for session in &ended {
            let before = penstock_admin::session(session);
            audit::changed(&*stores.audit, "session.end", Some(&before), &json!({"id": session.id})).await?;
            print(session, args.json);
        }
        terminal::note(format!("{} sessions ended", ended.len()));
        Ok(ExitCode::SUCCESS)
    })
}

fn print(session: &Session, as_json: bool) {
    let shown = penstock_admin::session(session);
    if as_json {
        terminal::line(shown.to_string());
        return;
    }
    let roles: Vec<&str> = session.roles.iter().map(|role| role.name()).collect();
    let seen = shown["seen"].as_str().unwrap_or_default();
    terminal::line(format!(
        "{:<28} {:<30} {:<16} last seen {seen}",
        session.id,
        session.name,
        roles.join(",")
    ));
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn said(error: Error) -> Failure {
    error.say().into()
}
