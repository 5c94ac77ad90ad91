//! Responses: what was said before comes in with the request, and what is said now is kept when the answer leaves.
//!
//! What it promises: a request goes down the path with everything before it in its own input, so that any vendor can
//! answer it; what was said before comes from the caller's own store alone, and is read for callers who have proved who
//! they are; an answer that says `store: true` when it is complete can be asked for from then on.
//!
//! What it refuses to know: where turns are kept, what items mean, which vendor answers.

mod keep;
mod objects;
mod query;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use penstock_conversation::{Conversations, Owner, Turn};
use penstock_dialect::responses::{state, told};
use penstock_domain::{Code, Credential, Error, Json, Request, Task};
use penstock_flow::{Caller, Flow, Scope};

use crate::decode::nobody_asks;
use crate::edge::Inner;

pub(crate) use keep::{After, Pass, Saving};
pub use objects::Stored;

/// What an earlier request can be named by in the input of this one.
const REFERENCE: &[u8] = b"\"item_reference\"";

/// A responses request, ready for the path.
#[derive(Default)]
pub(crate) struct Recalled {
    /// What goes down in place of what was asked, if they differ.
    pub(crate) request: Option<Request>,
    /// What becomes of the answer; `None` when it leaves as it comes.
    pub(crate) after: Option<After>,
}

/// Whose a caller's responses are.
pub(crate) fn owner(caller: &Caller) -> Owner {
    match &caller.team {
        Some(team) => Owner::team(team),
        None => Owner::key(caller.key_id.as_str()),
    }
}

/// Puts what was said before into a request, and notes what is to be kept of its answer.
///
/// A caller who may not ask gets no further here and is refused on the path, with a record, like everybody else.
///
/// # Errors
/// `previous_response_not_found`; `not_found` for an item; `invalid_value` for too long a conversation;
/// `store_unavailable`.
pub(crate) async fn recall(
    edge: &Inner,
    flow: &Flow,
    asked: &Request,
    (credential, scope): (&Credential, Scope),
) -> Result<Recalled, Error> {
    let head = state::head(asked.body.bytes())?;
    let conversations = &edge.extra.conversations;
    let policy = conversations.policy();
    // A count answers nothing that could be kept.
    let counts = asked.task == Task::CountTokens;
    let wished = !counts && head.store.unwrap_or(true);
    let names_items = memchr::memmem::find(asked.body.bytes(), REFERENCE).is_some();
    if !wished && head.previous_response_id.is_none() && !names_items {
        return Ok(Recalled::default());
    }
    let Ok(caller) = flow.authorize(credential, scope, Some(&asked.model)) else {
        return Ok(Recalled::default());
    };
    let owner = owner(&caller);
    let now = SystemTime::now();

    let mut body = asked.body.bytes().clone();
    if names_items {
        body = resolve(conversations, &owner, &body, now).await?;
    }
    let own = body.clone();
    if let Some(previous) = &head.previous_response_id {
        let mut earlier = Vec::new();
        for turn in conversations.before(&owner, previous, now).await? {
            said(&turn, &mut earlier)?;
        }
        body = state::merge(&body, &earlier)?;
    }
    let previous: Option<Arc<str>> = head.previous_response_id.as_deref().map(Arc::from);
    let mut after = After::new(Arc::clone(conversations), policy, previous);
    if wished && policy.store {
        // Items of the answer are numbered after the request's id as well.
        let tail = format!("{}_in", asked.id.as_str().trim_start_matches("req_"));
        after.keep(owner, state::items_of_request(&own, &tail)?, now);
        // Reasoning that its vendor does not seal is lost for the turns after: nobody but us keeps anything.
        body = told::seals_wanted(&body)?.unwrap_or(body);
    }
    let same = body.len() == asked.body.bytes().len() && body.as_ptr() == asked.body.bytes().as_ptr();
    let request = if same { None } else { Some(decoded(edge, asked, body)?) };
    Ok(Recalled { request, after: (!counts).then_some(after) })
}

/// The body with the items that it only names.
async fn resolve(
    conversations: &Conversations,
    owner: &Owner,
    body: &Bytes,
    now: SystemTime,
) -> Result<Bytes, Error> {
    let names = state::references(body)?;
    if names.is_empty() {
        return Ok(body.clone());
    }
    let mut known: HashMap<String, Json> = HashMap::new();
    for turn in conversations.holding(owner, &names, now).await? {
        let items = input(&turn)?.into_iter().chain(output(&turn)?);
        known.extend(items.map(|item| (item.id, item.json)));
    }
    state::resolve(body, |id| known.get(id).cloned())
}

/// What a turn adds to the input of the turns after it. A failed answer adds nothing: it may end in the middle of a call.
fn said(turn: &Turn, earlier: &mut Vec<Json>) -> Result<(), Error> {
    earlier.extend(input(turn)?.into_iter().map(|item| item.json));
    if told::status(&turn.response).as_deref() != Some("failed") {
        earlier.extend(output(turn)?.into_iter().map(|item| item.json));
    }
    Ok(())
}

/// The items that a turn was asked with.
fn input(turn: &Turn) -> Result<Vec<state::Item>, Error> {
    state::items_of_request(&turn.input, &turn.id).map_err(unreadable)
}

/// The items that a turn answered with.
fn output(turn: &Turn) -> Result<Vec<state::Item>, Error> {
    state::output_items(&turn.response).map_err(unreadable)
}

fn unreadable(error: Error) -> Error {
    Error::new(Code::InternalError, "a stored response cannot be read").with_source(error)
}

/// The request with another body.
fn decoded(edge: &Inner, asked: &Request, body: Bytes) -> Result<Request, Error> {
    let asker = penstock_dialect::asker(asked.body.dialect()).ok_or_else(nobody_asks)?;
    let decoded = asker.decode(asked.task, body, &edge.settings.decode)?;
    Ok(Request { body: decoded.body, ..asked.clone() })
}
