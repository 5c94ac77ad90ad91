//! A model in memory, with everything that can be read from several threads: weights, vocabulary, template, grammars.

use std::path::Path;
use std::sync::OnceLock;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

use crate::answer::Grammars;
use crate::cpu;
use crate::engine;
use crate::journal;
use crate::model::{self, Peek};
use crate::prompt::Template;
use crate::settings::Settings;
use crate::vocabulary::Vocabulary;

/// Most tokens of one request when nobody says otherwise.
const USUAL_CONTEXT: u32 = 8192;

/// A loaded model. Immutable; the context with its key-value memory stays on the engine's thread.
pub(crate) struct Loaded {
    pub(crate) model: LlamaModel,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) template: Template,
    pub(crate) grammars: Grammars,
    /// Whether this is an embedding model.
    pub(crate) embeds: bool,
    /// Longest prompt and answer of one request together.
    pub(crate) context: u32,
    /// For requests that name none.
    pub(crate) temperature: f32,
    /// For requests that name none.
    pub(crate) top_p: f32,
}

/// The engine's process-wide state. It can be made once only, so it lives as long as the process.
pub(crate) fn backend() -> Result<&'static LlamaBackend, String> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let made = BACKEND.get_or_init(|| {
        cpu::check()?;
        journal::route();
        LlamaBackend::init().map_err(|error| format!("the engine could not be initialised: {error}"))
    });
    made.as_ref().map_err(Clone::clone)
}

impl Loaded {
    /// Finds, verifies and loads a model. Slow; belongs on the engine's own thread.
    pub(crate) fn load(cache: &Path, name: &str, settings: &Settings) -> Result<Self, String> {
        let own = settings.path.as_deref().filter(|_| settings.model == name);
        let backend = backend()?;
        let path = model::resolve(cache, name, own).map_err(|error| error.to_string())?;
        let peek = Peek::at(&path).map_err(|error| error.to_string())?;
        let params = LlamaModelParams::default().with_progress_callback(|_| !engine::stopping());
        let loading = LlamaModel::load_from_file(backend, &path, &params);
        let said = journal::flush();
        let model = loading.map_err(|error| {
            let why = said.unwrap_or_else(|| error.to_string());
            format!("{} ({}) could not be loaded: {why}; use a GGUF file of an architecture that this engine knows", path.display(), peek.architecture)
        })?;
        // The template inside the catalogue's model invents a system turn ("you are SmolLM …") when there is none, and with
        // it the quantised model answers plain questions in broken French. The common form without that turn is used.
        let source =
            own.and_then(|_| model.chat_template(None).ok()).and_then(|template| template.to_string().ok());
        let template = Template::new(source).map_err(|error| {
            format!("the chat template inside {} cannot be compiled: {error}", path.display())
        })?;
        let trained = model.n_ctx_train().max(1);
        let context = settings.context.filter(|_| own.is_some() || settings.model == name);
        let context = context.unwrap_or(USUAL_CONTEXT.min(trained));
        // The engine only warns when asked for more than the model learned; the answers would be noise.
        let context = if peek.pools { context.min(trained) } else { context };
        Ok(Self {
            vocabulary: Vocabulary::of(&model),
            template,
            grammars: Grammars::default(),
            embeds: peek.pools,
            context,
            temperature: settings.temperature.unwrap_or(if own.is_some() { 0.7 } else { 0.2 }),
            top_p: settings.top_p.unwrap_or(0.9),
            model,
        })
    }
}
