//! Which parts there are and how they hang together: the one place that names every leaf.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_admission::fair::Bounds as Line;
use penstock_admission::{Admission, Allowance, Limits, Rules};
use penstock_alert::Alerts;
use penstock_config::{Config, ContentFilter, KindSchemas, Problem, Registry, Section, Trust};
use penstock_conversation::Conversations;
use penstock_flow::{Captures, DoorRules, Doors, Lanes, Parts, Share, Shares};
use penstock_idempotency::Idempotency;
use penstock_identity::{AuditLog, Keys, Tokens};
use penstock_identity_oidc::Issuers;
use penstock_observe::Recorder;
use penstock_provider::{Health, Provider};
use penstock_provider_http::PRESETS;
use penstock_routing::{Bounds, Catalogue, Deployment, Fleet, Model, Policy, Prices, Pricing, RelayRule};

use crate::data;
use crate::people::People;

/// How long an embedded model may take to load before `doctor` stops waiting for it.
const LOADS: Duration = Duration::from_secs(60);

/// How long a provider's address may take to accept a connection.
const REACH: Duration = Duration::from_secs(3);

/// Back ends by their name in the configuration.
pub(crate) type Providers = HashMap<Arc<str>, Arc<dyn Provider>>;

/// Every kind of provider in this build. A kind that was left out says how to get it.
fn registry() -> Registry<dyn Provider, ()> {
    let mut registry = Registry::new();
    penstock_provider_http::register(&mut registry);
    penstock_provider_mock::register(&mut registry);
    #[cfg(feature = "local")]
    register_local(&mut registry);
    #[cfg(not(feature = "local"))]
    registry.register_absent("local", "build penstock with the feature `local` (it is on by default)");
    registry
}

#[cfg(feature = "local")]
fn register_local(registry: &mut Registry<dyn Provider, ()>) {
    use penstock_config::{Environment, ProcessEnvironment};
    use penstock_provider_local::{LocalProvider, Settings, cache_dir};

    registry.register::<Settings>(|settings, _needs| {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let cache = cache_dir(|name| ProcessEnvironment.var(name));
        Ok(Arc::new(LocalProvider::new(settings, cache)) as Arc<dyn Provider>)
    });
}

/// Ends the embedded engines, before the process does: a thread inside the engine's library does not survive the
/// destructors of that library. What loads or computes gives up within a step; nobody waits longer than two seconds.
#[cfg(feature = "local")]
pub(crate) fn stop_engines() {
    if !penstock_provider_local::stop(std::time::Duration::from_secs(2)) {
        tracing::warn!("an embedded model is still at work as the process ends");
    }
}

#[cfg(not(feature = "local"))]
pub(crate) fn stop_engines() {}

/// Whether the embedded model is in this build.
pub(crate) const fn has_local() -> bool {
    cfg!(feature = "local")
}

/// The kinds and their schemas, for checking a file.
pub(crate) fn kinds() -> KindSchemas {
    KindSchemas { providers: registry().kinds().clone() }
}

/// Builds every provider; those whose section did not change are taken over as they are, with their connections and
/// loaded models.
///
/// # Errors
/// The problems of all providers together.
pub(crate) fn providers(
    config: &Config,
    before: Option<(&Config, &Providers)>,
) -> Result<Providers, Vec<Problem>> {
    let registry = registry();
    let mut built = Providers::new();
    let mut problems = Vec::new();
    for (name, section) in &config.providers {
        if let Some(kept) = before.and_then(|(config, providers)| unchanged(name, section, config, providers))
        {
            built.insert(name.as_str().into(), kept);
            continue;
        }
        match registry.build(section, &()) {
            Ok(provider) => drop(built.insert(name.as_str().into(), provider)),
            Err(more) => problems.extend(more),
        }
    }
    problems.extend(relay_problem(config, &built));
    if problems.is_empty() { Ok(built) } else { Err(problems) }
}

fn unchanged(
    name: &str,
    section: &Section,
    before: &Config,
    providers: &Providers,
) -> Option<Arc<dyn Provider>> {
    (before.providers.get(name)? == section).then(|| providers.get(name).map(Arc::clone))?
}

/// Builds every provider, and the database's keys of the file, only to see whether it can be done.
pub(crate) fn check_providers(config: &Config) -> Result<Providers, Vec<Problem>> {
    let flaws = Keys::check_file(&config.keys).into_iter().chain(Tokens::check(&config.auth));
    let mut problems: Vec<Problem> = flaws.map(|(path, say)| Problem::error(path, say)).collect();
    problems.extend(penstock_webhook::endpoints(config).err().into_iter().flatten());
    match providers(config, None) {
        Ok(built) if problems.is_empty() => Ok(built),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}

/// The catalogue of the configuration's models; `model: "*"` passes the asked name on. `providers` say how many
/// credentials they have.
pub(crate) fn catalogue(config: &Config, providers: &Providers) -> Catalogue {
    let models = config.models.iter().flat_map(|(name, model)| {
        let names = std::iter::once(name).chain(&model.aliases);
        let deployments = model.deployments().into_iter();
        let deployments: Vec<_> =
            deployments.map(|deployed| deployment(config, providers, model, &deployed)).collect();
        names.map(move |name| Model {
            name: name.as_str().into(),
            deployments: deployments.clone(),
            fallbacks: model.fallbacks.iter().map(|name| name.as_str().into()).collect(),
            max_output_tokens: model.max_output_tokens,
            default_output_tokens: model.default_output_tokens,
            policy: Policy {
                resume: model.failover.resume,
                hedge: model.failover.hedge,
                past_content_filter: model.failover.content_filter == ContentFilter::Fallback,
                affinity: model.failover.affinity,
            },
        })
    });
    Catalogue::new(models).with_relay(config.relay.as_ref().map(|rule| relay(config, rule)))
}

fn deployment(
    config: &Config,
    providers: &Providers,
    model: &penstock_config::Model,
    deployed: &penstock_config::Deployment,
) -> Deployment {
    let placement = config.providers.get(&deployed.provider).map(Section::placement).unwrap_or_default();
    let kind = config.providers.get(&deployed.provider).map(|section| section.kind.as_str());
    Deployment {
        provider: deployed.provider.as_str().into(),
        credentials: providers.get(deployed.provider.as_str()).map_or(1, |provider| provider.credentials()),
        upstream: (deployed.model != "*").then(|| deployed.model.as_str().into()),
        weight: deployed.weight,
        pricing: pricing(config, model, deployed),
        region: placement.region.as_deref().map(Into::into),
        // What runs inside this process runs on the operator's machine.
        internal: placement.trust == Trust::Internal || matches!(kind, Some("local")),
        provisioned: deployed.provisioned.or(placement.provisioned).map(|own| own.tokens_per_minute),
        context_window: deployed.context_window.or(model.context_window),
    }
}

/// What the requests of each team may not leave, where there is anything.
fn bounds(config: &Config) -> HashMap<Arc<str>, Bounds> {
    let bounds = config.teams.iter().map(|(name, team)| {
        let regions = team.residency.iter().map(|region| region.as_str().into()).collect();
        (Arc::from(name.as_str()), Bounds { regions, internal_only: team.internal_only })
    });
    bounds.filter(|(_, bounds)| *bounds != Bounds::default()).collect()
}

/// What bounds the calls of each provider.
fn doors(config: &Config) -> Vec<(Arc<str>, DoorRules)> {
    let rules = config.providers.iter().map(|(name, section)| {
        let placement = section.placement();
        let limits = placement.limits;
        let lanes = match (section.kind.as_str(), placement.trust) {
            ("local", _) => Lanes::Fixed(parallel(section)),
            (_, Trust::Internal) => Lanes::Learnt,
            (_, Trust::External) => Lanes::Open,
        };
        let rules = DoorRules {
            slots: placement.max_concurrency.into_iter().chain(limits.concurrent_requests).min(),
            lanes,
            // Calls at the same time are the slots, for which one can wait.
            allowance: Allowance {
                limits: Limits { concurrent_requests: None, ..limits },
                budget: placement.budget,
            },
            line: Line {
                max_waiting: placement.queue.max_waiting as usize,
                max_wait: placement.queue.max_wait.0,
            },
        };
        (Arc::from(name.as_str()), rules)
    });
    rules.collect()
}

/// How many requests the embedded engine works on at once.
#[cfg(feature = "local")]
fn parallel(section: &Section) -> u32 {
    section.settings::<penstock_provider_local::Settings>().unwrap_or_default().parallel
}

#[cfg(not(feature = "local"))]
fn parallel(_: &Section) -> u32 {
    1
}

/// The teams that have another share than the usual one.
fn shares(config: &Config) -> Shares {
    let shares = config.teams.iter().map(|(name, team)| {
        let share = Share { weight: team.weight.unwrap_or(1), priority: team.priority.map(Into::into) };
        (Arc::from(name.as_str()), share)
    });
    shares.filter(|(_, share)| *share != Share::default()).collect()
}

/// Where requests go that no route knows; the file's paths begin with the root that the routing does not know.
fn relay(config: &Config, relay: &penstock_config::Relay) -> RelayRule {
    let placement = config.providers.get(&relay.provider).map(Section::placement).unwrap_or_default();
    let place = Deployment {
        region: placement.region.as_deref().map(Into::into),
        internal: placement.trust == Trust::Internal,
        ..Deployment::new(relay.provider.as_str(), None)
    };
    let below = |path: &String| path.strip_prefix("/v1").unwrap_or(path).into();
    RelayRule { place, paths: relay.paths.iter().map(below).collect() }
}

/// The problem of a relay to a provider that cannot pass requests on.
fn relay_problem(config: &Config, providers: &Providers) -> Option<Problem> {
    let relay = config.relay.as_ref()?;
    let provider = providers.get(relay.provider.as_str())?;
    provider.relay().is_none().then(|| {
        let say = format!("a provider of kind {} cannot pass requests on", provider.kind());
        Problem::error("relay.provider", say)
            .with_hint("name one of kind openai, or openai_compatible with a base_url")
    })
}

/// What a model costs: what the file says; nothing on own hardware; the vendor's list price at the vendor's own address.
/// Whoever stands at another address may ask for something else.
fn pricing(
    config: &Config,
    model: &penstock_config::Model,
    deployed: &penstock_config::Deployment,
) -> Pricing {
    if let Some(price) = deployed.price.as_ref().or(model.price.as_ref()) {
        return Pricing::Own(Arc::new(Prices::new(price.tariffs())));
    }
    let Some(section) = config.providers.get(&deployed.provider) else { return Pricing::Unknown };
    if matches!(section.kind.as_str(), "local" | "mock") {
        return Pricing::Own(Arc::new(Prices::free()));
    }
    let preset = PRESETS
        .iter()
        .find(|preset| preset.kind == section.kind || preset.aliases.contains(&section.kind.as_str()));
    let own = section.value.get("base_url").and_then(serde_json::Value::as_str);
    match preset {
        Some(preset) if own.is_none_or(|own| preset.base_url == Some(own.trim_end_matches('/'))) => {
            Pricing::Listed(preset.kind.into())
        }
        _ => Pricing::Unknown,
    }
}

/// The models whose requests will be recorded without a cost.
pub(crate) fn unpriced(config: &Config) -> Vec<Problem> {
    let catalogue = catalogue(config, &Providers::new());
    let models = catalogue.unpriced(SystemTime::now()).into_iter();
    models
        .filter(|model| config.models.contains_key(&*model.name))
        .map(|model| {
            let say = "no price is known for this model, so what it costs is recorded as unknown";
            Problem::warning(format!("models.{}.price", model.name), say).with_hint(
                "add `price: {input: …, output: …}` in USD per million tokens; 0 for hardware of your own",
            )
        })
        .collect()
}

/// The teams whose content is kept.
fn captures(config: &Config) -> Captures {
    let on = config.teams.iter().filter(|(_, team)| team.capture.content);
    Captures::new(on.map(|(name, team)| (name.as_str().into(), team.capture.retention.0)))
}

/// Takes the keys of the file in place of those before.
pub(crate) fn use_file_keys(keys: &Keys, config: &Config) -> Result<(), Vec<Problem>> {
    keys.use_file(&config.keys, config.limits)
        .map_err(|problems| problems.into_iter().map(|(path, say)| Problem::error(path, say)).collect())
}

/// The issuers of access tokens in force, and what fetches their keys.
#[derive(Default)]
pub(crate) struct Trusted(std::sync::Mutex<Option<Arc<Issuers>>>);

impl Trusted {
    /// Takes the issuers of a configuration in place of those before; those that did not change keep their keys.
    ///
    /// # Errors
    /// Every problem of the section; nothing is changed then.
    pub(crate) fn follow(&self, keys: &Keys, config: &Config) -> Result<(), Vec<Problem>> {
        check_tokens(config)?;
        let mut current = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let issuers = Arc::new(Issuers::start(&config.auth.oidc, current.as_deref()));
        let prover = Arc::clone(&issuers) as Arc<dyn penstock_identity::Prover>;
        let address = format!("http://{}", config.server.listen);
        let tokens = Tokens::new(&config.auth, prover, config.limits, &address).map_err(problems_of)?;
        keys.ring().use_tokens(tokens);
        *current = Some(issuers);
        Ok(())
    }
}

/// Finds what is wrong with the issuers of access tokens.
///
/// # Errors
/// Every problem of the section.
pub(crate) fn check_tokens(config: &Config) -> Result<(), Vec<Problem>> {
    let flaws = Tokens::check(&config.auth);
    if flaws.is_empty() { Ok(()) } else { Err(problems_of(flaws)) }
}

pub(crate) fn problems_of(flaws: Vec<(String, String)>) -> Vec<Problem> {
    flaws.into_iter().map(|(path, say)| Problem::error(path, say)).collect()
}

/// What outlives every reload.
pub(crate) struct Lasting {
    pub(crate) people: Arc<People>,
    pub(crate) trusted: Trusted,
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) alerts: Arc<Alerts>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) recorder: Arc<dyn Recorder>,
    pub(crate) conversations: Arc<Conversations>,
    pub(crate) idempotency: Arc<Idempotency>,
}

impl Lasting {
    /// A snapshot's parts. From here on teams of the file and of the database are one list.
    pub(crate) fn parts(&self, config: &Config, providers: Providers) -> Parts {
        let config = &self.people.whole(config);
        Parts {
            keys: self.people.keys.ring(),
            admission: Arc::clone(&self.admission),
            rules: Rules::of(config),
            catalogue: catalogue(config, &providers),
            fleet: Arc::clone(&self.fleet),
            doors: self.doors.adopt(doors(config)),
            shares: shares(config),
            bounds: bounds(config),
            providers,
            captures: captures(config),
            recorder: Arc::clone(&self.recorder),
            made: SystemTime::now(),
        }
    }
}

/// Whether each provider can be reached, for `doctor` and `check --online`: its own health, and for vendors behind HTTP
/// a connection to their address. No credential is sent.
pub(crate) async fn probe(config: &Config, providers: &Providers) -> Vec<(String, Health)> {
    let mut found = Vec::new();
    for (name, section) in &config.providers {
        let Some(provider) = providers.get(name.as_str()) else { continue };
        let health = match base_url(section) {
            Some(url) => reach(&url).await.map_or_else(Health::Unavailable, |()| Health::Ready),
            None => settled(provider.as_ref()).await,
        };
        found.push((name.clone(), health));
    }
    found
}

/// The health of a back end that needs no network, once it has loaded or failed to.
async fn settled(provider: &dyn Provider) -> Health {
    let end = std::time::Instant::now() + LOADS;
    while provider.health() == Health::Starting && std::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    provider.health()
}

fn base_url(section: &Section) -> Option<String> {
    let own = section.value.get("base_url").and_then(serde_json::Value::as_str);
    let preset =
        || PRESETS.iter().find(|preset| preset.kind == section.kind).and_then(|preset| preset.base_url);
    own.or_else(preset).map(str::to_owned)
}

async fn reach(url: &str) -> Result<(), String> {
    let address = url.parse::<hyper::Uri>().ok().and_then(|uri| {
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        uri.host().map(|host| format!("{}:{port}", host.trim_matches(['[', ']'])))
    });
    let Some(address) = address else { return Err(format!("base_url {url} has no host")) };
    match tokio::time::timeout(REACH, tokio::net::TcpStream::connect(&address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            Err(format!("cannot connect to {address}: {error}; is it running, and is base_url right?"))
        }
        Err(_) => Err(format!("{address} does not answer; is a firewall in between?")),
    }
}

/// The OpenAPI document as text.
pub(crate) fn openapi() -> Vec<u8> {
    let mut rows = penstock_edge::rows();
    rows.extend(penstock_admin::ROUTES.iter().map(penstock_edge::Row::from));

    penstock_edge::openapi::document(&rows, penstock_admin::components()).to_vec()
}

/// Makes the data folder if it is missing.
pub(crate) fn prepare(config: &Config) -> Result<(), String> {
    data::prepare(&config.data_dir)
}
