//! `penstock config schema` and `penstock config show`.

use std::process::ExitCode;

use crate::cli::ConfigFile;
use crate::{Failure, terminal, wiring};

/// Prints the JSON Schema of the file, every kind of this build included.
pub(crate) fn schema() -> Result<ExitCode, Failure> {
    terminal::line(pretty(&penstock_config::schema(&wiring::kinds())));
    Ok(ExitCode::SUCCESS)
}

/// Prints the effective configuration, defaults filled in, secrets hidden.
pub(crate) fn show(file: &ConfigFile) -> Result<ExitCode, Failure> {
    let loaded = super::load(&file.config)?;
    terminal::line(pretty(penstock_config::show(&loaded)));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}")
}
