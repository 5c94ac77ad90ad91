//! The gateway holds the current snapshot; a snapshot is everything a request may ask while it runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use penstock_admission::{Admission, Now, Rules, Standing};
use penstock_domain::{Code, Credential, Error, Priority, Stage};
use penstock_identity::{Caller, KeyRing, Scope};
use penstock_observe::Recorder;
use penstock_provider::{Health, Provider};
use penstock_routing::{Bounds, Catalogue, Fleet, TargetReport};

use crate::{Captures, Door};

/// The scopes that let a key use a model.
const INFERENCE: [Scope; 2] = [Scope::new("chat", "invoke"), Scope::new("embeddings", "invoke")];

/// What a snapshot is made of. Key ring, admission and recorder outlive reloads: they are shared between snapshots.
pub struct Parts {
    /// Who may call.
    pub keys: Arc<KeyRing>,
    /// Rates, slots and money.
    pub admission: Arc<Admission>,
    /// What teams, models and all keys together may ask for and spend.
    pub rules: Rules,
    /// Model names.
    pub catalogue: Catalogue,
    /// What was learnt of every target; it outlives reloads too.
    pub fleet: Arc<Fleet>,
    /// The doors to providers that have bounds, which outlive reloads as well.
    pub doors: HashMap<Arc<str>, Arc<Door>>,
    /// Whose turn it is how often, by the team's name.
    pub shares: Shares,
    /// What the requests of a team may not leave, by the team's name.
    pub bounds: HashMap<Arc<str>, Bounds>,
    /// Back ends by their name in the configuration.
    pub providers: HashMap<Arc<str>, Arc<dyn Provider>>,
    /// Whose content is kept.
    pub captures: Captures,
    /// Where records go.
    pub recorder: Arc<dyn Recorder>,
    /// When this snapshot was made; models report it as their creation time.
    pub made: SystemTime,
}

/// How often it is a team's turn where requests have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Twice the weight, twice the tokens.
    pub weight: u32,
    /// How urgent its requests are, where somebody said.
    pub priority: Option<Priority>,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: 1, priority: None }
    }
}

/// The teams whose share is not the usual one.
pub type Shares = HashMap<Arc<str>, Share>;

/// One configuration snapshot, and the path through it.
pub struct Flow {
    pub(crate) parts: Parts,
}

/// The current snapshot, swapped atomically on reload. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    current: Arc<ArcSwap<Flow>>,
}

/// A model as `/v1/models` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name that clients ask for.
    pub id: Arc<str>,
    /// The provider that serves it.
    pub provider: Arc<str>,
    /// When the running configuration was loaded.
    pub created: SystemTime,
}

impl Gateway {
    /// Starts with a first snapshot.
    pub fn new(parts: Parts) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(Flow { parts })) }
    }

    /// The snapshot for one request; take it once and keep it to the end.
    pub fn snapshot(&self) -> Arc<Flow> {
        self.current.load_full()
    }

    /// What must be waited for before a credential can be told from a wrong one: an issuer's word on a token. `None` for
    /// keys, and wherever issuers need not be asked.
    pub fn inquiry(&self, credential: impl FnOnce() -> Credential) -> Option<penstock_identity::Inquiry> {
        let flow = self.current.load();
        // One look at memory where nobody is to be asked; not even the headers are read then.
        flow.parts.keys.inquires().then(|| flow.parts.keys.inquiry(&credential())).flatten()
    }

    /// Puts a new snapshot in force. Requests in flight keep theirs.
    pub fn swap(&self, parts: Parts) {
        self.current.store(Arc::new(Flow { parts }));
    }
}

impl Flow {
    /// Proves a caller and a scope for routes that are not inference.
    ///
    /// # Errors
    /// The credential errors, and `insufficient_scope`.
    pub fn authorize(
        &self,
        credential: &Credential,
        scope: Scope,
        object: Option<&str>,
    ) -> Result<Arc<Caller>, Error> {
        let caller = self
            .parts
            .keys
            .authenticate(credential, SystemTime::now())
            .map_err(|error| error.at(Stage::Authenticate))?;
        if caller.scopes.allows(scope, object) {
            Ok(caller)
        } else {
            Err(missing_scope(scope).at(Stage::Admit))
        }
    }

    /// How urgent the requests of whoever shows this may be, told before anything of a request is read.
    ///
    /// # Errors
    /// Why nobody is known by the credential.
    pub fn urgency(&self, credential: &Credential) -> Result<Priority, Error> {
        let caller = self
            .parts
            .keys
            .authenticate(credential, SystemTime::now())
            .map_err(|error| error.at(Stage::Authenticate))?;
        let team = caller.team.as_ref().and_then(|team| self.parts.shares.get(team));
        Ok(caller.priority.or(team.and_then(|share| share.priority)).unwrap_or_default())
    }

    /// What clients may know of how to get in, where access tokens are taken.
    pub fn resource(&self) -> Option<penstock_identity::Resource> {
        self.parts.keys.resource()
    }

    /// The parameter of `www-authenticate` that leads there.
    pub fn challenge(&self) -> Option<String> {
        self.parts.keys.challenge()
    }

    /// The models that a caller may use, sorted by name; patterns are not listed. A caller without any right to
    /// inference, who only looks, sees all that its allow-list has.
    pub fn models(&self, caller: &Caller) -> Vec<ModelInfo> {
        let only_looks = !INFERENCE.iter().any(|scope| caller.scopes.reaches(*scope));
        let usable =
            |name: &str| only_looks || INFERENCE.iter().any(|scope| caller.scopes.allows(*scope, Some(name)));
        let listed = self.parts.catalogue.listed().into_iter();
        listed
            .filter(|model| caller.models.allows(&model.name) && usable(&model.name))
            .map(|model| ModelInfo {
                id: Arc::clone(&model.name),
                provider: model
                    .deployments
                    .first()
                    .map_or_else(|| "".into(), |first| Arc::clone(&first.provider)),
                created: self.parts.made,
            })
            .collect()
    }

    /// Whether a path below the API's root is passed on to a provider when no route of ours answers it.
    pub fn relays(&self, path: &str) -> bool {
        self.parts.catalogue.relays(path)
    }

    /// Every provider's health, sorted by name.
    pub fn health(&self) -> Vec<(Arc<str>, Health)> {
        let mut all: Vec<_> = self
            .parts
            .providers
            .iter()
            .map(|(name, provider)| (Arc::clone(name), provider.health()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// What was learnt of every target of this snapshot's providers, sorted.
    pub fn targets(&self) -> Vec<TargetReport> {
        let mut all = self.parts.fleet.report(Instant::now());
        all.retain(|target| self.parts.providers.contains_key(&target.provider));
        all
    }

    /// Forgets what was learnt against a provider: its fault is mended.
    pub fn reinstate(&self, provider: &str) {
        self.parts.fleet.reinstate(provider);
    }

    /// Looks how all gateways together see the accounts, for [`Flow::standings`].
    pub async fn look_around(&self) {
        self.parts.admission.look_around().await;
    }

    /// How many ends of requests the ledger does not have yet, and how many reservations were given back whole.
    pub fn unsettled(&self) -> (u64, u64) {
        (self.parts.admission.unwritten(), self.parts.admission.refunds())
    }

    /// Every account that has limits, a budget, or has spent something.
    pub fn standings(&self) -> Vec<Standing> {
        let mut all = self.parts.admission.standings(&self.parts.rules, Now::read());
        let limited = self.parts.doors.values().map(|door| door.standing());
        all.extend(limited.filter(|one| one.allowance != Default::default()));
        all.sort_by(|a, b| (a.level, &a.name).cmp(&(b.level, &b.name)));
        all
    }

    /// How many requests of each class wait for each provider that has bounds.
    pub fn waiting(&self) -> Vec<(Arc<str>, Priority, usize)> {
        let doors = self.parts.doors.iter();
        let lines = doors.flat_map(|(name, door)| {
            Priority::ALL.map(|class| (Arc::clone(name), class, door.waiting(class)))
        });
        lines.collect()
    }

    /// The providers of this snapshot, so that a reload can keep those whose configuration did not change.
    pub fn providers(&self) -> &HashMap<Arc<str>, Arc<dyn Provider>> {
        &self.parts.providers
    }
}

pub(crate) fn missing_scope(scope: Scope) -> Error {
    Error::new(
        Code::InsufficientScope,
        format!("this key lacks the scope {scope}; ask the operator for a key that has it"),
    )
}
