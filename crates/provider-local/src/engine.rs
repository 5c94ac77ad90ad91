//! One model on one thread.
//!
//! What it is: the handle to a thread that owns a model's context, and the queue in front of it.
//!
//! What it promises: making an engine returns at once, loading happens on the engine's thread, and requests that come
//! meanwhile wait for it within bounds. The queue is bounded: a request that finds it full is told so. When the thread
//! fails, each of its requests ends with an error and later ones are refused with the reason; nobody hangs.
//!
//! What it refuses to know: conversations, templates, tools' meaning. It takes tokens and gives deltas.

mod embedder;
mod sequence;
mod slots;
mod worker;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use llama_cpp_2::token::LlamaToken;
use penstock_domain::{Code, Delta, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot, watch};

use crate::answer::{Matcher, Rules};
use crate::journal;
use crate::loaded::Loaded;
use crate::settings::Settings;

/// How long a request waits for a model that is still loading.
const LOADING: Duration = Duration::from_secs(120);

/// Where an engine stands.
#[derive(Clone)]
pub(crate) enum State {
    Loading,
    Ready(Arc<Loaded>),
    Failed(Arc<str>),
}

/// How an answer is made, beyond the prompt.
pub(crate) struct Plan {
    pub(crate) rules: Rules,
    /// Most tokens of an answer.
    pub(crate) most: u32,
    pub(crate) stops: Vec<String>,
    /// The shape that every answer must have.
    pub(crate) shape: Option<Matcher>,
    pub(crate) tools: Tools,
}

/// What to make of tool calls in the answer.
pub(crate) enum Tools {
    /// Nothing: all is text.
    Ignored,
    /// Find calls of these tools.
    Free(Vec<String>),
    /// The answer is one call.
    Forced,
}

/// A request to generate. Choice numbers count all answers of the first prompt, then all of the second.
pub(crate) struct Order {
    pub(crate) prompts: Vec<Vec<LlamaToken>>,
    pub(crate) choices: u32,
    pub(crate) plan: Plan,
    pub(crate) replies: mpsc::Sender<Delta>,
}

/// A request to embed.
pub(crate) struct EmbedOrder {
    pub(crate) inputs: Vec<Vec<LlamaToken>>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Vec<f32>>, Error>>,
}

/// What goes to the thread, with the places in the queue that it holds.
enum Work {
    Generate(Box<Order>, OwnedSemaphorePermit),
    Embed(EmbedOrder, OwnedSemaphorePermit),
}

/// The handle.
pub(crate) struct Engine {
    state: watch::Receiver<State>,
    work: mpsc::Sender<Work>,
    places: Arc<Semaphore>,
    most: u32,
}

impl Engine {
    /// Starts the thread and returns at once.
    pub(crate) fn start(cache: PathBuf, name: String, settings: Arc<Settings>) -> Self {
        let most = settings.parallel + settings.queue;
        let (state, states) = watch::channel(State::Loading);
        let (work, orders) = mpsc::channel(most as usize + 1);
        let places = Arc::new(Semaphore::new(most as usize));
        let thread = std::thread::Builder::new().name(format!("model {name}").chars().take(15).collect());
        let failed = state.clone();
        let started = thread.spawn(move || {
            let run = || journal::listening(|| live(&cache, &name, &settings, &state, orders));
            let ended = std::panic::catch_unwind(AssertUnwindSafe(run));
            let why = match ended {
                Ok(Ok(())) => return,
                Ok(Err(why)) => why,
                Err(_) => format!("the engine of {name} stopped after an internal fault; restart the gateway and report this"),
            };
            tracing::error!(model = %name, "{why}");
            state.send_replace(State::Failed(why.into()));
        });
        if let Err(error) = started {
            failed.send_replace(State::Failed(
                format!("no thread for the model could be started: {error}").into(),
            ));
        }
        Self { state: states, work, places, most }
    }

    /// Where it stands, without waiting.
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The model; waits while it is loading.
    pub(crate) async fn loaded(&self) -> Result<Arc<Loaded>, Error> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::Loading));
        match tokio::time::timeout(LOADING, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Ready(loaded) => Ok(loaded.clone()),
                State::Failed(why) => Err(unavailable(why.to_string())),
                State::Loading => Err(unavailable("the model is still loading")),
            },
            Ok(Err(_)) => Err(unavailable("the engine has stopped; restart the gateway")),
            Err(_) => Err(unavailable(format!(
                "the model is still loading after {} s; try again later",
                LOADING.as_secs()
            ))),
        }
    }

    /// Queues a request to generate.
    pub(crate) fn generate(&self, order: Order) -> Result<(), Error> {
        let sequences = u32::try_from(order.prompts.len()).unwrap_or(u32::MAX).saturating_mul(order.choices);
        let permit = self.places(sequences)?;
        self.send(Work::Generate(Box::new(order), permit))
    }

    /// Queues a request to embed.
    pub(crate) fn embed(&self, order: EmbedOrder) -> Result<(), Error> {
        let permit = self.places(1)?;
        self.send(Work::Embed(order, permit))
    }

    fn places(&self, count: u32) -> Result<OwnedSemaphorePermit, Error> {
        if count > self.most {
            let said = format!("one request may ask for {} answers at most, found {count}", self.most);
            return Err(Error::new(Code::InvalidValue, said).with_param("n"));
        }
        self.places.clone().try_acquire_many_owned(count).map_err(|error| match error {
            TryAcquireError::NoPermits => Error::new(
                Code::Overloaded,
                format!("the queue of the embedded model is full ({} requests): try again later", self.most),
            ),
            TryAcquireError::Closed => unavailable("the engine has stopped; restart the gateway"),
        })
    }

    fn send(&self, work: Work) -> Result<(), Error> {
        // Each message holds a place, and there are fewer places than room in the channel.
        self.work.try_send(work).map_err(|_| match self.state() {
            State::Failed(why) => unavailable(why.to_string()),
            _ => unavailable("the engine has stopped; restart the gateway"),
        })
    }
}

/// An error for "there is no model to ask".
pub(crate) fn unavailable(say: impl Into<String>) -> Error {
    Error::new(Code::LocalModelUnavailable, say)
}

/// The life of the thread: load, then work until the handle is gone.
fn live(
    cache: &std::path::Path,
    name: &str,
    settings: &Settings,
    state: &watch::Sender<State>,
    orders: mpsc::Receiver<Work>,
) -> Result<(), String> {
    let begun = std::time::Instant::now();
    let loaded = Arc::new(Loaded::load(cache, name, settings)?);
    let ready = || {
        journal::flush();
        tracing::debug!(model = %name, elapsed = ?begun.elapsed(), "the model is loaded");
        state.send_replace(State::Ready(loaded.clone()));
    };
    if loaded.embeds {
        embedder::run(&loaded, settings, ready, orders)
    } else {
        worker::run(&loaded, settings, ready, orders)
    }
}
