//! Embedded inference: a quantised chat model and an embedding model inside the gateway's own process.
//!
//! What it is: llama.cpp behind the provider ports. One OS thread per model generates for several requests at once; the
//! prompt comes from the model file's own chat template; answers can be forced into a JSON Schema or a tool call.
//!
//! What it promises: the gateway starts in milliseconds, models load behind it; a model that is missing, damaged or does
//! not load is told by health and by errors that say how to mend it; no request can crash or stall the engine, and a
//! dropped answer frees its place within one step. Memory: `context` bounds one request, `memory` is the total over all
//! requests and remembered prefixes, which share one pool.
//!
//! What it refuses to know: HTTP, client JSON, the network. Model files come from `scripts/fetch-models` or from the
//! operator.

mod answer;
mod cpu;
mod engine;
mod journal;
mod loaded;
mod model;
mod prompt;
mod provider;
mod settings;
mod vocabulary;

pub use engine::{settle, stop};
pub use model::{CATALOGUE, cache_dir};
pub use provider::LocalProvider;
pub use settings::Settings;
