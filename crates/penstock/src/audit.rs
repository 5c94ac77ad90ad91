//! What the program itself notes in the audit log: which configuration came into force, and who was turned away.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use penstock_config::{Change, Loaded};
use penstock_domain::{Kind, Priority};
use penstock_identity::{AuditEvent, AuditLog, Denial, Denials};
use penstock_observe::{Outcome, Record, Recorder};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::Failure;

/// How often it is looked whether somebody was turned away.
const LOOK: Duration = Duration::from_secs(1);
/// The most changed settings that one row names.
const MOST_NAMED: usize = 100;

/// Notes a configuration: where it stands, the digest of what it says with secrets hidden, and the settings that changed.
/// Trouble with the log is told, and does not stop a gateway that is serving.
pub(crate) async fn configured(log: &dyn AuditLog, action: &str, loaded: &Loaded, changes: &[Change]) {
    let names: Vec<String> = changes.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let after = json!({"digest": digest(loaded), "changes": changes.len(), "changed": names}).to_string();
    let file = loaded.source.path.display().to_string();
    let event = AuditEvent::new(SystemTime::now(), "penstock", action, &file).with(None, Some(&after));
    if let Err(error) = log.append(event).await {
        tracing::error!(%error, action, "the audit log cannot be written");
    }
}

/// The digest of the effective configuration as `penstock config show` prints it, so that anybody can compute it again and
/// nobody can guess a secret by it.
fn digest(loaded: &Loaded) -> String {
    let text = penstock_config::show(loaded).to_string();
    penstock_identity::digest_of(text.as_bytes())
}

/// The audit log of the running program, and those who were turned away and are not in it yet.
pub(crate) struct Noted {
    pub(crate) log: Arc<dyn AuditLog>,
    pub(crate) denials: Arc<Denials>,
}

impl Noted {
    pub(crate) fn new(log: Arc<dyn AuditLog>) -> Self {
        Self { log, denials: Arc::default() }
    }

    /// Has a recorder count who was turned away.
    pub(crate) fn watch(&self, inner: Arc<dyn Recorder>) -> Arc<dyn Recorder> {
        Arc::new(Watching { inner, denials: Arc::clone(&self.denials) })
    }

    /// Notes the configuration that the program starts with, and goes on with denials.
    pub(crate) async fn begin(&self, loaded: &Loaded) -> JoinHandle<()> {
        configured(&*self.log, "config.start", loaded, &[]).await;
        tokio::spawn(denials(Arc::clone(&self.log), Arc::clone(&self.denials)))
    }
}

/// Notes what the command line did to a key or a team, before it says so.
///
/// # Errors
/// A sentence, when the log cannot be written; the change is made all the same.
pub(crate) async fn changed(
    log: &dyn AuditLog,
    action: &str,
    before: Option<&Value>,
    after: &Value,
) -> Result<(), Failure> {
    let key = after["id"].as_str().or_else(|| after["name"].as_str()).unwrap_or_default();
    let event = AuditEvent::new(SystemTime::now(), "command line", action, key)
        .with(before.map(Value::to_string).as_deref(), Some(&after.to_string()));
    let written = log.append(event).await;
    written
        .map(drop)
        .map_err(|error| format!("the change to {key} was made, but not noted: {}", error.say()).into())
}

/// A recorder that also counts who was turned away.
struct Watching {
    inner: Arc<dyn Recorder>,
    denials: Arc<Denials>,
}

impl Recorder for Watching {
    fn begin(&self) {
        self.inner.begin();
    }

    fn end(&self, record: Record) {
        if let Outcome::Refused(error) = &record.outcome
            && matches!(error.kind(), Kind::Unauthenticated | Kind::Forbidden)
        {
            self.denials.note(Denial { code: error.code(), caller: record.key.clone(), what: "requests" });
        }
        self.inner.end(record);
    }

    fn waited(&self, class: Priority, wait: Duration, served: bool) {
        self.inner.waited(class, wait, served);
    }
}

/// Writes down who was turned away, for ever: the first of a kind at once, repetitions once a minute.
async fn denials(log: Arc<dyn AuditLog>, denials: Arc<Denials>) {
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        every.tick().await;
        for event in denials.due(Instant::now(), SystemTime::now()) {
            let written = log.append(event).await;
            if let (Err(error), false) = (&written, failing) {
                tracing::error!(%error, "the audit log cannot be written; denied access is not noted meanwhile");
            }
            failing = written.is_err();
        }
    }
}
