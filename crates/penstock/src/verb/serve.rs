//! `penstock serve`: production start.

use std::process::ExitCode;

use crate::cli::Serve;
use crate::{Failure, serving};

/// Serves until SIGTERM.
pub(crate) fn run(args: &Serve) -> Result<ExitCode, Failure> {
    let mut loaded = super::load(&args.file.config)?;
    if let Some(listen) = args.listen {
        loaded.config.server.listen = listen;
    }
    serving::run(loaded, args.listen, |serving| async move {
        tracing::info!(address = %serving.address, config = %serving.loaded.source.path.display(), "serving");
        Ok(())
    })
}
