//! What becomes of an answer: it is kept before its last byte leaves, and it says whether it was.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use penstock_conversation::{Conversations, Kept, Owner, Policy, Turn};
use penstock_dialect::responses::state::{self, Item};
use penstock_dialect::responses::told::Told;

/// Most items of one turn that later requests may name by their ids.
const NAMED: usize = 1_000;

/// What becomes of one answer.
pub(crate) struct After {
    conversations: Arc<Conversations>,
    policy: Policy,
    previous: Option<Arc<str>>,
    draft: Option<Draft>,
}

/// What is known of a turn before it is answered.
struct Draft {
    owner: Owner,
    created: SystemTime,
    input: Bytes,
    items: Vec<Arc<str>>,
}

/// What becomes of some events.
pub(crate) enum Pass {
    /// They leave.
    Now(Bytes),
    /// They have the end of the answer, and leave when it is kept.
    Saved(Saving),
}

/// Events on hold.
pub(crate) type Saving = Pin<Box<dyn Future<Output = Bytes> + Send>>;

impl After {
    /// An answer that is not kept, and says so.
    pub(super) fn new(conversations: Arc<Conversations>, policy: Policy, previous: Option<Arc<str>>) -> Self {
        Self { conversations, policy, previous, draft: None }
    }

    /// Keeps it, for this owner, with what was asked.
    pub(super) fn keep(&mut self, owner: Owner, asked: Vec<Item>, now: SystemTime) {
        let texts: Vec<&str> = asked.iter().map(|item| item.json.as_str()).collect();
        let input = Bytes::from(format!("{{\"input\":[{}]}}", texts.join(",")));
        let items = asked.iter().take(NAMED).map(|item| Arc::from(item.id.as_str())).collect();
        self.draft = Some(Draft { owner, created: now, input, items });
    }

    fn told(&self, store: bool) -> Told<'_> {
        Told { store, previous: self.previous.as_deref() }
    }

    /// A whole answer, kept.
    pub(crate) async fn whole(mut self, body: Bytes) -> Bytes {
        let response = self.told(self.draft.is_some()).in_body(&body);
        if self.save(response.clone()).await { response } else { self.told(false).in_body(&body) }
    }

    /// Some events on their way out; the last ones once the answer is kept.
    pub(crate) fn pass(this: &mut Option<Self>, events: Bytes) -> Pass {
        let Some(after) = this else { return Pass::Now(events) };
        let Some(last) = state::final_response(&events) else {
            return Pass::Now(after.told(after.draft.is_some()).in_events(&events));
        };
        let Some(mut after) = this.take() else { return Pass::Now(events) };
        Pass::Saved(Box::pin(async move {
            let response = after.told(after.draft.is_some()).in_body(&last);
            let stored = after.save(response).await;
            after.told(stored).in_events(&events)
        }))
    }

    /// Whether the response is kept now.
    async fn save(&mut self, response: Bytes) -> bool {
        let Some(Draft { owner, created, input, mut items }) = self.draft.take() else { return false };
        let answered = state::output_items(&response).unwrap_or_default();
        // What was answered is named more often than what was asked.
        items.splice(0..0, answered.iter().map(|item| Arc::from(item.id.as_str())));
        items.truncate(NAMED);
        let turn = Turn {
            id: state::response_id(&response).unwrap_or_default().into(),
            owner,
            previous: self.previous.clone(),
            created,
            expires: created + self.policy.retention,
            response,
            input,
            items: items.into(),
        };
        self.conversations.keep(turn, &self.policy).await == Kept::Stored
    }
}
