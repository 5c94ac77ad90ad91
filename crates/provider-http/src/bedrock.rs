//! Amazon Bedrock: models of many families behind one API, in a region, with signed requests.
//!
//! What it is: the settings of kind `bedrock` and the row that they make of [`Vendor`].
//!
//! What it promises: either a Bedrock API key or an access key is configured, never both; requests with an access key are
//! signed (SigV4), so that the secret stays here. What it refuses to know: roles, instance metadata and profiles; whoever
//! rotates credentials writes them where the configuration refers to them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use penstock_config::{Problem, SecretText, Trust};
use penstock_dialect::Chats;
use penstock_domain::Dialect;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::segment;
use crate::presets::{Auth, Key, Naming, Preset};
use crate::provider::Vendor;
use crate::settings::{PhaseTimeouts, Settings};
use crate::sigv4::Signer;

/// What tells Bedrock from other vendors.
pub(crate) const PRESET: Preset = Preset {
    kind: "bedrock",
    aliases: &["aws_bedrock"],
    dialect: Dialect::Bedrock,
    headers: &[],
    base_url: None,
    example: "https://bedrock-runtime.eu-central-1.amazonaws.com",
    auth: Auth::Bearer,
    key: Key::Optional,
    naming: Naming::Body,
    chat: Some("/model/{model}/converse"),
    chat_stream: Some("/model/{model}/converse-stream"),
    responses: None,
    count_tokens: Some("/model/{model}/count-tokens"),
    completions: None,
    embeddings: None,
    stream_options: false,
    chats: Chats::COMPATIBLE,
};

/// Settings of a provider of kind `bedrock`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BedrockSettings {
    /// The AWS region that is asked, such as `eu-central-1`; also the region of residency rules.
    pub region: Option<String>,
    /// The access key's id, as a reference such as `${AWS_ACCESS_KEY_ID}`.
    pub access_key_id: Option<SecretText>,
    /// The access key's secret, as a reference such as `${AWS_SECRET_ACCESS_KEY}`. It signs requests and is never sent.
    pub secret_access_key: Option<SecretText>,
    /// The token of temporary credentials.
    pub session_token: Option<SecretText>,
    /// A Bedrock API key (`${AWS_BEARER_TOKEN_BEDROCK}`) in place of an access key.
    pub api_key: Option<SecretText>,
    /// Another address than the region's own: a VPC endpoint or a proxy.
    pub base_url: Option<String>,
    /// Whether the address is outside or a server of your own. `internal` also allows a key over plain http.
    pub trust: Option<Trust>,
    /// Additional request headers. Values may be references to secrets.
    pub headers: BTreeMap<String, SecretText>,
    /// How long each phase of a call may take.
    pub timeouts: PhaseTimeouts,
    /// Most calls at the same time; one more goes to another candidate or waits. No bound by default.
    #[schemars(range(min = 1))]
    pub max_concurrency: Option<u32>,
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

impl penstock_config::Settings for BedrockSettings {
    const KIND: &'static str = "bedrock";
}

impl BedrockSettings {
    /// Makes the provider. Opens no connection.
    ///
    /// # Errors
    /// Every problem of the settings.
    pub(crate) fn build(self) -> Result<Vendor, Vec<Problem>> {
        let region = self.region.as_deref().map(str::trim).unwrap_or_default().to_owned();
        let mut problems = Vec::new();
        if region.is_empty() || segment(&region).as_deref() != Some(&*region) {
            problems.push(
                Problem::error("region", "expected the name of an AWS region")
                    .with_hint("for example `region: eu-central-1`"),
            );
        }
        let signer = self.signer(&region, &mut problems);
        let settings = Settings {
            base_url: self
                .base_url
                .or_else(|| Some(format!("https://bedrock-runtime.{region}.amazonaws.com"))),
            api_key: self.api_key,
            trust: self.trust,
            headers: self.headers,
            timeouts: self.timeouts,
            max_concurrency: self.max_concurrency,
            ca_file: self.ca_file,
            ..Settings::default()
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        Vendor::build(&PRESET, settings).map(|vendor| match signer {
            Some(signer) => vendor.signing(signer),
            None => vendor,
        })
    }

    fn signer(&self, region: &str, problems: &mut Vec<Problem>) -> Option<Signer> {
        let hint = "write `access_key_id` and `secret_access_key`, or `api_key` alone";
        match (&self.access_key_id, &self.secret_access_key, &self.api_key) {
            (Some(id), Some(secret), None) => {
                let session = self.session_token.as_ref().map(SecretText::secret);
                Some(Signer::new((id.secret(), secret.secret()), session, region, "bedrock"))
            }
            (None, None, Some(_)) if self.session_token.is_none() => None,
            (None, None, None) => {
                problems.push(
                    Problem::error("access_key_id", "a provider of kind bedrock needs a credential")
                        .with_hint(hint),
                );
                None
            }
            (Some(_), None, None) | (None, Some(_), None) => {
                problems.push(
                    Problem::error(
                        "secret_access_key",
                        "an access key has an id and a secret, and one is missing",
                    )
                    .with_hint(hint),
                );
                None
            }
            _ => {
                let say = "an access key and a Bedrock API key exclude each other";
                problems.push(Problem::error("api_key", say).with_hint(hint));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(settings: serde_json::Value) -> Result<Vendor, Vec<String>> {
        let settings: BedrockSettings = serde_json::from_value(settings).unwrap();
        settings.build().map_err(|problems| problems.into_iter().map(|problem| problem.path).collect())
    }

    #[test]
    fn one_whole_credential_and_a_region_are_needed() {
        let key = serde_json::json!({"region": "eu-central-1", "api_key": "bedrock-key"});
        let pair =
            serde_json::json!({"region": "eu-central-1", "access_key_id": "AKID", "secret_access_key": "s"});
        assert!(built(key).is_ok() && built(pair).is_ok());
        for (settings, at) in [
            (serde_json::json!({"api_key": "k"}), "region"),
            (serde_json::json!({"region": "eu/..", "api_key": "k"}), "region"),
            (serde_json::json!({"region": "eu-central-1"}), "access_key_id"),
            (serde_json::json!({"region": "eu-central-1", "access_key_id": "AKID"}), "secret_access_key"),
            (
                serde_json::json!({"region": "r", "access_key_id": "A", "secret_access_key": "s", "api_key": "k"}),
                "api_key",
            ),
        ] {
            assert_eq!(built(settings).err(), Some(vec![at.to_owned()]));
        }
    }
}
