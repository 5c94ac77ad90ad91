//! `penstock openapi`: the document that `/openapi.json` serves.

use std::process::ExitCode;

use crate::{Failure, terminal, wiring};

/// Prints the document.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    terminal::line(String::from_utf8_lossy(&wiring::openapi()));
    Ok(ExitCode::SUCCESS)
}
