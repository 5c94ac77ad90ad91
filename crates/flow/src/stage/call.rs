//! Who answers: candidates are tried until the first content is in hand.
//!
//! Until then an attempt can fail without the asker seeing anything, so lifecycle deltas are held back (bounded). This
//! is the commit point of the docs: after it nothing is spliced, and an error becomes the last delta of the stream.

mod count;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use penstock_domain::{Code, Delta, Error, Task};
use penstock_provider::{Call, Deltas, Provider, within};

use super::route::Routed;
use crate::Flow;
use crate::journey::Journey;

/// Lifecycle deltas held before the first content: enough for any vendor's opening, and a bound for a hostile one.
const HELD: usize = 64;

/// The longest that any attempt may take before its first content, whatever the provider's own time-outs say.
const FIRST_CONTENT: Duration = Duration::from_secs(600);

/// An answer whose first content is in hand.
pub(crate) struct Live {
    pub(crate) deadline: Option<Instant>,
    pub(crate) held: Vec<Delta>,
    pub(crate) rest: Deltas,
}

/// Tries the candidates in order; the last error is the request's.
pub(crate) async fn call(flow: &Flow, journey: &mut Journey, routed: Routed) -> Result<Live, Error> {
    let Routed { request, mut plan } = routed;
    let mut last = Error::new(Code::NoProviderAvailable, "no provider of this model is configured");
    let mut failed = false;
    while let Some(pick) = plan.next(failed.then_some(&last), Instant::now()) {
        let target = &pick.candidate.target;
        failed = true;
        let Some(provider) = flow.parts.providers.get(&target.provider) else { continue };
        journey.attempt(&pick.candidate, &request);
        let attempt = Call {
            request: Arc::clone(&request),
            model: Arc::clone(&target.model),
            credential: target.credential,
            deadline: request.deadline,
        };
        let mut flight = pick.flight;
        let late = || Error::new(Code::UpstreamTimeout, "the provider gave no first token in time");
        let content = pin!(first_content(provider.as_ref(), attempt));
        match within(FIRST_CONTENT, request.deadline, late, content).await {
            Ok(Ok((mut held, rest))) => {
                flight.first_content(Instant::now());
                journey.dropped = dropped(&mut held);
                journey.counted =
                    held.iter().any(|delta| matches!(delta, Delta::Counted { estimated: true, .. }));
                return Ok(Live { deadline: request.deadline, held, rest });
            }
            Ok(Err(error)) | Err(error) => {
                flight.failed(&error, Instant::now());
                journey.tried(error.code().name());
                last = error;
            }
        }
    }
    Err(last)
}

async fn first_content(provider: &dyn Provider, call: Call) -> Result<(Vec<Delta>, Deltas), Error> {
    let mut deltas = start(provider, call).await?;
    let mut held = Vec::new();
    while let Some(delta) = deltas.next().await {
        match delta {
            Delta::Failed(error) => return Err(error),
            delta if delta.is_content() => {
                held.push(delta);
                return Ok((held, deltas));
            }
            _ if held.len() >= HELD => {
                return Err(Error::new(
                    Code::UpstreamBadResponse,
                    "the provider opened its answer without end",
                ));
            }
            delta => held.push(delta),
        }
    }
    Err(Error::new(Code::UpstreamBadResponse, "the provider ended its answer before giving any content"))
}

/// Takes out what the attempt's translation lost: news for the headers, not for the answer.
fn dropped(held: &mut Vec<Delta>) -> Vec<String> {
    let mut all = Vec::new();
    held.retain_mut(|delta| match delta {
        Delta::Dropped(names) => {
            all.append(names);
            false
        }
        _ => true,
    });
    all
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
