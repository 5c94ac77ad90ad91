//! Stored responses as objects of the API: read, replayed, deleted, and what they were asked with.
//!
//! What it promises: an object of somebody else reads exactly like one that does not exist.

use std::time::SystemTime;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use penstock_conversation::{Conversations, Owner};
use penstock_dialect::responses::{replay, state::Item};
use penstock_domain::{Code, Error};
use penstock_flow::Scope;
use serde_json::{Value, json};

use super::query::{Query, wrong};
use crate::edge::{self, Visit};
use crate::error::Refused;
use crate::reply::Reply;
use crate::routes;

/// How many items a page has unless asked otherwise.
const PAGE: u64 = 20;
/// How many it has at most.
const MAX_PAGE: u64 = 100;

/// What is done with a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is read, or replayed as events.
    Read,
    /// It is removed.
    Delete,
    /// What it was asked with is listed.
    InputItems,
    /// It is to be stopped.
    Cancel,
}

impl Visit<'_> {
    /// Answers a route of a stored response.
    pub(crate) async fn stored(
        &self,
        (what, scope): (Stored, Scope),
        (rest, query): (&str, Option<&str>),
        headers: &HeaderMap,
    ) -> Result<Response<Reply>, Box<Refused>> {
        let flow = self.edge.gateway.snapshot();
        let caller = flow.authorize(&self.credential(headers), scope, None)?;
        let owner = super::owner(&caller);
        let id = routes::parameter(rest).unwrap_or_default();
        let conversations = &self.edge.extra.conversations;
        let query = Query::read(query)?;
        let outcome = match what {
            Stored::Read => read(conversations, &owner, &id, &query).await,
            Stored::Delete => delete(conversations, &owner, &id).await,
            Stored::InputItems => input_items(conversations, &owner, &id, &query).await,
            Stored::Cancel => cancel(conversations, &owner, &id).await,
        };
        Ok(outcome?)
    }
}

type Outcome = Result<Response<Reply>, Error>;

async fn read(conversations: &Conversations, owner: &Owner, id: &str, query: &Query<'_>) -> Outcome {
    // First whether it is ours: what is not may be asked elsewhere, by other rules.
    let turn = conversations.one(owner, id, SystemTime::now()).await?;
    let stream = query.flag("stream")?;
    let after = query.number("starting_after", 0, u64::MAX)?;
    if !stream {
        return Ok(edge::json(turn.response));
    }
    let events = replay::events(&turn.response, after).map_err(super::unreadable)?;
    let mut response = Response::new(Reply::whole(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

async fn delete(conversations: &Conversations, owner: &Owner, id: &str) -> Outcome {
    conversations.delete(owner, id, SystemTime::now()).await?;
    Ok(edge::json(json!({"id": id, "object": "response", "deleted": true}).to_string()))
}

async fn cancel(conversations: &Conversations, owner: &Owner, id: &str) -> Outcome {
    conversations.one(owner, id, SystemTime::now()).await?;
    let say = "only background responses can be cancelled, and none are made here yet: to stop an answer under way, close its connection";
    Err(Error::new(Code::Unsupported, say))
}

async fn input_items(conversations: &Conversations, owner: &Owner, id: &str, query: &Query<'_>) -> Outcome {
    let turns = conversations.history(owner, id, SystemTime::now()).await?;
    let limit = query.number("limit", 1, MAX_PAGE)?.unwrap_or(PAGE);
    let newest_first = match query.get("order") {
        None | Some("desc" | "") => true,
        Some("asc") => false,
        Some(_) => return Err(wrong("order", "must be asc or desc")),
    };
    let mut items: Vec<Item> = Vec::new();
    for (at, turn) in turns.iter().enumerate() {
        items.extend(super::input(turn)?);
        if at + 1 < turns.len() {
            items.extend(super::output(turn)?);
        }
    }
    if newest_first {
        items.reverse();
    }
    let first = match query.get("after") {
        None | Some("") => 0,
        Some(after) => {
            let place = items.iter().position(|item| item.id == after);
            place.ok_or_else(|| wrong("after", "names no item of this response"))? + 1
        }
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(edge::json(page(&items[first..], limit)))
}

/// A page in OpenAI's list shape. Items are written as they are kept.
fn page(items: &[Item], limit: usize) -> String {
    let shown = &items[..items.len().min(limit)];
    let texts: Vec<&str> = shown.iter().map(|item| item.json.as_str()).collect();
    let id = |item: Option<&Item>| item.map_or(Value::Null, |item| Value::from(item.id.as_str()));
    format!(
        "{{\"object\":\"list\",\"data\":[{}],\"first_id\":{},\"last_id\":{},\"has_more\":{}}}",
        texts.join(","),
        id(shown.first()),
        id(shown.last()),
        items.len() > limit
    )
}
