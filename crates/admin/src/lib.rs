//! The admin API: keys, teams, records of requests and their sums, kinds, providers and the effective config, under `/admin/v1/`.
//!
//! What it is: one route table ([`ROUTES`]) and the [`router`] that is made from it. Errors are RFC 9457 problems with
//! the same stable codes as everywhere; a body with several mistakes is answered with all of them.
//!
//! What it promises: a request is authorised by the row of the route that matched, before its body is read; bodies over
//! [`MAX_BODY`] are refused; a key's text is in the answer that made it, which its maker alone may be given again, and
//! in no other; who may make keys cannot give
//! away admin rights that they do not hold; what was captured of requests is shown only to keys with a scope of its own;
//! what was changed and what was denied is in the audit log, a change before it is answered, and so is whose
//! words were read.
//!
//! What it refuses to know: where keys are kept, the flow, the edge, the vendors. What it shows of them is handed in
//! as a [`View`].

mod audit;
mod deliveries;
mod fields;
mod keys;
mod once;
mod problem;
mod query;
mod record;
mod requests;
mod routes;
mod serve;
mod session;
mod spend;
mod teams;
mod usage;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use penstock_admission::Standing;
use penstock_domain::{Credential, Error};
use penstock_idempotency::Idempotency;
use penstock_identity::{AuditLog, Caller, Denials, Keys, Scope, Sessions, Teams};
use penstock_observe::store::Spending;
use penstock_observe::{RecordStore, Tail};
use serde_json::{Map, Value};

pub use record::record;
pub use routes::{Handler, ROUTES};
pub use serve::router;
pub use session::show as session;
pub use spend::csv;
pub use teams::{merge, settings_of, show as team};

/// The largest body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Decides whether a credential holds a scope, for one object or, without one, for every object.
pub type Authorize =
    Arc<dyn Fn(&Credential, Scope, Option<&str>) -> Result<Arc<Caller>, Error> + Send + Sync>;

/// What the admin API shows of the rest of the program.
pub trait View: Send + Sync {
    /// The kinds of plug-ins by family, each with the JSON Schema of its settings.
    fn kinds(&self) -> Value;

    /// The configured providers; `reinstate` names one that is to be asked again at once, whatever its errors were.
    fn providers(&self, reinstate: Option<&str>) -> Vec<ProviderRow>;

    /// The effective config, with every secret already hidden.
    fn config(&self) -> Value;

    /// Every account that has limits, a budget, or has spent something.
    fn standings(&self) -> Vec<Standing>;

    /// What was spent, by the ledger.
    fn spending(&self) -> Arc<dyn Spending>;
}

/// One provider as it is shown.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ProviderRow {
    /// Its name in the config.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// `ready`, `starting` or `unavailable`.
    pub status: &'static str,
    /// Why it is not ready.
    pub reason: Option<String>,
    /// What was learnt of every model and credential that it was asked with.
    pub targets: Vec<TargetRow>,
}

/// One model of a provider with one credential, as it is shown. Times are milliseconds, shares 0 to 1.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TargetRow {
    /// Which of the provider's credentials, from 0.
    pub credential: u32,
    /// The model as the provider names it.
    pub model: String,
    /// `healthy`, `ejected`, `returning`, `cooling` or `retired`.
    pub state: &'static str,
    /// How long it stays away before it is tried again.
    pub wait_ms: Option<f64>,
    /// The part of its usual traffic that it is given now.
    pub share: f64,
    /// The share of attempts that failed lately.
    pub error_rate: f64,
    /// How far the evidence of a fault has come; at 1 it is ejected.
    pub suspicion: f64,
    /// Attempts under way.
    pub in_flight: u32,
    /// The most attempts that it is given at once, where it was learnt.
    pub limit: Option<u32>,
    /// The median time to the first token.
    pub ttft_p50_ms: Option<f64>,
    /// The time to the first token that 5 of 100 exceed.
    pub ttft_p95_ms: Option<f64>,
    /// How often it was ejected.
    pub ejections: u64,
}

/// What the router works with.
#[derive(Clone)]
pub struct Parts {
    /// The keys.
    pub keys: Arc<Keys>,
    /// The teams.
    pub teams: Arc<Teams>,
    /// Those who signed in with a browser.
    pub sessions: Arc<Sessions>,
    /// The records of requests.
    pub records: Arc<dyn RecordStore>,
    /// Records as they come.
    pub tail: Tail,
    /// Who changed what.
    pub audit: Arc<dyn AuditLog>,
    /// Who is told of what happens.
    pub alerts: Arc<penstock_alert::Alerts>,
    /// Who was turned away.
    pub denials: Arc<Denials>,
    /// What was done before.
    pub idempotency: Arc<Idempotency>,
    /// Who may do what.
    pub authorize: Authorize,
    /// The rest of the program.
    pub view: Arc<dyn View>,
    /// The time.
    pub now: fn() -> SystemTime,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// The schemas that the rows of [`ROUTES`] name, for the OpenAPI document.
pub fn components() -> Map<String, Value> {
    serde_json::from_str(include_str!("components.json")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
