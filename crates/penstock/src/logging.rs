//! Logs go to standard error: text for people, JSON for machines. The level of one module can be raised:
//! `log: {level: "info,penstock_flow=debug"}`.

use penstock_config::{Log, LogFormat};
use penstock_observe::{Format, Lines};
use tracing_subscriber::EnvFilter;

/// Starts logging for the life of the process.
pub(crate) fn start(log: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| {
        format!("log.level is `{}`: {error}; use error, warn, info, debug, trace or module=level", log.level)
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|error| format!("logging cannot start: {error}"))
}

/// Where the one line per request goes: beside all others, in the same form, without colours.
pub(crate) fn lines(log: &Log) -> Lines {
    let format = match log.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    Lines::new(format, Box::new(std::io::stderr()))
}
