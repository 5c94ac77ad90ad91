//! What the audit route shows, and how changes get into the log.

use axum::http::Uri;
use http::StatusCode;
use penstock_domain::{Code, Error};
use penstock_identity::{AuditEntry, AuditEvent, Caller, KeyRecord};
use serde_json::{Value, json};

use crate::Parts;
use crate::keys::{Answer, show};
use crate::query::Parameters;

const PAGE: u32 = 50;
const MAX_PAGE: u32 = 500;

/// Rows of the log, the newest first.
pub(crate) async fn list(parts: &Parts, uri: &Uri) -> Answer {
    let mut parameters = Parameters::new(uri, (parts.now)())?;
    let limit = parameters.read("limit", "a number from 1 to 500", |text| {
        text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit))
    });
    let after = parameters.read("after", "the `next` of the page before", |text| text.parse().ok());
    parameters.finish()?;
    let page = parts.audit.page(after, limit.unwrap_or(PAGE)).await?;
    let data: Vec<Value> = page.entries.iter().map(row).collect();
    Ok((
        StatusCode::OK,
        json!({"data": data, "has_more": page.next.is_some(), "next": page.next.map(|n| n.to_string())}),
    ))
}

fn row(entry: &AuditEntry) -> Value {
    let AuditEvent { at, actor, action, object, before, after } = &entry.event;
    let json = |text: &Option<Box<str>>| {
        text.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or_else(|_| text.into()))
    };
    let hash: String = entry.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "number": entry.number,
        "at": jiff::Timestamp::try_from(*at).map(|stamp| stamp.to_string()).ok(),
        "actor": actor,
        "action": action,
        "object": object,
        "before": json(before),
        "after": json(after),
        "hash": hash,
    })
}

/// Notes a change of a key, before it is answered.
///
/// # Errors
/// `store_unavailable`: the change is made all the same, and the sentence says so.
pub(crate) async fn note(
    parts: &Parts,
    (action, caller): (&'static str, &Caller),
    before: Option<&KeyRecord>,
    after: &KeyRecord,
) -> Result<(), Error> {
    let now = (parts.now)();
    let text = |record: &KeyRecord| show(record, now).to_string();
    let event = AuditEvent::new(now, caller.key_id.as_str(), action, after.id.as_str())
        .with(before.map(text).as_deref(), Some(&text(after)));
    write(parts, event).await
}

/// Notes a change that was made, before it is answered.
///
/// # Errors
/// See [`note`].
pub(crate) async fn write(parts: &Parts, event: AuditEvent) -> Result<(), Error> {
    let (action, object) = (event.action.clone(), event.object.clone());
    match parts.audit.append(event).await {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::error!(%error, %action, %object, "a change was made, and the audit log cannot be written");
            let say = format!(
                "the change to {object} was made, but the audit log cannot be written: {}",
                error.say()
            );
            Err(Error::new(Code::StoreUnavailable, say)
                .with_retry(penstock_domain::Retry::Never)
                .with_source(error))
        }
    }
}
