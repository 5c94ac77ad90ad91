//! `penstock check`: every problem of a configuration at once.

use std::process::ExitCode;

use penstock_config::{Config, Problem, ProcessEnvironment, Severity};
use penstock_provider::Health;
use serde_json::json;

use crate::cli::Check;
use crate::{Failure, stores, terminal, wiring};

/// The issuers of access tokens whose keys cannot be had from here.
async fn unreached_issuers(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, issuer) in config.auth.oidc.iter().enumerate() {
        if let Err(why) = penstock_identity_oidc::probe(issuer).await {
            problems.push(Problem::warning(format!("auth.oidc[{index}].issuer"), why));
        }
    }
    problems
}

/// The database that several gateways share, when it cannot be had from here.
async fn unreached_database(config: &Config) -> Option<Problem> {
    let error = stores::reach(config).await.err()?;
    Some(Problem::warning("stores.database", error.say()))
}

/// What gateways share, when it cannot be reached from here.
async fn unreached_gateways(config: &Config) -> Option<Problem> {
    let error = crate::ledger::reach_shared(config).await.err()?;
    Some(Problem::warning("stores.shared", error.say()))
}

/// Parses, cross-checks and builds every provider, without serving. Exit code 1 when anything is an error.
pub(crate) fn run(args: &Check) -> Result<ExitCode, Failure> {
    let path = &args.file.config;
    let (problems, loaded) = match penstock_config::load(path, &ProcessEnvironment, &wiring::kinds()) {
        Ok(loaded) => (loaded.warnings.clone(), Some(loaded)),
        Err(problems) => (problems, None),
    };
    let mut problems = problems;
    if let Some(loaded) = &loaded {
        problems.extend(wiring::unpriced(&loaded.config));
        match wiring::check_providers(&loaded.config) {
            Ok(providers) if args.online => {
                problems.extend(super::block(async { Ok(unreached_issuers(&loaded.config).await) })?);
                problems.extend(super::block(async { Ok(unreached_database(&loaded.config).await) })?);
                problems.extend(super::block(async { Ok(unreached_gateways(&loaded.config).await) })?);
                for (name, health) in
                    super::block(async { Ok(wiring::probe(&loaded.config, &providers).await) })?
                {
                    if let Health::Unavailable(why) = health {
                        problems.push(Problem::warning(format!("providers.{name}"), why));
                    }
                }
            }
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
    }
    let failed = problems.iter().any(|problem| problem.severity == Severity::Error);
    if args.json {
        let list: Vec<_> = problems.iter().map(Problem::to_json).collect();
        terminal::line(json!({"ok": !failed, "problems": list}).to_string());
    } else if problems.is_empty() {
        terminal::line(format!("{} is valid", path.display()));
    } else {
        terminal::line(super::report(path, &problems));
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
