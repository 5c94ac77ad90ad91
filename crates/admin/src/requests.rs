//! Records: searched, shown, and watched as they come.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, StatusCode, Uri};
use penstock_domain::{Code, Error};
use penstock_identity::{AuditEvent, Caller, Scope};
use penstock_observe::store::{Filter, MAX_PAGE, Page, ended};
use penstock_observe::{Entry, Unwatched};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Interval;

use crate::keys::Answer;
use crate::problem::Refusal;
use crate::query::Parameters;
use crate::session::Who;
use crate::{Parts, record};

/// Records of a page when nobody says how many.
const PAGE: usize = 50;
/// What a key needs to see what was captured, beside the scope of the route.
const CONTENT: Scope = Scope::new("admin", "content");
/// How often a watcher hears that the line is alive, and its key is looked at again.
const EVERY: Duration = Duration::from_secs(10);

/// One page of records, newest first.
pub(crate) async fn list(parts: &Parts, uri: &Uri) -> Answer {
    let mut parameters = Parameters::new(uri, (parts.now)())?;
    let after = parameters.read("after", "the `next` of the page before", |text| text.parse().ok());
    let limit = parameters.read("limit", &format!("a number from 1 to {MAX_PAGE}"), |text| {
        text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit))
    });
    let since = parameters.time("since");
    let until = parameters.time("until");
    let filter = Filter { since, until, ..parameters.filter() };
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        parameters.flaw("since", "is later than until".to_owned());
    }
    parameters.finish()?;
    let found = parts.records.search(&filter, Page { after, limit: limit.unwrap_or(PAGE) }).await?;
    let data: Vec<Value> = found.entries.iter().map(record::record).collect();
    let next = found.next.map(|next| next.to_string());
    Ok((StatusCode::OK, json!({"data": data, "has_more": next.is_some(), "next": next})))
}

/// One record; with what was captured of it for keys that may see that.
pub(crate) async fn get(parts: &Parts, caller: &Caller, id: &str) -> Answer {
    let unknown = || {
        let say = "there is no record of this id: it was never served here, or its time is over";
        Error::new(Code::NotFound, say)
    };
    let entry = parts.records.one(id).await?.ok_or_else(unknown)?;
    let mut shown = record::record(&entry);
    let content = entry.record.content.as_deref();
    shown["captured"] = content.is_some().into();
    let allowed = caller.scopes.allows(CONTENT, None);
    shown["content"] = content.filter(|_| allowed).map_or(Value::Null, record::content);
    if allowed && content.is_some() {
        let event = AuditEvent::new((parts.now)(), caller.key_id.as_str(), "content.read", id);
        parts.audit.append(event).await?;
    }
    Ok((StatusCode::OK, shown))
}

/// Records as they come, as server-sent events.
pub(crate) fn watch(parts: &Parts, uri: &Uri, who: Who, scope: Scope) -> Result<Response, Refusal> {
    let mut parameters = Parameters::new(uri, (parts.now)())?;
    let filter = parameters.filter();
    parameters.finish()?;
    let receiver = parts.tail.watch().map_err(|why| match why {
        Unwatched::Closed => Error::new(Code::ServerShutdown, "the gateway is shutting down"),
        Unwatched::Crowded => {
            let say = "too many watch already: close another tail, or search from time to time instead";
            Error::new(Code::ConcurrencyLimitExceeded, say)
        }
    })?;
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let watcher = Watcher { receiver, filter, every, parts: parts.clone(), who, scope };
    let events = stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        let (text, goes_on) = watcher.next().await;
        Some((Ok::<_, Infallible>(Bytes::from(text)), goes_on.then_some(watcher)))
    });
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        // Reverse proxies hold answers back otherwise.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

struct Watcher {
    receiver: Receiver<Arc<Entry>>,
    filter: Filter,
    every: Interval,
    parts: Parts,
    who: Who,
    scope: Scope,
}

impl Watcher {
    /// The next event or comment, and whether another follows. The first comment comes at once.
    async fn next(&mut self) -> (String, bool) {
        loop {
            tokio::select! {
                received = self.receiver.recv() => match received {
                    Ok(entry) => {
                        let when = SystemTime::UNIX_EPOCH + Duration::from_micros(ended(&entry.record));
                        if self.filter.fits(&entry.record, when) {
                            return (event("request", &record::record(&entry)), true);
                        }
                    }
                    Err(RecvError::Lagged(missed)) => {
                        let detail = "this reader is too slow: search for what is missing, and read faster";
                        return (end("slow", detail, missed), false);
                    }
                    Err(RecvError::Closed) => {
                        return (end("shutdown", "the gateway is shutting down", 0), false);
                    }
                },
                _ = self.every.tick() => {
                    // A key that was revoked meanwhile sees no more.
                    return match self.who.admit(&self.parts, self.scope).await {
                        Ok(_) => (": watching\n\n".to_owned(), true),
                        Err((error, _)) => (end(error.code().name(), error.say(), 0), false),
                    };
                }
            }
        }
    }
}

fn end(reason: &str, detail: &str, missed: u64) -> String {
    event("end", &json!({"reason": reason, "detail": detail, "missed": missed}))
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
