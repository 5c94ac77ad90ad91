//! `penstock audit`: who changed what, and whether the log of it is whole.

use std::process::ExitCode;
use std::time::SystemTime;

use penstock_domain::Error;
use penstock_identity::AuditEntry;
use serde_json::{Value, json};

use crate::cli::{ListAudit, VerifyAudit};
use crate::stores::Stores;
use crate::{Failure, terminal, wiring};

/// Prints the newest rows, the newest first.
pub(crate) fn list(args: &ListAudit) -> Result<ExitCode, Failure> {
    let loaded = super::load(&args.file.config)?;
    wiring::prepare(&loaded.config)?;
    let page = super::block(async {
        let stores = Stores::of(&loaded.config).map_err(said)?;
        stores.audit.page(None, args.limit.min(10_000)).await.map_err(said)
    })?;
    if page.entries.is_empty() && !args.json {
        terminal::line("nothing has happened yet");
    }
    for entry in &page.entries {
        if args.json {
            terminal::line(row(entry).to_string());
        } else {
            let event = &entry.event;
            let after = event.after.as_deref().unwrap_or_default();
            let after: String = after.chars().take(80).collect();
            terminal::line(format!(
                "{:>6} {} {:<28} {:<14} {} {after}",
                entry.number,
                time(event.at),
                event.actor,
                event.action,
                event.object
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks the whole log.
pub(crate) fn verify(args: &VerifyAudit) -> Result<ExitCode, Failure> {
    let loaded = super::load(&args.file.config)?;
    wiring::prepare(&loaded.config)?;
    let verdict = super::block(async {
        let stores = Stores::of(&loaded.config).map_err(said)?;
        stores.audit.verify().await.map_err(said)
    })?;
    let head = hex(&verdict.head);
    if args.json {
        let broken = verdict.broken.as_ref().map(|(row, why)| json!({"row": row, "why": why}));
        terminal::line(
            json!({"ok": broken.is_none(), "rows": verdict.rows, "head": head, "broken": broken}).to_string(),
        );
    } else {
        match &verdict.broken {
            None => terminal::line(format!(
                "{} rows, none altered; the last one has the hash {head}",
                verdict.rows
            )),
            Some((row, why)) => terminal::line(format!("row {row} is wrong: {why}")),
        }
    }
    Ok(if verdict.broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(entry: &AuditEntry) -> Value {
    let event = &entry.event;
    let json = |text: &Option<Box<str>>| {
        text.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or_else(|_| text.into()))
    };
    json!({
        "number": entry.number,
        "at": time(event.at),
        "actor": event.actor,
        "action": event.action,
        "object": event.object,
        "before": json(&event.before),
        "after": json(&event.after),
        "hash": hex(&entry.hash),
    })
}

fn time(at: SystemTime) -> String {
    // What is out of its range comes from no clock of ours.
    jiff::Timestamp::try_from(at).map(|stamp| stamp.to_string()).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn said(error: Error) -> Failure {
    error.say().into()
}
