//! The admin API: keys, records of requests and their sums, kinds, providers and the effective config, under `/admin/v1/`.
//!
//! What it is: one route table ([`ROUTES`]) and the [`router`] that is made from it. Errors are RFC 9457 problems with
//! the same stable codes as everywhere; a body with several mistakes is answered with all of them.
//!
//! What it promises: a request is authorised by the row of the route that matched, before its body is read; bodies over
//! [`MAX_BODY`] are refused; a key's text is in the answer that made it and in no other; who may make keys cannot give
//! away admin rights that they do not hold; what was captured of requests is shown only to keys with a scope of its own;
//! what was changed, what was denied and whose words were read is logged under the target `audit`.
//!
//! What it refuses to know: where keys are kept, the flow, the edge, the vendors. What it shows of them is handed in
//! as a [`View`].

mod fields;
mod keys;
mod problem;
mod query;
mod record;
mod requests;
mod routes;
mod serve;
mod usage;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use penstock_domain::{Credential, Error};
use penstock_identity::{Caller, Keys, Scope};
use penstock_observe::{RecordStore, Tail};
use serde_json::{Map, Value};

pub use record::record;
pub use routes::{Handler, ROUTES};
pub use serve::router;

/// The largest body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Decides whether a credential holds a scope, for one object or, without one, for every object.
pub type Authorize =
    Arc<dyn Fn(&Credential, Scope, Option<&str>) -> Result<Arc<Caller>, Error> + Send + Sync>;

/// What the admin API shows of the rest of the program.
pub trait View: Send + Sync {
    /// The kinds of plug-ins by family, each with the JSON Schema of its settings.
    fn kinds(&self) -> Value;

    /// The configured providers.
    fn providers(&self) -> Vec<ProviderRow>;

    /// The effective config, with every secret already hidden.
    fn config(&self) -> Value;
}

/// One provider as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProviderRow {
    /// Its name in the config.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// `ready`, `starting` or `unavailable`.
    pub status: &'static str,
    /// Why it is not ready.
    pub reason: Option<String>,
}

/// What the router works with.
#[derive(Clone)]
pub struct Parts {
    /// The keys.
    pub keys: Arc<Keys>,
    /// The records of requests.
    pub records: Arc<dyn RecordStore>,
    /// Records as they come.
    pub tail: Tail,
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
