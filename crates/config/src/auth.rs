//! Who may call beside the holders of keys.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DurationText, SecretText};

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
    /// The server's own secret under which digests of keys are made: 64 hexadecimal digits, the same for all gateways on one
    /// database. Default the file `pepper` in `data_dir`, which is made at the first start.
    pub pepper: Option<SecretText>,
    /// How people sign in with a browser to administer. Without it there is no sign-in.
    pub admin_login: Option<AdminLogin>,
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
    /// How it is asked about tokens (RFC 7662): those that are no JWT, and, with `always`, all. Without it only JWTs are
    /// taken, and proved by the issuer's keys alone.
    #[serde(default)]
    pub introspection: Option<Introspection>,
}

/// How an issuer is asked about tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Introspection {
    /// What this gateway is called at the issuer.
    #[schemars(length(min = 1, max = 256))]
    pub client_id: String,
    /// How it proves to be that.
    pub client_secret: SecretText,
    /// Where to ask. Default: where the discovery document says.
    #[serde(default)]
    pub url: Option<String>,
    /// Whether tokens that are no JWT are taken. They do not say who made them, so one issuer alone can have this. Default
    /// true.
    #[serde(default = "yes")]
    pub opaque: bool,
    /// Whether it is asked about JWTs too, once their signature fits: what it revoked ends within `cache`. Default false.
    #[serde(default)]
    pub always: bool,
    /// How long its word holds that a token is good, 1s to 5m: the time within which what it revoked ends, open answers
    /// included. Default 60s.
    #[serde(default = "cache")]
    pub cache: DurationText,
}

fn cache() -> DurationText {
    DurationText(Duration::from_secs(60))
}

/// How people sign in with a browser to administer: OpenID Connect, authorization code with PKCE.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminLogin {
    /// Who knows the people, letter by letter as its discovery document says. Https, except on this machine.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// What this gateway is called there.
    #[schemars(length(min = 1, max = 256))]
    pub client_id: String,
    /// How it proves to be that; public clients have none.
    #[serde(default)]
    pub client_secret: Option<SecretText>,
    /// Where the issuer sends people back, letter by letter as it is registered there; ends with `/admin/callback`. Default:
    /// `auth.resource`, or http:// and the address of administration, with that path.
    #[serde(default)]
    pub redirect_uri: Option<String>,
    /// What is asked for. Default openid, profile, email.
    #[serde(default = "login_scopes")]
    pub scopes: Vec<String>,
    /// The claim of the ID token with roles or groups. A dot leads into an object. Default `roles`.
    #[serde(default = "roles")]
    pub role_claim: String,
    /// Which value of the claim gives which role (viewer, operator, admin, auditor). Empty: the values are the roles' own
    /// names. Whoever has none is turned away.
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
    /// How long a session lasts at most. Default 8h.
    #[serde(default = "longest_session")]
    pub max_session: DurationText,
    /// How long a session lasts without a request. Default 30m.
    #[serde(default = "longest_pause")]
    pub idle: DurationText,
    /// The algorithms that ID tokens are signed with. Default RS256 and ES256.
    #[serde(default = "algorithms")]
    #[schemars(length(min = 1))]
    pub algorithms: Vec<TokenAlgorithm>,
    /// PEM file of the certificate authorities to trust for the issuer instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

fn login_scopes() -> Vec<String> {
    ["openid", "profile", "email"].map(str::to_owned).into()
}

fn roles() -> String {
    "roles".to_owned()
}

fn longest_session() -> DurationText {
    DurationText(Duration::from_secs(8 * 3600))
}

fn longest_pause() -> DurationText {
    DurationText(Duration::from_secs(30 * 60))
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
