//! One file per verb.

pub(crate) mod audit;
pub(crate) mod chat;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod keys;
pub(crate) mod mock;
pub(crate) mod openapi;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod spend;
pub(crate) mod teams;
pub(crate) mod up;

use std::future::Future;
use std::path::Path;

use penstock_config::{Loaded, Problem, ProcessEnvironment};

use crate::{Failure, wiring};

/// Loads the configuration and builds its providers once, so that problems of either kind come in one list.
pub(crate) fn load(path: &Path) -> Result<Loaded, Failure> {
    let kinds = wiring::kinds();
    penstock_config::load(path, &ProcessEnvironment, &kinds)
        .map_err(|problems| Failure(report(path, &problems)))
}

/// All problems, one under the other, with a closing count.
pub(crate) fn report(path: &Path, problems: &[Problem]) -> String {
    let count = problems.len();
    let plural = if count == 1 { "problem" } else { "problems" };
    format!("{} has {count} {plural}\n\n{}", path.display(), penstock_config::report(problems))
}

/// Runs a verb that waits on the network or the database, on one thread.
pub(crate) fn block<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot start: {error}"))?;
    runtime.block_on(work)
}

/// Whether a model of this name is likely to chat: what the gateway knows of a model is where it is, not what it can.
pub(crate) fn chats(name: &str) -> bool {
    !name.contains("embed") && name != "minilm" && !name.ends_with('*')
}
