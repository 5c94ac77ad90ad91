//! Deliveries of events to webhooks: what became of them, and once more.

use axum::http::Uri;
use http::StatusCode;
use penstock_alert::{Delivery, Query, State};
use penstock_domain::{Code, Error};
use penstock_identity::{AuditEvent, Caller};
use serde_json::{Value, json};

use crate::Parts;
use crate::keys::Answer;
use crate::query::Parameters;

const PAGE: u32 = 50;
const MAX_PAGE: u32 = 500;

/// Deliveries, the newest first.
pub(crate) async fn list(parts: &Parts, uri: &Uri) -> Answer {
    let mut parameters = Parameters::new(uri, (parts.now)())?;
    let limit = parameters.read("limit", "a number from 1 to 500", |text| {
        text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit))
    });
    let before = parameters.read("after", "the `next` of the page before", |text| text.parse().ok());
    let state = parameters.read("state", "waiting, delivered or dead", |text| {
        State::ALL.into_iter().find(|state| state.name() == text)
    });
    parameters.finish()?;
    let limit = limit.unwrap_or(PAGE);
    let rows = parts.alerts.list(Query { state, before, limit: limit + 1 }).await?;
    let more = rows.len() > limit as usize;
    let rows = &rows[..rows.len().min(limit as usize)];
    let next = rows.last().filter(|_| more).map(|(row, _)| row.place.to_string());
    let data: Vec<Value> = rows.iter().map(|(row, endpoint)| shown(row, endpoint.as_deref())).collect();
    Ok((StatusCode::OK, json!({"data": data, "has_more": more, "next": next})))
}

/// Has a delivery made anew; on the audit log before it is answered.
pub(crate) async fn again(parts: &Parts, caller: &Caller, id: &str) -> Answer {
    let Some((row, endpoint)) = parts.alerts.again(id).await? else {
        return Err(Error::new(Code::NotFound, "there is no delivery of this id").into());
    };
    let event = AuditEvent::new((parts.now)(), caller.key_id.as_str(), "webhook.redeliver", id);
    parts.audit.append(event).await?;
    Ok((StatusCode::OK, shown(&row, endpoint.as_deref())))
}

fn shown(row: &Delivery, endpoint: Option<&str>) -> Value {
    let time = |at| jiff::Timestamp::try_from(at).map(|stamp| stamp.to_string()).ok();
    json!({
        "id": row.id,
        "event": row.event,
        "type": row.kind,
        "endpoint": endpoint,
        "state": row.state.name(),
        "created_at": time(row.created),
        "attempts": row.attempts,
        "next_attempt_at": row.next.and_then(time),
        "last_attempt_at": row.last.and_then(time),
        "last_status": row.status,
        "last_error": row.trouble,
    })
}
