//! What an access token says, once its signature was proved, and what follows from it.
//!
//! Times, audience and the meaning of scopes, roles and teams are decided here; that the words are the issuer's own was
//! proved before, behind the port [`Prover`]. The rules are those of RFC 9068 (JWT access tokens) and RFC 8725 (best
//! practice).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_config::{Limits, OidcIssuer};
use penstock_domain::{Code, Error, Secret};

use crate::{Caller, KeyId, KeySource, Leash, ModelAllow, Role, ScopeSet, check_team};

/// How far the clocks of an issuer and of this machine may be apart.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);
/// The longest subject that becomes part of a key id as it is, in bytes.
const MAX_SUBJECT: usize = 96;
/// The longest issuer that becomes part of a key id as it is, in bytes.
const MAX_ISSUER: usize = 128;
/// How long an issuer's word on a token may hold.
const SHORTEST_CACHE: Duration = Duration::from_secs(1);
const LONGEST_CACHE: Duration = Duration::from_secs(300);
/// The most scopes of one token that are looked at.
const MAX_WORDS: usize = 256;

/// What a token says whose signature was proved. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// `iss`: one of the configured issuers, letter by letter.
    pub issuer: Arc<str>,
    /// `sub`.
    pub subject: Option<String>,
    /// `aud`, one or several.
    pub audience: Vec<String>,
    /// `exp`.
    pub expires: Option<u64>,
    /// `nbf`.
    pub not_before: Option<u64>,
    /// `iat`.
    pub issued: Option<u64>,
    /// Whether it has claims that only ID tokens have (`nonce`, `at_hash`, `c_hash`).
    pub identifies: bool,
    /// The words of the scope claim.
    pub scopes: Vec<String>,
    /// The values of the roles claim.
    pub roles: Vec<String>,
    /// The team claim.
    pub team: Option<String>,
    /// What its open answers hang on, where its issuer was asked about it (RFC 7662): such an answer is kept by whoever asked,
    /// and by nobody else.
    pub asked: Option<Leash>,
}

/// Proves tokens by the keys of their issuers. Answers at once, from what it knows: it does no IO.
pub trait Prover: Send + Sync {
    /// The claims of a token whose signature is that of one of the configured issuers.
    ///
    /// # Errors
    /// `invalid_token`; `issuer_unavailable` with a wait when the issuer's keys are not there yet.
    fn prove(&self, token: &str) -> Result<Claims, Error>;

    /// A number that changes whenever the keys do: what was proved before must then be proved again.
    fn revision(&self) -> u64;

    /// Whether there are issuers that are to be asked about tokens at all.
    fn inquires(&self) -> bool {
        false
    }

    /// Whether texts that are no JWT may be tokens.
    fn takes_opaque(&self) -> bool {
        false
    }

    /// What must be waited for before [`prove`](Self::prove) can tell of this token; `None` when it can already.
    fn inquiry(self: Arc<Self>, token: &Secret) -> Option<Inquiry> {
        let _ = token;
        None
    }
}

/// A question to an issuer. Its outcome, whatever it is, is what `prove` then tells.
pub type Inquiry = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the tokens of one issuer may say and what it means.
pub(crate) struct Rules {
    pub(crate) issuer: Arc<str>,
    audience: Box<str>,
    roles: BTreeMap<String, Role>,
    scopes: Vec<String>,
    models: ModelAllow,
    /// Cut when the issuer leaves the configuration.
    pub(crate) leash: Leash,
}

impl Rules {
    /// Reads a section.
    ///
    /// # Errors
    /// Every problem, as member and sentence.
    pub(crate) fn read(settings: &OidcIssuer) -> Result<Self, Vec<(String, String)>> {
        let mut problems: Vec<(String, String)> = Vec::new();
        problems.extend(address_problem(&settings.issuer).map(|say| ("issuer".to_owned(), say)));
        let jwks = settings.jwks_url.as_deref().and_then(address_problem);
        let asked = settings.introspection.as_ref().and_then(|how| how.url.as_deref());
        let asked = asked.and_then(address_problem);
        problems.extend(asked.map(|say| ("introspection.url".to_owned(), say)));
        let cache = settings.introspection.as_ref().map(|how| how.cache.0);
        if cache.is_some_and(|cache| !(SHORTEST_CACHE..=LONGEST_CACHE).contains(&cache)) {
            problems.push(("introspection.cache".to_owned(), "expected 1s to 5m".to_owned()));
        }
        problems.extend(jwks.map(|say| ("jwks_url".to_owned(), say)));
        if let Err(says) = ScopeSet::parse(&settings.scopes) {
            problems.extend(says.into_iter().map(|say| ("scopes".to_owned(), say)));
        }
        let models = match settings.models.as_slice() {
            [] => ModelAllow::ALL,
            patterns => ModelAllow::parse(patterns).unwrap_or_else(|says| {
                problems.extend(says.into_iter().map(|say| ("models".to_owned(), say)));
                ModelAllow::default()
            }),
        };
        if !settings.roles.is_empty() && settings.roles_claim.is_none() {
            problems.push((
                "roles".to_owned(),
                "`roles_claim` must say in which claim these values are".to_owned(),
            ));
        }
        let mut roles = BTreeMap::new();
        for (value, name) in &settings.roles {
            match Role::parse(name) {
                Ok(role) => drop(roles.insert(value.clone(), role)),
                Err(say) => problems.push((format!("roles.{value}"), say)),
            }
        }
        if settings.roles_claim.is_some() && roles.is_empty() {
            roles = Role::ALL.iter().map(|role| (role.name().to_owned(), *role)).collect();
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            issuer: settings.issuer.as_str().into(),
            audience: settings.audience.as_str().into(),
            roles,
            scopes: settings.scopes.clone(),
            models,
            leash: Leash::default(),
        })
    }

    /// Checks everything that a token must say, and makes its caller.
    ///
    /// # Errors
    /// `invalid_token`, `expired_token`.
    pub(crate) fn caller(&self, claims: &Claims, limits: Limits, now: SystemTime) -> Result<Caller, Error> {
        if claims.identifies {
            return Err(invalid("it is an ID token, made for the client that logs a person in"));
        }
        if !claims.audience.iter().any(|audience| **audience == *self.audience) {
            return Err(invalid("its audience (`aud`) is another service"));
        }
        // An issuer that is asked again every minute need not say.
        if claims.expires.is_none() && claims.asked.is_none() {
            return Err(invalid("it has no expiry (`exp`)"));
        }
        let subject = claims.subject.as_deref().filter(|subject| !subject.is_empty());
        let subject = subject.ok_or_else(|| invalid("it has no subject (`sub`)"))?;
        in_time(claims, now)?;
        let team = match claims.team.as_deref() {
            // A name that no key could have would be a team that no limit of the configuration can name.
            Some(team) if check_team(team).is_some() => {
                return Err(invalid("its team is not a name of letters, digits, `.`, `_` and `-`"));
            }
            team => team.map(Arc::from),
        };
        Ok(Caller {
            key_id: key_id(&self.issuer, subject),
            name: shown(subject).into(),
            team,
            scopes: self.scopes(claims),
            models: self.models.clone(),
            limits,
            budget: None,
            source: KeySource::Token,
            allow_ips: Arc::default(),
            priority: None,
            leash: match &claims.asked {
                Some(own) => own.hanging_on(&self.leash),
                None => self.leash.clone(),
            },
        })
    }

    /// Tokens also carry scopes of other services (`openid`, `profile`): what is no scope of ours is passed over, because
    /// it grants nothing.
    fn scopes(&self, claims: &Claims) -> ScopeSet {
        let own = claims.scopes.iter().take(MAX_WORDS).map(String::as_str);
        let roles = claims.roles.iter().take(MAX_WORDS).filter_map(|value| self.roles.get(value));
        let roles = roles.map(|role| role.scope());
        // A role in the scope claim would let whoever asks for scopes ask for roles.
        let own = own.filter(|scope| !scope.starts_with("role:") && *scope != "*");
        ScopeSet::parse_known(self.scopes.iter().map(String::as_str).chain(roles).chain(own))
    }
}

/// Checks `exp`, `nbf` and `iat` with the leeway that [`LEEWAY`] gives.
fn in_time(claims: &Claims, now: SystemTime) -> Result<(), Error> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let leeway = LEEWAY.as_secs();
    if claims.expires.is_some_and(|end| end.saturating_add(leeway) <= now) {
        return Err(expired());
    }
    if claims.not_before.is_some_and(|begin| begin > now.saturating_add(leeway)) {
        return Err(invalid("it is not valid yet (`nbf`)"));
    }
    if claims.issued.is_some_and(|made| made > now.saturating_add(leeway)) {
        return Err(invalid(
            "it comes from the future (`iat`): compare the clocks of the issuer and of this machine",
        ));
    }
    Ok(())
}

/// `jwt:ISSUER:SUBJECT`, bounded; parts that are long or not plain stand as a digest. Records, limits and stored answers
/// go by it, so two subjects never share one.
pub(crate) fn key_id(issuer: &str, subject: &str) -> KeyId {
    let part = |text: &str, most: usize| {
        // What looks like one of our digests is digested too, so that nobody can be taken for another.
        let plain =
            text.len() <= most && text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.starts_with('~');
        if plain { text.to_owned() } else { format!("~{}", &blake3::hash(text.as_bytes()).to_hex()[..40]) }
    };
    KeyId::new(format!("jwt:{}:{}", part(issuer, MAX_ISSUER), part(subject, MAX_SUBJECT)))
}

pub(crate) fn shown(subject: &str) -> String {
    subject.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// What is wrong with an address that keys are fetched from.
pub(crate) fn address_problem(text: &str) -> Option<String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(['?', '#', '@', '\\']);
    let rest = text.strip_prefix("https://");
    let near = text.strip_prefix("http://").filter(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        let host = host.strip_prefix('[').map_or_else(
            || host.split(':').next().unwrap_or_default(),
            |rest| rest.split(']').next().unwrap_or_default(),
        );
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    if plain && rest.or(near).is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) {
        return None;
    }
    Some("expected an address that begins with https:// (http:// only for this machine), without a user name, `?` and `#`".to_owned())
}

#[cold]
pub(crate) fn invalid(why: &str) -> Error {
    Error::new(Code::InvalidToken, format!("this access token is not valid here: {why}"))
}

#[cold]
pub(crate) fn expired() -> Error {
    Error::new(Code::ExpiredToken, "this access token has expired: ask its issuer for a new one")
}

#[cfg(test)]
mod tests;
