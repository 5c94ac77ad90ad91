//! How a YAML file becomes objects.
//!
//! What it is: one file in, [`Config`] out, or the whole list of [`Problem`]s with file, line, cause and mend. Secrets by
//! reference (`${VAR}`, `file:PATH`), sections that only a plug-in understands ([`Section`], [`Registry`]), the JSON Schema
//! that editors use, the differences between two snapshots, and the notice that a file changed.
//!
//! What it promises: every problem in one pass, never the first alone; no secret in any message, excerpt or printed
//! configuration; bounded work for hostile input; a panic for no input at all.
//!
//! What it refuses to know: what a provider, a store or a key does with its settings. It opens no socket and writes no
//! file, and it is the only crate that reads the process environment.

mod auth;
mod diff;
mod environment;
mod idempotency;
mod limits;
mod load;
mod model;
mod price;
mod problem;
mod range;
mod registry;
mod schema;
mod section;
mod share;
mod starter;
mod stores;
mod text;
mod watch;
mod webhooks;

pub use auth::{AdminLogin, Auth, Introspection, OidcIssuer, TokenAlgorithm, TokenType};
pub use diff::{Change, What, diff};
pub use environment::{Environment, MapEnvironment, ProcessEnvironment};
pub use idempotency::Idempotency;
pub use limits::{Budget, Limits, Meter, Organisation, Per, Span, Usd};
pub use load::{Loaded, Source, load, show};
pub use model::{
    Capture, Config, ContentFilter, Deployment, Failover, FileKey, Log, LogFormat, Model, Placement,
    Provisioned, Records, Relay, Responses, Server, Team, Trust, exposure,
};
pub use price::{LongPrices, ModelPrice, PriceRow, PriceText};
pub use problem::{Place, Problem, Severity, report};
pub use range::IpRange;
pub use registry::{Kind, KindSchemas, Kinds, Registry, Settings, schema_of};
pub use schema::schema;
pub use section::Section;
pub use share::{Queue, Urgency};
pub use starter::{Found, starter};
pub use stores::{Database, SharedFailure, SharedState, Stores};
pub use text::{ByteSize, DurationText, SecretText, TimeText};
pub use watch::Watch;
pub use webhooks::{AlertAt, EventKind, Ledger, Webhook};
