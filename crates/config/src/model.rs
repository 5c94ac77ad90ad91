//! The objects that the file describes, and their defaults.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    Auth, Budget, ByteSize, DurationText, Idempotency, IpRange, Limits, ModelPrice, Organisation, Problem,
    Queue, SecretText, Section, Stores, TimeText, Urgency,
};

/// The whole configuration: one immutable snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Version of the file format.
    pub version: u32,
    /// Where and how it listens.
    pub server: Server,
    /// Folder of the database, key material and caches.
    pub data_dir: PathBuf,
    /// Where state lives.
    pub stores: Stores,
    /// Who may call beside the holders of keys.
    pub auth: Auth,
    /// Back ends by the name that `models` use.
    pub providers: BTreeMap<String, Section>,
    /// The names that clients ask for.
    pub models: BTreeMap<String, Model>,
    /// Teams by the name that keys use.
    pub teams: BTreeMap<String, Team>,
    /// Keys that stand in the file.
    pub keys: Vec<FileKey>,
    /// Limits of keys that have none of their own.
    pub limits: Limits,
    /// What all keys together may ask for and spend.
    pub organisation: Organisation,
    /// How long records are kept.
    pub records: Records,
    /// How long the ledger keeps what.
    pub ledger: crate::Ledger,
    /// Who is told of what happens.
    pub webhooks: Vec<crate::Webhook>,
    /// What is kept of responses, for those who go on from them.
    pub responses: Responses,
    /// What is kept of answers, for clients that send the same request again.
    pub idempotency: Idempotency,
    /// Where requests go that no route knows; nowhere by default.
    pub relay: Option<Relay>,
    /// What is logged and how.
    pub log: Log,
}

/// The file as serde reads it once it was checked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Penstock configuration")]
pub(crate) struct File {
    /// Version of the file format: 1.
    #[schemars(schema_with = "first_version")]
    pub(crate) version: u32,
    /// Where and how the gateway listens.
    #[serde(default)]
    pub(crate) server: Server,
    /// Folder of the database, key material and caches. Default ./penstock-data, beside the working directory.
    #[serde(default = "data_dir")]
    pub(crate) data_dir: PathBuf,
    /// Where state lives.
    #[serde(default)]
    pub(crate) stores: Stores,
    /// Who may call beside the holders of keys.
    #[serde(default)]
    pub(crate) auth: Auth,
    /// Back ends by name.
    #[serde(default)]
    #[schemars(schema_with = "providers")]
    pub(crate) providers: BTreeMap<String, serde_json::Value>,
    /// The names that clients ask for.
    #[serde(default)]
    pub(crate) models: BTreeMap<String, Model>,
    /// What holds for the keys of a team, by the team's name. A team that is not here has no such settings.
    #[serde(default)]
    pub(crate) teams: BTreeMap<String, Team>,
    /// Keys that stand in the file; others are made with `penstock keys create`.
    #[serde(default)]
    pub(crate) keys: Vec<FileKey>,
    /// Limits of keys that have none of their own.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// What all keys together may ask for and spend.
    #[serde(default)]
    pub(crate) organisation: Organisation,
    /// How long records of requests are kept.
    #[serde(default)]
    pub(crate) records: Records,
    /// How long the ledger keeps what. What was spent by hour, and ever, is kept for good.
    #[serde(default)]
    pub(crate) ledger: crate::Ledger,
    /// Addresses that are told of events: parts of budgets that are spent, providers that fail, keys that expire.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub(crate) webhooks: Vec<crate::Webhook>,
    /// What is kept of responses (`/v1/responses`), for those who go on from them.
    #[serde(default)]
    pub(crate) responses: Responses,
    /// What is kept of answers to requests with the header `idempotency-key`, so that the same request sent again is not
    /// done again.
    #[serde(default)]
    pub(crate) idempotency: Idempotency,
    /// Where requests go that no route of penstock knows. Without it they are refused.
    #[serde(default)]
    pub(crate) relay: Option<Relay>,
    /// What is logged and how.
    #[serde(default)]
    pub(crate) log: Log,
}

fn first_version(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"const": 1})
}

/// The kinds are not known to this type: [`crate::schema()`] fills them in where `x-family` stands.
fn providers(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "additionalProperties": {"x-family": "providers"}})
}

fn data_dir() -> PathBuf {
    PathBuf::from("./penstock-data")
}

/// Where and how the gateway listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address and port of the API, the console, `/metrics` and the health routes. Default 127.0.0.1:8080.
    #[schemars(schema_with = "address", default = "listen_text")]
    pub listen: SocketAddr,
    /// Moves `/admin`, `/metrics` and the console to an address of their own.
    #[schemars(schema_with = "optional_address")]
    pub admin_listen: Option<SocketAddr>,
    /// How long streams may go on after SIGTERM before they are ended with an error event. Default 30s.
    pub drain: DurationText,
    /// Largest request body. Default 20MiB.
    pub max_body: ByteSize,
    /// Most requests to models that are in flight at once; more are refused with 503, batch work from 70 % of it, standard work
    /// from 90 %. Default 16384.
    #[schemars(range(min = 1))]
    pub max_in_flight: u32,
    /// Most that the bodies of requests may take up in memory at once, in the same shares, at least twice `max_body`. Default 512MiB.
    pub max_in_flight_bytes: ByteSize,
    /// How long a client may take to send its request line and headers. Default 10s.
    pub header_timeout: DurationText,
    /// How long a client may take to send its body. Default 30s.
    pub body_timeout: DurationText,
    /// How long a client may refuse to read its answer. Default 60s.
    pub write_timeout: DurationText,
    /// How often a silent stream gets a comment line, so that proxies in between do not cut it. Default 15s.
    pub keep_alive: DurationText,
    /// Proxies whose `x-forwarded-for` is believed, as addresses or ranges: `[10.0.0.0/8]`. Matters for keys with
    /// `allow_ips`. Without any, the address of the connection counts.
    #[schemars(length(max = 256))]
    pub trusted_proxies: Vec<IpRange>,
}

fn address(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "title": "Address", "format": "socket-address", "examples": ["127.0.0.1:8080"]})
}

fn optional_address(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": ["string", "null"],
        "title": "Address",
        "format": "socket-address",
        "examples": ["127.0.0.1:9090"]
    })
}

fn listen_text() -> String {
    Server::default().listen.to_string()
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_listen: None,
            drain: DurationText(Duration::from_secs(30)),
            max_body: ByteSize(20 << 20),
            max_in_flight: 16_384,
            max_in_flight_bytes: ByteSize(512 << 20),
            header_timeout: DurationText(Duration::from_secs(10)),
            body_timeout: DurationText(Duration::from_secs(30)),
            write_timeout: DurationText(Duration::from_secs(60)),
            keep_alive: DurationText(Duration::from_secs(15)),
            trusted_proxies: Vec::new(),
        }
    }
}

/// A name that clients ask for: what one deployment serves (`provider` and `model`), or several (`deployments`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// Which of `providers` serves it; the short form of one deployment.
    #[schemars(length(min = 1))]
    pub provider: Option<String>,
    /// The model's name at that provider; `*` passes on the name that was asked.
    #[schemars(length(min = 1))]
    pub model: Option<String>,
    /// The places that serve it alike, instead of `provider` and `model`. Each request goes to one of them, and to another
    /// when that fails.
    pub deployments: Vec<Deployment>,
    /// The models that take over, in this order, when no deployment of this one can.
    pub fallbacks: Vec<String>,
    /// The most tokens that an answer may have: a request that asks for more is cut to it, and told so in
    /// `penstock-clamped-params`.
    #[schemars(range(min = 1))]
    pub max_output_tokens: Option<u32>,
    /// What a request asks for that names no bound. Without it the vendor decides.
    #[schemars(range(min = 1))]
    pub default_output_tokens: Option<u32>,
    /// How many tokens prompt and answer may have together. A prompt that is surely longer is not sent here.
    #[schemars(range(min = 1))]
    pub context_window: Option<u32>,
    /// Other names for the same model.
    pub aliases: Vec<String>,
    /// What its tokens cost, in USD per million: `{input: 1.25, cached_input: 0.125, output: 10}`, or a list of such by
    /// date. Without it the vendor's list price holds where one is known; a price that is not known is shown as unknown.
    pub price: Option<ModelPrice>,
    /// What happens when a deployment fails or is slow.
    pub failover: Failover,
    /// How much all keys together may ask of it, by whichever of its names.
    pub limits: Limits,
    /// What all keys together may spend on it.
    pub budget: Option<Budget>,
}

/// One place that serves a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Which of `providers` it is.
    #[schemars(length(min = 1))]
    pub provider: String,
    /// The model's name at that provider.
    #[schemars(length(min = 1))]
    pub model: String,
    /// How much of the traffic it gets beside its equals, before speed and load are looked at. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,
    /// Its price, where it differs from the model's.
    #[serde(default)]
    pub price: Option<ModelPrice>,
    /// Its context window, where it differs from the model's.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub context_window: Option<u32>,
    /// Its own provisioned capacity, used up before deployments without one.
    #[serde(default)]
    pub provisioned: Option<Provisioned>,
}

fn one() -> u32 {
    1
}

/// Capacity that is paid for whether it is used or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provisioned {
    /// Tokens per minute, prompt and answer together.
    #[schemars(range(min = 1))]
    pub tokens_per_minute: u64,
}

/// What happens when a deployment fails or is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Failover {
    /// Whether a broken text stream is continued by another deployment. Clients see it as a comment in the stream, and
    /// both calls are billed. Default false.
    pub resume: bool,
    /// Whether a second deployment is asked when the first is unusually slow to begin; the slower one is cancelled.
    /// Costs up to 5 % more calls. Default false.
    pub hedge: bool,
    /// What an answer that the vendor's content filter withheld becomes. Default `error`.
    pub content_filter: ContentFilter,
    /// Whether requests with the same beginning prefer the same deployment, whose prompt cache is warm. For self-hosted
    /// engines. Default false.
    pub affinity: bool,
}

/// What an answer that the vendor's content filter withheld becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ContentFilter {
    /// An error for the caller.
    #[default]
    Error,
    /// A request to the next deployment or fall-back.
    Fallback,
}

impl Model {
    /// The deployments, whichever way they are written.
    pub fn deployments(&self) -> Vec<Deployment> {
        match (&self.provider, &self.model) {
            (Some(provider), Some(model)) => vec![Deployment {
                provider: provider.clone(),
                model: model.clone(),
                weight: 1,
                price: None,
                context_window: None,
                provisioned: None,
            }],
            _ => self.deployments.clone(),
        }
    }
}

/// What routing has to know of a provider, whatever its kind: every section under `providers` has these members.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Placement {
    /// Where it computes, as residency rules name it: `eu`, `us`, `eu-central-1`. A rule `eu` covers `eu-central-1` too.
    pub region: Option<String>,
    /// Who runs it: `internal` for machines of the operator's own. Default `external`.
    pub trust: Trust,
    /// Provisioned capacity, used up before providers without one.
    pub provisioned: Option<Provisioned>,
    /// Most calls at the same time, answers that are still streaming included. Further requests go to another candidate
    /// of their model, or wait in the provider's queue. No bound by default.
    #[schemars(range(min = 1))]
    pub max_concurrency: Option<u32>,
    /// How much everybody together may ask of this provider, such as the quota that the vendor grants.
    pub limits: Limits,
    /// What everybody together may spend at this provider, counted since the gateway was started.
    pub budget: Option<Budget>,
    /// How many requests may wait for this provider while it has its hands full, and for how long; 0 turns waiting off.
    pub queue: Queue,
}

/// Who runs a provider.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, serde::Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Trust {
    /// Somebody else.
    #[default]
    External,
    /// The operator.
    Internal,
}

/// What holds for the keys of a team.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Team {
    /// Whether requests and answers are kept word by word.
    pub capture: Capture,
    /// The regions that its requests never leave, by fail-over neither; empty is everywhere.
    #[schemars(inner(length(min = 1, max = 64)))]
    pub residency: Vec<String>,
    /// Whether its requests go to providers with `trust: internal` alone. Default false.
    pub internal_only: bool,
    /// How much its keys may ask for together.
    pub limits: Limits,
    /// What its keys may spend together.
    pub budget: Option<Budget>,
    /// Its share where requests have to wait for a provider: a team with 3 is served three times as much as one with 1. Default 1.
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u32>,
    /// How urgent its requests are where they have to wait. Default `standard`.
    pub priority: Option<Urgency>,
}

/// What is kept of the words of requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    /// Keeps the request and the answer with the record, at most 256 KiB of each. Default false.
    pub content: bool,
    /// How long they are kept; the rest of the record stays. Default 7d.
    pub retention: DurationText,
}

impl Default for Capture {
    fn default() -> Self {
        Self { content: false, retention: DurationText(Duration::from_secs(7 * 86_400)) }
    }
}

/// How long records of requests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Records {
    /// Older records are deleted. Default 30d.
    pub retention: DurationText,
}

impl Default for Records {
    fn default() -> Self {
        Self { retention: DurationText(Duration::from_secs(30 * 86_400)) }
    }
}

/// What is kept of responses (`/v1/responses`), for those who go on from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Responses {
    /// Whether responses are kept when their asker does not forbid it. Without it every answer says `store: false`, and
    /// nothing of a conversation is written down. Default true.
    pub store: bool,
    /// How long a response is kept, with what was asked for it. Default 30d.
    pub retention: DurationText,
    /// Largest response that is kept, with what was asked for it, and largest conversation that a request may go on
    /// from. Default 20MiB.
    pub max_bytes: ByteSize,
    /// Most that the keys of one team, or one key without a team, keep together; what is more is answered and not kept.
    /// Default 1GiB.
    pub max_owner_bytes: ByteSize,
}

impl Default for Responses {
    fn default() -> Self {
        Self {
            store: true,
            retention: DurationText(Duration::from_secs(30 * 86_400)),
            max_bytes: ByteSize(20 << 20),
            max_owner_bytes: ByteSize(1 << 30),
        }
    }
}

/// Where requests go that no route of penstock knows: passed on as they are, with the provider's credential. Whatever a
/// vendor keeps behind these paths is shared by all keys that hold the scope `relay:invoke`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// Which of `providers` gets them: one that speaks OpenAI's API.
    #[schemars(length(min = 1))]
    pub provider: String,
    /// Which paths: `/v1/batches`, or `/v1/files/*` for `/v1/files` and everything below it.
    #[schemars(length(min = 1), inner(pattern(r"^/v1/([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*(/\*)?|\*)$")))]
    pub paths: Vec<String>,
}

/// A key that stands in the file; others live in the database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileKey {
    /// The key's name in logs, metrics and lists.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The key itself, by reference: `${CI_KEY}` or `file:/run/secrets/ci-key`.
    pub key: SecretText,
    /// Whose key it is.
    #[serde(default)]
    pub team: Option<String>,
    /// What it may do, as `family:action[:name]`: `chat:*`, `embeddings:invoke`, `admin:keys`. Without a scope it may do
    /// nothing.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The models that it may use; empty is all.
    #[serde(default)]
    pub models: Vec<String>,
    /// Its own limits; what is missing comes from the top-level `limits`.
    #[serde(default)]
    pub limits: Limits,
    /// What it may spend.
    #[serde(default)]
    pub budget: Option<Budget>,
    /// When it stops working.
    #[serde(default)]
    pub expires: Option<TimeText>,
    /// The addresses that it may be sent from, as addresses or ranges: `[10.0.0.0/8]`; empty is everywhere.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub allow_ips: Vec<IpRange>,
    /// How urgent its requests are where they have to wait for a provider; without it, as its team's are.
    #[serde(default)]
    pub priority: Option<Urgency>,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// For people or for machines. Default `text`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or per module: `info,penstock_flow=debug`. Default `info`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The problem of a gateway that the network can reach although nobody has a key for it: either everything is refused,
/// or somebody will be tempted to open it. `stored_keys` counts the usable keys in the database.
pub fn exposure(config: &Config, stored_keys: usize) -> Option<Problem> {
    let public = |address: &SocketAddr| !address.ip().is_loopback();
    let (path, address) = if public(&config.server.listen) {
        ("server.listen", config.server.listen)
    } else {
        ("server.admin_listen", config.server.admin_listen.filter(public)?)
    };
    (config.keys.is_empty() && stored_keys == 0 && config.auth.oidc.is_empty()).then(|| {
        Problem::error(path, format!("{address} can be reached from other machines, and there is no key yet"))
            .with_cause("a public address without authentication hands the models to everybody")
            .with_hint(format!(
                "make a key first (`penstock keys create --name NAME --scope 'chat:*'`, or an entry under `keys`), or \
                 listen on 127.0.0.1:{}",
                address.port()
            ))
    })
}
