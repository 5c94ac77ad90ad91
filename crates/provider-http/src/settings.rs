//! What the operator may say about a vendor, and everything that can be wrong with it.
//!
//! What it is: one settings type for every preset, and its check, which gives all problems at once.
//!
//! What it promises: what passes the check can be built without another question; no problem ever repeats a secret.
//!
//! What it refuses to know: files, environment variables and references to secrets: `config` has resolved them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use penstock_config::{DurationText, Problem, SecretText, Trust};
use penstock_domain::Dialect;
use penstock_provider::Timeouts;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::{Address, segment};
use crate::keys::{self, Keys};
use crate::presets::{Naming, Preset};

/// The bound of an answer where the vendor demands one and nobody gave any, in tokens.
const DEFAULT_MAX_TOKENS: u32 = 4096;

/// Settings of a provider that is reached by HTTP.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address of the API, with its version path: `https://api.example.com/v1`. Known vendors have a default.
    pub base_url: Option<String>,
    /// The vendor's API key, as a reference such as `${OPENAI_API_KEY}` or `file:PATH`. It is sent to the host of
    /// `base_url` and to no other.
    pub api_key: Option<SecretText>,
    /// Several keys in place of `api_key`, each with limits of its own: a request goes out with one of them, and with
    /// another when the vendor refuses or limits that one. 1 to 64, all different.
    #[schemars(length(min = 1, max = 64))]
    pub api_keys: Option<Vec<SecretText>>,
    /// Who runs the server: `external`, or `internal` for one of your own. `internal` also allows a key over plain http.
    pub trust: Option<Trust>,
    /// Additional request headers, for instance `OpenAI-Organization`. Values may be references to secrets.
    pub headers: BTreeMap<String, SecretText>,
    /// How long each phase of a call may take.
    pub timeouts: PhaseTimeouts,
    /// Most calls at the same time, answers that are still streaming included. One more goes to another candidate of its
    /// model, or waits in the provider's queue. No bound by default.
    #[schemars(range(min = 1))]
    pub max_concurrency: Option<u32>,
    /// Whether the vendor understands `stream_options`. Set it to false for a server that answers 400 or 422 to it; usage
    /// of streams is then only known if the server reports it unasked.
    pub stream_options: Option<bool>,
    /// Anthropic only: the bound of an answer for callers of another API who gave none, in tokens, because this vendor
    /// demands one. Default 4096.
    #[schemars(range(min = 1))]
    pub default_max_tokens: Option<u32>,
    /// PEM file of the certificate authorities to trust for this vendor instead of the system's, for servers of your own.
    pub ca_file: Option<PathBuf>,
    /// Azure only: the `api-version` of the API. Not needed when `base_url` ends in `/openai/v1`.
    pub api_version: Option<String>,
    /// Azure only: deployment names by model name. A model that is not listed is deployed under its own name.
    pub deployments: BTreeMap<String, String>,
}

impl penstock_config::Settings for Settings {
    const KIND: &'static str = "openai_compatible";
}

/// How long each phase of a call may take. The caller's own deadline always applies as well.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PhaseTimeouts {
    /// Name resolution, TCP and TLS. Default 5s.
    pub connect: Option<DurationText>,
    /// From the sent request to the first content of a stream (comments and opening events are none) or to an embedding;
    /// default 60s. A chat answer that is not streamed comes in one piece when it is complete, so `total` bounds the wait
    /// for it.
    pub first_token: Option<DurationText>,
    /// Longest silence after that; bytes that trickle in without completing a line are silence. Default 60s.
    pub idle: Option<DurationText>,
    /// The whole call. Default 10m.
    pub total: Option<DurationText>,
}

/// Settings that passed the check, in the shape that calls need.
pub(crate) struct Checked {
    pub(crate) address: Address,
    /// Additional headers: they belong to this host alone, as the keys do.
    pub(crate) private_headers: HeaderMap,
    pub(crate) keys: Keys,
    pub(crate) timeouts: Timeouts,
    pub(crate) max_concurrency: Option<u32>,
    pub(crate) stream_options: bool,
    pub(crate) default_max_tokens: u32,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) naming: Names,
}

/// Where the model's name goes, resolved.
pub(crate) enum Names {
    Body,
    Deployment { query: String, deployments: BTreeMap<String, String> },
}

impl Settings {
    /// Checks the settings against a preset.
    ///
    /// # Errors
    /// Every problem, with paths inside the section.
    pub(crate) fn check(self, preset: &Preset) -> Result<Checked, Vec<Problem>> {
        let mut problems = Vec::new();
        let address = self.address(preset, &mut problems);
        let headers = self.extra_headers(preset, &mut problems);
        let keys = Keys::read(self.api_key.as_ref(), self.api_keys.as_deref(), preset, &mut problems);
        self.exposure(address.as_ref(), &keys, &mut problems);
        let timeouts = self.timeouts.resolve(&mut problems);
        if self.max_concurrency == Some(0) {
            problems.push(
                Problem::error("max_concurrency", "expected at least 1, found 0")
                    .with_hint("remove the setting for no bound"),
            );
        }
        self.max_tokens(preset, &mut problems);
        let naming = self.names(preset, address.as_ref(), &mut problems);
        match address {
            Some(address) if problems.is_empty() => Ok(Checked {
                address,
                private_headers: headers,
                keys,
                timeouts,
                max_concurrency: self.max_concurrency,
                stream_options: self.stream_options.unwrap_or(preset.stream_options),
                default_max_tokens: self.default_max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
                ca_file: self.ca_file,
                naming,
            }),
            _ => Err(problems),
        }
    }

    fn max_tokens(&self, preset: &Preset, problems: &mut Vec<Problem>) {
        match self.default_max_tokens {
            Some(_) if preset.dialect != Dialect::Anthropic => problems.push(
                Problem::error("default_max_tokens", "unknown setting for this kind")
                    .with_hint("only anthropic demands a bound of every answer: remove it"),
            ),
            Some(0) => problems.push(Problem::error("default_max_tokens", "expected at least 1, found 0")),
            _ => {}
        }
    }

    fn address(&self, preset: &Preset, problems: &mut Vec<Problem>) -> Option<Address> {
        let Some(text) = self.base_url.as_deref().or(preset.base_url) else {
            problems.push(
                Problem::error("base_url", format!("a provider of kind {} needs an address", preset.kind))
                    .with_hint(format!("for example `base_url: {}`", preset.example)),
            );
            return None;
        };
        match Address::parse(text) {
            Ok(address) => Some(address),
            Err(message) => {
                problems.push(
                    Problem::error("base_url", message)
                        .with_hint(format!("for example `base_url: {}`", preset.example)),
                );
                None
            }
        }
    }

    fn extra_headers(&self, preset: &Preset, problems: &mut Vec<Problem>) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.headers.len() + 1);
        for (name, value) in &self.headers {
            let path = format!("headers.{name}");
            let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
                problems
                    .push(Problem::error("headers", "expected a header name of letters, digits and hyphens"));
                continue;
            };
            if let Some(why) = refused(&parsed, preset) {
                problems.push(
                    Problem::error(path, format!("the header {parsed} cannot be set here")).with_hint(why),
                );
                continue;
            }
            match secret_header(value.expose()) {
                Some(value) if !map.contains_key(&parsed) => {
                    map.insert(parsed, value);
                }
                Some(_) => problems.push(Problem::error(path, format!("the header {parsed} is set twice"))),
                None => problems.push(
                    Problem::error(path, "expected a header value of one line without control characters")
                        .with_hint("if it comes from a file, remove line breaks inside it"),
                ),
            }
        }
        for (name, value) in preset.headers {
            map.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
        }
        map
    }

    fn exposure(&self, address: Option<&Address>, keys: &Keys, problems: &mut Vec<Problem>) {
        if !keys.any() {
            return;
        }
        let exposed = address.is_some_and(|address| !address.is_encrypted() && !address.is_private());
        if exposed && self.trust != Some(Trust::Internal) {
            problems.push(
                Problem::error("base_url", "expected https for a public host when a key is sent, found http")
                    .with_cause("everybody on the way could read the key and the prompts")
                    .with_hint(
                        "write https://, or `trust: internal` if the host is on a network of your own",
                    ),
            );
        }
    }

    fn names(&self, preset: &Preset, address: Option<&Address>, problems: &mut Vec<Problem>) -> Names {
        let Naming::Deployment(default_version) = preset.naming else {
            let hint = "only azure_openai has API versions and deployments: remove it";
            if self.api_version.is_some() {
                problems.push(Problem::error("api_version", "unknown setting for this kind").with_hint(hint));
            }
            if !self.deployments.is_empty() {
                problems.push(Problem::error("deployments", "unknown setting for this kind").with_hint(hint));
            }
            return Names::Body;
        };
        let version = self.api_version.as_deref().unwrap_or(default_version);
        let Some(version) = segment(version) else {
            problems.push(
                Problem::error("api_version", "expected a version such as 2024-10-21")
                    .with_hint(format!("remove the setting for the default, {default_version}")),
            );
            return Names::Body;
        };
        for (model, deployment) in &self.deployments {
            if segment(deployment).is_none() {
                problems.push(Problem::error(
                    format!("deployments.{model}"),
                    "expected the name of a deployment: letters, digits, `-`, `_` and `.`",
                ));
            }
        }
        // Azure's newer address speaks plain OpenAI: the model in the body, no version.
        let plain = address.is_some_and(|address| address.path().ends_with("/openai/v1"));
        if plain && self.api_version.is_none() && self.deployments.is_empty() {
            return Names::Body;
        }
        Names::Deployment { query: format!("api-version={version}"), deployments: self.deployments.clone() }
    }
}

impl PhaseTimeouts {
    fn resolve(&self, problems: &mut Vec<Problem>) -> Timeouts {
        let usual = Timeouts::default();
        let mut phase = |name: &str, setting: Option<DurationText>, usual: Duration| match setting {
            Some(DurationText(Duration::ZERO)) => {
                problems.push(
                    Problem::error(
                        format!("timeouts.{name}"),
                        "expected a time longer than nothing, found zero",
                    )
                    .with_hint("remove the setting for the default"),
                );
                usual
            }
            // A day: longer is no bound, and instants must not overflow.
            Some(DurationText(time)) => time.min(Duration::from_secs(86_400)),
            None => usual,
        };
        Timeouts {
            connect: phase("connect", self.connect, usual.connect),
            first_token: phase("first_token", self.first_token, usual.first_token),
            idle: phase("idle", self.idle, usual.idle),
            total: phase("total", self.total, usual.total),
        }
    }
}

/// A header value that `Debug` hides and HTTP/2 never puts into its shared compression table.
pub(crate) fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Why a header cannot be configured.
fn refused(name: &HeaderName, preset: &Preset) -> Option<&'static str> {
    const HOPS: &[&str] = &[
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "content-length",
        "host",
    ];
    const OURS: &[&str] = &["accept", "accept-encoding", "content-type", "content-encoding", "user-agent"];
    if *name == header::AUTHORIZATION || *name == header::PROXY_AUTHORIZATION || *name == keys::header(preset)
    {
        Some("write the key as `api_key`")
    } else if HOPS.contains(&name.as_str()) {
        Some("it belongs to the connection: remove it")
    } else if OURS.contains(&name.as_str()) {
        Some("penstock sets it: remove it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
