//! A signed token as it arrives: three parts, a header, claims that nobody has proved yet.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use penstock_config::{OidcIssuer, TokenAlgorithm, TokenType};
use penstock_identity::Claims;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The largest header, in bytes of its JSON.
const MAX_HEADER: usize = 2048;
/// The longest key id.
const MAX_KID: usize = 256;
/// The longest text that is taken from a claim, in bytes.
const MAX_TEXT: usize = 1024;
/// The most texts that are taken from a claim.
const MAX_TEXTS: usize = 256;

/// What we read of a header (RFC 7515, 4.1). `jku`, `jwk`, `x5u` and `x5c` are left unread: a token must not say what
/// proves it.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// A token, taken apart.
pub(crate) struct Token<'t> {
    pub(crate) alg: TokenAlgorithm,
    pub(crate) kid: Option<String>,
    typ: Option<String>,
    /// What the signature is over.
    pub(crate) signed: &'t str,
    pub(crate) signature: Vec<u8>,
    claims: Map<String, Value>,
}

impl<'t> Token<'t> {
    /// Takes a token apart. Proves nothing.
    ///
    /// # Errors
    /// Why it cannot be one of ours; never repeats what it says.
    pub(crate) fn read(text: &'t str) -> Result<Self, String> {
        let (signed, signature) = text.rsplit_once('.').ok_or("it does not have three parts")?;
        let (header, claims) = signed.split_once('.').ok_or("it does not have three parts")?;
        let header =
            decode(header).filter(|header| header.len() <= MAX_HEADER).ok_or("its header is not readable")?;
        // A member that stands twice is refused by serde: two readers could see two tokens.
        let header: Header = serde_json::from_slice(&header).map_err(|_| "its header is not readable")?;
        if header.crit.is_some() {
            return Err("its header has extensions (`crit`) that this gateway does not know".to_owned());
        }
        let alg = serde_json::from_value(Value::String(header.alg))
            .map_err(|_| "its algorithm (`alg`) is none that can prove it")?;
        if header.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID) {
            return Err("its key id (`kid`) is too long".to_owned());
        }
        let claims = decode(claims).ok_or("its claims are not readable")?;
        let claims: Object = serde_json::from_slice(&claims).map_err(|_| "its claims are not readable")?;
        let signature =
            decode(signature).filter(|bytes| !bytes.is_empty()).ok_or("its signature is not readable")?;
        Ok(Self { alg, kid: header.kid, typ: header.typ, signed, signature, claims: claims.0 })
    }

    /// Who says to have made it: picks the keys, and is proved by them.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Checks what the header says of the kind of token (RFC 9068, 2.1; RFC 8725, 3.11).
    pub(crate) fn is_of(&self, kind: TokenType) -> Result<(), &'static str> {
        let typ = self.typ.as_deref().map(str::to_ascii_lowercase);
        let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        match (kind, typ) {
            (_, Some("at+jwt")) | (TokenType::Jwt, None | Some("jwt")) => Ok(()),
            (TokenType::AccessToken, _) => Err(
                "its type (`typ`) is not at+jwt; the operator can allow JWT for this issuer by `token_type: jwt`",
            ),
            (TokenType::Jwt, _) => Err("its type (`typ`) is that of another kind of token"),
        }
    }

    /// Whether the header calls the token one of these; `None` is no word at all.
    pub(crate) fn says(&self, kinds: &[Option<&str>]) -> bool {
        let typ = self.typ.as_deref().map(str::to_ascii_lowercase);
        let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        kinds.contains(&typ)
    }

    /// The claims in our words; to be believed once the signature was proved.
    pub(crate) fn claims(&self, settings: &OidcIssuer) -> Result<Claims, String> {
        claims(&self.claims, settings)
    }

    /// The claims as they are; to be believed once the signature was proved.
    pub(crate) fn raw(&self) -> &Map<String, Value> {
        &self.claims
    }
}

/// Claims in our words.
pub(crate) fn claims(told: &Map<String, Value>, settings: &OidcIssuer) -> Result<Claims, String> {
    let text = |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned);
    let long = |name: &str| text(name).is_some_and(|text| text.len() > MAX_TEXT);
    if let Some(name) = ["sub", "iss"].into_iter().find(|name| long(name)) {
        return Err(format!("its claim `{name}` is too long"));
    }
    let team = match settings.team_claim.as_deref().and_then(|name| find(told, name)) {
        None | Some(Value::Null) => None,
        Some(Value::String(team)) if team.len() <= MAX_TEXT => Some(team.clone()),
        // A team that cannot be read must not become no team: that could lift its limits.
        Some(_) => return Err("its team is not a text".to_owned()),
    };
    let roles = settings.roles_claim.as_deref().and_then(|name| find(told, name));
    Ok(Claims {
        issuer: settings.issuer.as_str().into(),
        subject: text("sub"),
        audience: texts(told.get("aud"), false),
        expires: time(told, "exp")?,
        not_before: time(told, "nbf")?,
        issued: time(told, "iat")?,
        identifies: ["nonce", "at_hash", "c_hash"].iter().any(|name| told.contains_key(*name)),
        scopes: texts(find(told, &settings.scope_claim), true),
        roles: texts(roles, false),
        team,
        asked: None,
    })
}

/// A NumericDate (RFC 7519, 2): seconds, perhaps with a fraction.
pub(crate) fn time(told: &Map<String, Value>, name: &str) -> Result<Option<u64>, String> {
    let Some(value) = told.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..1e11).contains(seconds));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1e11")]
    let whole = seconds.map(|seconds| seconds as u64);
    whole.map(Some).ok_or_else(|| format!("its claim `{name}` is not a time"))
}

/// A JSON object in which no member stands twice.
pub(crate) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice::<Object>(bytes).ok().map(|object| object.0)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A claim by its name, or by a path with dots through objects.
pub(crate) fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let mut steps = name.split('.');
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.get(step))
}

/// The texts of a claim: one, or a list; one text may hold several words.
pub(crate) fn texts(value: Option<&Value>, words: bool) -> Vec<String> {
    let split = |text: &str| -> Vec<String> {
        if words { text.split(' ').map(str::to_owned).collect() } else { vec![text.to_owned()] }
    };
    let all = match value {
        Some(Value::String(text)) => split(text),
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_str).map(str::to_owned).take(MAX_TEXTS).collect()
        }
        _ => Vec::new(),
    };
    let fits = |text: &String| !text.is_empty() && text.len() <= MAX_TEXT;
    all.into_iter().filter(fits).take(MAX_TEXTS).collect()
}

/// An object in which no member stands twice (RFC 8725, 2.4: two readers must not see two tokens).
struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Object;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut access: A) -> Result<Object, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a member stands twice"));
                    }
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
