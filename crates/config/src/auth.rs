//! Who may call beside the holders of keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may call beside the holders of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Issuers whose access tokens (JWT, RFC 9068) are taken beside API keys.
    #[schemars(length(max = 16))]
    pub oidc: Vec<OidcIssuer>,
    /// The address under which clients know this gateway, for `/.well-known/oauth-protected-resource` (RFC 9728). Default
    /// http:// and `server.listen`.
    pub resource: Option<String>,
}

/// An issuer of access tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcIssuer {
    /// Its address, letter by letter as tokens have it in `iss`. Https, except on this machine.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// What tokens for this gateway have in `aud`.
    #[schemars(length(min = 1, max = 512))]
    pub audience: String,
    /// The claim with the scopes: a text with spaces, or a list. Scopes that penstock does not know are passed over.
    /// Default `scope`.
    #[serde(default = "scope_claim")]
    pub scope_claim: String,
    /// The claim with the team's name. A dot leads into an object. Without it nobody belongs to a team.
    #[serde(default)]
    pub team_claim: Option<String>,
    /// The claim with roles or groups: `roles`, `groups`, `realm_access.roles`. Without it tokens give no role.
    #[serde(default)]
    pub roles_claim: Option<String>,
    /// Which value of `roles_claim` gives which role (viewer, operator, admin, auditor). Empty: the values are the roles'
    /// own names.
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
    /// What every token of this issuer may do, whatever it says itself.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The models that its tokens may use; empty is all.
    #[serde(default)]
    pub models: Vec<String>,
    /// The algorithms that it signs with. Default RS256 and ES256.
    #[serde(default = "algorithms")]
    #[schemars(length(min = 1))]
    pub algorithms: Vec<TokenAlgorithm>,
    /// What its access tokens say in `typ`. Default `at+jwt`, as RFC 9068 has it.
    #[serde(default)]
    pub token_type: TokenType,
    /// Where its keys are. Default: where its discovery document says.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// PEM file of the certificate authorities to trust for it instead of the system's, for issuers of your own.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn scope_claim() -> String {
    "scope".to_owned()
}

fn algorithms() -> Vec<TokenAlgorithm> {
    vec![TokenAlgorithm::Rs256, TokenAlgorithm::Es256]
}

/// How a token is signed (RFC 7518, RFC 8037). Nothing symmetric, and not `none`: they are not even words here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
#[expect(missing_docs, reason = "the names are those of RFC 7518 and say it all")]
pub enum TokenAlgorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
    #[serde(rename = "PS256")]
    Ps256,
    #[serde(rename = "PS384")]
    Ps384,
    #[serde(rename = "PS512")]
    Ps512,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// What access tokens say in `typ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum TokenType {
    /// `at+jwt`: nothing else can be taken for an access token (RFC 9068).
    #[default]
    #[serde(rename = "at+jwt")]
    AccessToken,
    /// `JWT` or nothing, for issuers that do not mark their access tokens. ID tokens are told by their own claims.
    #[serde(rename = "jwt")]
    Jwt,
}
