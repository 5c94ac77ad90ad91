//! One attempt: a provider is asked, and what it says first is held until there is content in it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use penstock_domain::{Code, Delta, Error, Remedy, Request, Task};
use penstock_provider::{Call, Deltas, Provider, within};
use penstock_routing::Candidate;

use super::{Terms, call_of, count};
use crate::Flow;
use crate::doors::Asking;

/// Lifecycle events held before the first content, and their bytes: enough for any vendor's opening, and a bound for a
/// hostile one (the figures are Bifrost's, see reliability.md A1).
const HELD: u32 = 64;
const HELD_BYTES: usize = 256 << 10;

/// The longest that any attempt may take before its first content, whatever the provider's own time-outs say.
const FIRST_CONTENT: Duration = Duration::from_secs(600);

/// A call that is about to be made.
pub(super) struct Attempt {
    provider: Arc<dyn Provider>,
    call: Call,
    /// The bound of the answer that holds instead of what was asked for.
    pub(super) clamped: Option<u32>,
}

/// An answer whose first content is in hand, with everything that came before it.
pub(super) struct Begun {
    pub(super) held: Vec<Delta>,
    pub(super) rest: Deltas,
}

impl Attempt {
    /// The call of a candidate, within its own bounds; `None` when its provider is not in this snapshot.
    pub(super) fn of(flow: &Flow, candidate: &Candidate, terms: &mut Terms) -> Option<Self> {
        let provider = Arc::clone(flow.parts.providers.get(&candidate.target.provider)?);
        let (request, clamped) = terms.request_for(candidate.serves.as_deref());
        Some(Self { provider, call: call_of(candidate, &request), clamped })
    }

    /// The same call with another request.
    pub(super) fn asking(mut self, request: Arc<Request>) -> Self {
        self.call.request = request;
        self
    }

    pub(super) fn request(&self) -> &Arc<Request> {
        &self.call.request
    }

    /// Makes the call, once the other gateways agree; who turns it away is none of the provider's, and the call never begins.
    ///
    /// # Errors
    /// As [`Attempt::first_content`].
    pub(super) async fn asked(self, asking: Option<Asking>) -> Result<Begun, Error> {
        if let Some(asking) = asking {
            // It speaks of our own limits and against nobody.
            Box::pin(asking.ask()).await.map_err(|shut| shut.error.with_remedy(Remedy::None))?;
        }
        self.first_content().await
    }

    /// Makes the call. The asker's deadline is never begun anew.
    ///
    /// # Errors
    /// What kept the provider from giving any content.
    pub(super) async fn first_content(self) -> Result<Begun, Error> {
        let Self { provider, call, .. } = self;
        let deadline = call.deadline;
        let late = || Error::new(Code::UpstreamTimeout, "the provider gave no first token in time");
        let content = std::pin::pin!(content(provider.as_ref(), call));
        within(FIRST_CONTENT, deadline, late, content).await?
    }
}

async fn content(provider: &dyn Provider, call: Call) -> Result<Begun, Error> {
    let mut rest = start(provider, call).await?;
    let mut held = Vec::new();
    let mut room = Room { events: HELD, bytes: HELD_BYTES };
    while let Some(delta) = rest.next().await {
        match delta {
            Delta::Failed(error) => return Err(error),
            delta if delta.is_content() => {
                held.push(delta);
                return Ok(Begun { held, rest });
            }
            delta => {
                room.take(&delta)?;
                held.push(delta);
            }
        }
    }
    Err(Error::new(Code::UpstreamBadResponse, "the provider ended its answer before giving any content"))
}

/// What may still be held.
struct Room {
    events: u32,
    bytes: usize,
}

impl Room {
    fn take(&mut self, delta: &Delta) -> Result<(), Error> {
        let (events, bytes) = match delta {
            Delta::Raw(raw) => (raw.notes.events.max(1), raw.bytes.len()),
            _ => (1, 0),
        };
        match (self.events.checked_sub(events), self.bytes.checked_sub(bytes)) {
            (Some(events), Some(bytes)) => {
                (self.events, self.bytes) = (events, bytes);
                Ok(())
            }
            _ => Err(Error::new(Code::UpstreamBadResponse, "the provider opened its answer without end")),
        }
    }
}

async fn start(provider: &dyn Provider, call: Call) -> Result<Deltas, Error> {
    let task = call.request.task;
    let unable = || {
        let what = match task {
            Task::Chat => "chat",
            Task::Completion => "complete a prompt",
            Task::Embedding => "embed",
            Task::Relay => "pass on requests that penstock does not know",
            Task::CountTokens => "chat",
        };
        let kind = provider.kind();
        let say = format!("the provider behind this model (kind {kind}) cannot {what}; choose another model");
        Error::new(Code::Unsupported, say).with_param("model")
    };
    match task {
        Task::Chat => provider.chat().ok_or_else(unable)?.chat(call).await,
        Task::Completion => provider.complete().ok_or_else(unable)?.complete(call).await,
        Task::Embedding => provider.embed().ok_or_else(unable)?.embed(call).await,
        Task::Relay => provider.relay().ok_or_else(unable)?.relay(call).await,
        Task::CountTokens => match provider.count() {
            Some(ability) => ability.count(call).await,
            // Who chats can be counted for, if need be by us.
            None if provider.chat().is_some() => count::count(call).await,
            None => Err(unable()),
        },
    }
}
