//! Access tokens beside keys: proved once, then recognised by their digest.
//!
//! Proving a signature costs some fifty microseconds; a client sends the same token hundreds of times. What was proved is
//! kept under the keyed digest of the *whole* token (CVE-2026-35030 came of keeping it under a part), in a table of fixed
//! size: a new token takes the place of an old one, so nobody can make it grow.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use penstock_config::{Auth, Limits};
use penstock_domain::{Error, Secret};

use crate::claims::Inquiry;
use crate::claims::{LEEWAY, Rules, expired, invalid};
use crate::{Caller, Digest, Pepper, Prover, SignIn, token};

/// How many proved tokens are remembered; a power of two.
const REMEMBERED: usize = 4096;
/// The longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// The shortest text that may be a token without being a JWT, in bytes: less could be guessed.
const SHORTEST_OPAQUE: usize = 20;

/// A token that was proved.
struct Proved {
    digest: Digest,
    caller: Arc<Caller>,
    /// When it ends, leeway included.
    until: SystemTime,
    /// The revision of the keys that proved it.
    revision: u64,
}

/// The issuers of one configuration, and the tokens of theirs that were seen lately.
pub struct Tokens {
    prover: Arc<dyn Prover>,
    rules: Vec<Rules>,
    limits: Limits,
    seen: Box<[ArcSwapOption<Proved>]>,
    resource: Arc<str>,
    challenge: Arc<str>,
}

/// What clients may know of how to get in (RFC 9728).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The gateway's own address.
    pub address: Arc<str>,
    /// The issuers whose tokens it takes.
    pub issuers: Vec<Arc<str>>,
}

impl Tokens {
    /// The issuers of a configuration; `None` when it has none. `limits` are those of callers that have none of their own;
    /// `resource` is the gateway's address where the configuration names none.
    ///
    /// # Errors
    /// One sentence for each problem, with the path of the member.
    pub fn new(
        auth: &Auth,
        prover: Arc<dyn Prover>,
        limits: Limits,
        resource: &str,
    ) -> Result<Option<Self>, Vec<(String, String)>> {
        let rules = read(auth)?;
        if rules.is_empty() {
            return Ok(None);
        }
        let resource = auth.resource.as_deref().unwrap_or(resource).trim_end_matches('/');
        let metadata = format!("{resource}/.well-known/oauth-protected-resource");
        Ok(Some(Self {
            prover,
            rules,
            limits,
            seen: (0..REMEMBERED).map(|_| ArcSwapOption::empty()).collect(),
            resource: resource.into(),
            challenge: format!("resource_metadata=\"{metadata}\"").into(),
        }))
    }

    /// The problems of a section, as `(path, sentence)`; empty when there are none.
    pub fn check(auth: &Auth) -> Vec<(String, String)> {
        let mut problems = read(auth).err().unwrap_or_default();
        problems.extend(SignIn::check(auth));
        problems
    }

    /// Whether a text has the shape of a token: three parts, and the first begins like base64url of `{"`.
    pub(crate) fn looks_like_one(text: &str) -> bool {
        text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Whether a text that is no key and no JWT may be a token.
    pub(crate) fn may_be_opaque(&self, text: &str) -> bool {
        self.prover.takes_opaque()
            && (SHORTEST_OPAQUE..=MAX_TOKEN).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && !text.starts_with(token::PREFIX)
    }

    /// Whether any issuer is to be asked about tokens.
    pub(crate) fn inquires(&self) -> bool {
        self.prover.inquires()
    }

    /// What must be waited for before this token can be told from a wrong one.
    pub(crate) fn inquiry(&self, token: &Secret) -> Option<Inquiry> {
        if token.expose().len() > MAX_TOKEN {
            return None;
        }
        Arc::clone(&self.prover).inquiry(token)
    }

    /// The caller behind a token.
    pub(crate) fn authenticate(
        &self,
        token: &str,
        pepper: &Pepper,
        now: SystemTime,
    ) -> Result<Arc<Caller>, Error> {
        if token.len() > MAX_TOKEN {
            return Err(invalid("it is longer than 8 KiB"));
        }
        let digest = pepper.digest(token);
        // The pepper makes the place unpredictable: nobody can push out another one's token on purpose.
        let place =
            usize::from(u16::from_le_bytes([digest.as_bytes()[0], digest.as_bytes()[1]])) % REMEMBERED;
        let slot = &self.seen[place];
        let revision = self.prover.revision();
        if let Some(proved) = slot.load().as_ref()
            && proved.digest == digest
            && proved.revision == revision
        {
            return if now < proved.until { Ok(Arc::clone(&proved.caller)) } else { Err(expired()) };
        }
        let claims = self.prover.prove(token)?;
        let rules = self.rules.iter().find(|rules| *rules.issuer == *claims.issuer);
        let rules = rules.ok_or_else(|| invalid("its issuer is not trusted here"))?;
        let caller = Arc::new(rules.caller(&claims, self.limits, now)?);
        if claims.asked.is_some() {
            // Whoever asked knows for how long that holds.
            return Ok(caller);
        }
        let until = Duration::from_secs(claims.expires.unwrap_or_default()) + LEEWAY;
        let until = SystemTime::UNIX_EPOCH.checked_add(until).unwrap_or(now);
        slot.store(Some(Arc::new(Proved { digest, caller: Arc::clone(&caller), until, revision })));
        Ok(caller)
    }

    /// Ends the open answers of issuers that `next` does not have any more; the others go on hanging where they hang.
    pub(crate) fn make_way(&self, next: Option<&mut Tokens>) {
        let mut kept: Vec<&mut Rules> = next.into_iter().flat_map(|next| &mut next.rules).collect();
        for rules in &self.rules {
            match kept.iter_mut().find(|other| other.issuer == rules.issuer) {
                Some(other) => other.leash = rules.leash.clone(),
                None => rules.leash.cut(),
            }
        }
    }

    /// What clients may know of how to get in.
    pub fn resource(&self) -> Resource {
        Resource {
            address: Arc::clone(&self.resource),
            issuers: self.rules.iter().map(|rules| Arc::clone(&rules.issuer)).collect(),
        }
    }

    /// The parameter of `www-authenticate` that says where to read on (RFC 9728, 5.1).
    pub fn challenge(&self) -> &str {
        &self.challenge
    }
}

fn read(auth: &Auth) -> Result<Vec<Rules>, Vec<(String, String)>> {
    let mut rules: Vec<Rules> = Vec::with_capacity(auth.oidc.len());
    let mut problems = Vec::new();
    let mut opaque = None;
    for (index, settings) in auth.oidc.iter().enumerate() {
        match Rules::read(settings) {
            Err(found) => {
                problems.extend(
                    found.into_iter().map(|(member, say)| (format!("auth.oidc[{index}].{member}"), say)),
                );
            }
            Ok(read) if rules.iter().any(|other| other.issuer == read.issuer) => {
                problems
                    .push((format!("auth.oidc[{index}].issuer"), "this issuer stands here twice".to_owned()));
            }
            Ok(_) if settings.introspection.as_ref().is_some_and(|how| how.opaque) && opaque.is_some() => {
                let say = "another issuer is asked about tokens that are no JWT already, and such a token does not say whose it is: set `opaque: false` for all but one";
                problems.push((format!("auth.oidc[{index}].introspection.opaque"), say.to_owned()));
            }
            Ok(read) => {
                if settings.introspection.as_ref().is_some_and(|how| how.opaque) {
                    opaque = Some(index);
                }
                rules.push(read);
            }
        }
    }
    // It is written into a header in quotation marks.
    let crooked = |text: &str| {
        !text.starts_with("http")
            || text.contains(['"', '\\', '?', '#'])
            || !text.bytes().all(|b| b.is_ascii_graphic())
    };
    if auth.resource.as_deref().is_some_and(crooked) {
        let say = "expected the gateway's own address, such as https://gateway.example.com";
        problems.push(("auth.resource".to_owned(), say.to_owned()));
    }
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

#[cfg(test)]
mod tests;
