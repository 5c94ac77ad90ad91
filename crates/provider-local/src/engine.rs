//! One model on one thread.
//!
//! What it is: the handle to a thread that owns a model's context, and the queue in front of it.
//!
//! What it promises: making an engine returns at once, loading happens on the engine's thread, and requests that come
//! meanwhile wait for it within bounds. The queue is bounded: a request that finds it full is told so. When the thread
//! fails, each of its requests ends with an error and later ones are refused with the reason; nobody hangs.
//!
//! What it refuses to know: conversations, templates, tools' meaning. It takes tokens and gives deltas.

mod busy;
mod embedder;
mod sequence;
mod slots;
mod worker;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use llama_cpp_2::token::LlamaToken;
use penstock_domain::{Code, Delta, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot, watch};

use self::busy::Busy;
pub(crate) use self::busy::stopping;
pub use self::busy::{settle, stop};
use crate::answer::{Matcher, Rules};
use crate::journal;
use crate::loaded::Loaded;
use crate::model;
use crate::settings::Settings;

/// How long a request waits for a model that is still loading.
const LOADING: Duration = Duration::from_secs(120);
/// How often a missing model is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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

/// Cache, name and settings of an engine that somebody may still use.
type Known = (PathBuf, String, Arc<Settings>, Weak<Engine>);

/// The handle.
pub(crate) struct Engine {
    state: watch::Receiver<State>,
    work: mpsc::Sender<Work>,
    places: Arc<Semaphore>,
    most: u32,
}

impl Engine {
    /// The engine of a model. Providers with the same settings share one, so that a reloaded configuration does not load
    /// the model again.
    pub(crate) fn shared(cache: &Path, name: &str, settings: &Arc<Settings>) -> Arc<Self> {
        static ENGINES: Mutex<Vec<Known>> = Mutex::new(Vec::new());
        let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
        engines.retain(|(.., engine)| engine.strong_count() > 0);
        let same = engines.iter().find(|(at, of, with, _)| at == cache && of == name && with == settings);
        let alive = same.and_then(|(.., engine)| engine.upgrade()).filter(|engine| !engine.work.is_closed());
        alive.unwrap_or_else(|| {
            let engine = Arc::new(Self::start(cache.to_owned(), name.to_owned(), settings.clone()));
            engines.push((cache.to_owned(), name.to_owned(), settings.clone(), Arc::downgrade(&engine)));
            engine
        })
    }

    /// Starts the thread and returns at once.
    fn start(cache: PathBuf, name: String, settings: Arc<Settings>) -> Self {
        let most = settings.parallel + settings.queue;
        let (state, states) = watch::channel(State::Loading);
        let (work, orders) = mpsc::channel(most as usize + 1);
        let places = Arc::new(Semaphore::new(most as usize));
        let thread = std::thread::Builder::new().name(format!("model {name}").chars().take(15).collect());
        let failed = state.clone();
        let mut busy = Busy::new();
        let started = thread.spawn(move || {
            let run = || journal::listening(|| live(&cache, &name, &settings, (&state, orders), &mut busy));
            let why = match std::panic::catch_unwind(AssertUnwindSafe(run)) {
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
    cache: &Path,
    name: &str,
    settings: &Settings,
    (state, orders): (&watch::Sender<State>, mpsc::Receiver<Work>),
    busy: &mut Busy,
) -> Result<(), String> {
    let own = settings.path.as_deref().filter(|_| settings.model == name);
    // A model that is not installed may be fetched while the gateway runs.
    while let Err(missing) = model::glance(cache, name, own) {
        tracing::warn!(model = %name, "{missing}");
        state.send_replace(State::Failed(missing.to_string().into()));
        while model::glance(cache, name, own).is_err() {
            if orders.is_closed() || stopping() {
                return Ok(());
            }
            busy.apart(|| std::thread::sleep(LOOK_AGAIN));
        }
    }
    state.send_replace(State::Loading);
    let begun = std::time::Instant::now();
    let loaded = Arc::new(Loaded::load(cache, name, settings)?);
    let ready = || {
        journal::flush();
        tracing::debug!(model = %name, elapsed = ?begun.elapsed(), "the model is loaded");
        state.send_replace(State::Ready(loaded.clone()));
    };
    if loaded.embeds {
        embedder::run(&loaded, settings, ready, (orders, busy))
    } else {
        worker::run(&loaded, settings, ready, (orders, busy))
    }
}
