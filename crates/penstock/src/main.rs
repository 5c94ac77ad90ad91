//! The `penstock` program: what the user types, and the wiring of all parts.
//!
//! This is the only crate that knows every other one, and the only one with feature flags.

mod administration;
mod alerts;
mod audit;
mod cli;
mod client;
mod data;
mod house;
mod idempotency;
mod ledger;
mod logging;
mod people;
mod records;
mod reload;
mod responses;
mod serving;
mod snapshots;
mod stores;
mod terminal;
mod verb;
mod wiring;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{AuditVerb, Cli, ConfigVerb, KeysVerb, SessionsVerb, TeamsVerb, Verb};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why a verb failed: sentences for standard error. The exit code is 1.
pub(crate) struct Failure(pub(crate) String);

impl<T: Into<String>> From<T> for Failure {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

fn main() -> ExitCode {
    let ended = run(Cli::parse().verb);
    wiring::stop_engines();
    match ended {
        Ok(code) => code,
        Err(Failure(text)) => {
            terminal::note(format!("penstock: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Up(args) => verb::up::run(&args),
        Verb::Serve(args) => verb::serve::run(&args),
        Verb::Check(args) => verb::check::run(&args),
        Verb::Config(ConfigVerb::Schema) => verb::config::schema(),
        Verb::Config(ConfigVerb::Show(file)) => verb::config::show(&file),
        Verb::Keys(KeysVerb::Create(args)) => verb::keys::create(args),
        Verb::Keys(KeysVerb::List(args)) => verb::keys::list(&args),
        Verb::Keys(KeysVerb::Rotate(args)) => verb::keys::rotate(&args),
        Verb::Keys(KeysVerb::Revoke(args)) => verb::keys::revoke(&args),
        Verb::Teams(TeamsVerb::Create(args)) => verb::teams::create(&args),
        Verb::Teams(TeamsVerb::List(args)) => verb::teams::list(&args),
        Verb::Teams(TeamsVerb::Show(args)) => verb::teams::show(&args),
        Verb::Teams(TeamsVerb::Update(args)) => verb::teams::update(&args),
        Verb::Teams(TeamsVerb::Delete(args)) => verb::teams::delete(&args),
        Verb::Sessions(SessionsVerb::List(args)) => verb::sessions::list(&args),
        Verb::Sessions(SessionsVerb::End(args)) => verb::sessions::end(&args),
        Verb::Chat(args) => verb::chat::run(&args),
        Verb::Mock(args) => verb::mock::run(&args),
        Verb::Doctor(args) => verb::doctor::run(&args),
        Verb::Explain(args) => verb::explain::run(&args),
        Verb::Spend(args) => verb::spend::run(&args),
        Verb::Audit(AuditVerb::List(args)) => verb::audit::list(&args),
        Verb::Audit(AuditVerb::Verify(args)) => verb::audit::verify(&args),
        Verb::Openapi => verb::openapi::run(),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "penstock", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}
