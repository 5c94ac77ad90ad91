//! `penstock doctor`: what is wrong with this installation, and how to mend it.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use penstock_config::{Loaded, ProcessEnvironment};
use penstock_domain::Error;
use penstock_provider::Health;
use serde_json::json;

use crate::cli::Doctor;
use crate::client::{Ask, fetch};
use crate::people::People;
use crate::stores::Stores;
use crate::{Failure, data, terminal, wiring};

const PATIENCE: Duration = Duration::from_secs(5);

/// How one finding turned out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Look,
    Bad,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Verdict::Good => "ok",
            Verdict::Look => "warning",
            Verdict::Bad => "error",
        }
    }

    const fn mark(self) -> &'static str {
        match self {
            Verdict::Good => "✓",
            Verdict::Look => "!",
            Verdict::Bad => "✗",
        }
    }
}

struct Finding {
    what: String,
    verdict: Verdict,
    says: String,
}

fn finding(what: impl Into<String>, verdict: Verdict, says: impl Into<String>) -> Finding {
    Finding { what: what.into(), verdict, says: says.into() }
}

/// Looks at everything it can; exit code 1 when something is broken.
pub(crate) fn run(args: &Doctor) -> Result<ExitCode, Failure> {
    let findings = super::block(async { Ok(examine(&args.file.config).await) })?;
    let broken = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    if args.json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| json!({"check": f.what, "verdict": f.verdict.name(), "detail": f.says}))
            .collect();
        terminal::line(json!({"ok": !broken, "findings": list}).to_string());
    } else {
        for Finding { what, verdict, says } in &findings {
            terminal::line(format!("  {} {what:<12} {says}", verdict.mark()));
        }
    }
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn examine(path: &Path) -> Vec<Finding> {
    let loaded = match penstock_config::load(path, &ProcessEnvironment, &wiring::kinds()) {
        Ok(loaded) => loaded,
        Err(_) if !path.exists() => {
            let says = format!("{} is not there; `penstock up` writes one", path.display());
            return vec![finding("config", Verdict::Bad, says)];
        }
        Err(problems) => return vec![finding("config", Verdict::Bad, super::report(path, &problems))],
    };
    let mut findings = vec![match loaded.warnings.as_slice() {
        [] => finding("config", Verdict::Good, format!("{} is valid", path.display())),
        warnings => finding("config", Verdict::Look, super::report(path, warnings)),
    }];
    findings.push(data_folder(&loaded.config.data_dir));
    findings.push(database(&loaded).await);
    findings.push(records(&loaded).await);
    findings.extend(gateways(&loaded).await);
    providers(&loaded, &mut findings).await;
    findings.push(server(&loaded).await);
    findings
}

fn data_folder(dir: &Path) -> Finding {
    let probe = dir.join(".doctor");
    let written = data::prepare(dir).and_then(|()| {
        std::fs::write(&probe, b"probe")
            .map_err(|error| format!("{} cannot be written: {error}", dir.display()))
    });
    let _ = std::fs::remove_file(&probe);
    match written {
        Ok(()) => finding("data folder", Verdict::Good, format!("{} can be written", dir.display())),
        Err(says) => finding("data folder", Verdict::Bad, says),
    }
}

async fn database(loaded: &Loaded) -> Finding {
    let opened = async {
        let stores = Stores::of(&loaded.config)?;
        Ok::<_, Error>(People::open(&loaded.config, &stores).await?.keys)
    };
    let keys = match opened.await {
        Ok(keys) => keys,
        Err(error) => return finding("database", Verdict::Bad, error.say()),
    };
    match keys.list().len() {
        0 => {
            let says =
                "there is no API key yet; `penstock up` or `penstock keys create --name NAME` makes one";
            finding("database", Verdict::Look, says)
        }
        count => finding("database", Verdict::Good, format!("can be opened, {count} keys")),
    }
}

/// What this gateway shares with others, where it shares anything.
async fn gateways(loaded: &Loaded) -> Option<Finding> {
    match crate::ledger::reach_shared(&loaded.config).await {
        Ok(false) => None,
        Ok(true) => Some(finding("gateways", Verdict::Good, "the Redis that they share answers")),
        Err(error) => Some(finding("gateways", Verdict::Bad, format!("stores.shared: {}", error.say()))),
    }
}

/// Asking makes no file: the gateway does, with its first record.
async fn records(loaded: &Loaded) -> Finding {
    let stores = match Stores::of(&loaded.config) {
        Ok(stores) => stores,
        Err(error) => return finding("records", Verdict::Bad, error.say()),
    };
    if !stores.has_records() {
        return finding("records", Verdict::Good, "there is none yet; every request leaves one");
    }
    let found = stores.open_records().await;
    stores.close().await;
    match found {
        Ok(says) => finding("records", Verdict::Good, says),
        Err(error) => finding("records", Verdict::Bad, error.say()),
    }
}

async fn providers(loaded: &Loaded, findings: &mut Vec<Finding>) {
    let providers = match wiring::check_providers(&loaded.config) {
        Ok(providers) => providers,
        Err(problems) => {
            findings.push(finding("providers", Verdict::Bad, penstock_config::report(&problems)));
            return;
        }
    };
    if providers.is_empty() {
        findings.push(finding("providers", Verdict::Look, "there is none; add one under `providers`"));
    }
    for (name, health) in wiring::probe(&loaded.config, &providers).await {
        findings.push(match health {
            Health::Ready => finding(name, Verdict::Good, "answers"),
            Health::Starting => finding(name, Verdict::Look, "is still loading after a minute"),
            Health::Unavailable(why) => finding(name, Verdict::Look, why),
        });
    }
}

async fn server(loaded: &Loaded) -> Finding {
    let address = loaded.config.server.listen;
    match fetch(Ask { address, path: "/readyz", key: None, body: None }, PATIENCE).await {
        Ok((200, _)) => finding("gateway", Verdict::Good, format!("ready at http://{address}")),
        Ok((status, _)) => {
            let says = format!("something answers at {address}, but /readyz gives {status}");
            finding("gateway", Verdict::Look, says)
        }
        Err(_) => match std::net::TcpListener::bind(address) {
            Ok(_) => finding("gateway", Verdict::Look, format!("is not running; {address} is free")),
            Err(error) => finding("gateway", Verdict::Bad, format!("cannot listen on {address}: {error}")),
        },
    }
}
