//! `penstock mock`: the scripted model server.

use std::process::ExitCode;

use penstock_provider_mock::{MockServer, Script};

use crate::cli::Mock;
use crate::serving::Signals;
use crate::{Failure, terminal};

/// Serves until interrupted.
pub(crate) fn run(args: &Mock) -> Result<ExitCode, Failure> {
    let script = match &args.script {
        None => Script::default(),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| format!("the script {} cannot be read: {error}", file.display()))?;
            Script::from_json(&text).map_err(|error| format!("the script {}: {error}", file.display()))?
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot start: {error}"))?;
    runtime.block_on(async {
        let server = MockServer::bind(args.listen, script)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
        let mut signals = Signals::catch()?;
        terminal::line(format!("mock: http://{}/v1   counts: http://{0}/mock/stats", server.addr()));
        server.serve_until(async move { signals.terminated().await }).await;
        Ok(ExitCode::SUCCESS)
    })
}
