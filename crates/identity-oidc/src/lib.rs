//! Access tokens of other issuers, proved by the keys that those publish.
//!
//! What it is: [`Issuers`], the [`Prover`](penstock_identity::Prover) of the identity head: JWS signatures (RFC 7515), JSON
//! Web Keys (RFC 7517), the keys' fetching by OIDC discovery in the background, and questions to issuers about tokens that
//! no key proves or that may have been revoked (RFC 7662).
//!
//! What it promises: a token is proved from memory, without IO; whoever must ask first waits for an
//! [`Inquiry`](penstock_identity::Inquiry). The algorithm is one that the configuration allows for the
//! issuer *and* one that the key is for; `none` and everything symmetric are not even words here. Nothing in a token leads
//! anywhere: `jku`, `x5u`, `jwk` and `x5c` are not read, and `kid` only picks among known keys. Unknown `kid`s cause at most
//! one fetch a minute. Fetches are bounded in size and time, follow no redirect, and go to addresses that were checked.
//!
//! What it refuses to know: what claims mean (the head decides), who may do what, where tokens come from.

mod fetch;
mod introspect;
mod issuer;
mod jwk;
mod jws;
mod sign_in;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use penstock_config::OidcIssuer;
use penstock_domain::{Code, Error, Secret};
use penstock_identity::{Claims, Inquiry, Prover};

use introspect::{Inquirer, Standing};
use issuer::Issuer;

pub use sign_in::OidcDoorkeeper;

/// The issuers of one configuration, each with its keys as they were last fetched.
pub struct Issuers {
    issuers: Vec<Arc<Issuer>>,
    revision: Arc<AtomicU64>,
}

impl Issuers {
    /// Makes issuers, and begins to fetch their keys: to be called inside a Tokio runtime. Those that `before` has with the
    /// same settings are taken over with their keys; the fetching of others ends when `before` is dropped.
    pub fn start(settings: &[OidcIssuer], before: Option<&Issuers>) -> Self {
        // Shared from configuration to configuration, so that no number ever comes back.
        let revision = before.map_or_else(Arc::default, |before| Arc::clone(&before.revision));
        revision.fetch_add(1, Ordering::Relaxed);
        let kept = |settings: &OidcIssuer| {
            let known = before.into_iter().flat_map(|before| &before.issuers);
            known.into_iter().find(|issuer| issuer.settings() == settings).map(Arc::clone)
        };
        let make =
            |settings| kept(settings).unwrap_or_else(|| Issuer::start(settings, Arc::clone(&revision)));
        Self { issuers: settings.iter().map(make).collect(), revision }
    }

    /// Whether the keys of every issuer are there.
    pub fn are_ready(&self) -> bool {
        self.issuers.iter().all(|issuer| issuer.has_keys())
    }
}

/// Fetches an issuer's keys once, for `check --online` and `doctor`, and counts those that can prove tokens.
///
/// # Errors
/// A sentence for the operator.
pub async fn probe(settings: &OidcIssuer) -> Result<usize, String> {
    fetch::keys(settings).await.map(|fetched| fetched.keys.len())
}

impl Issuers {
    /// A token taken apart, and the issuer that it names.
    fn named<'t>(&self, token: &'t str) -> Result<(jws::Token<'t>, &Arc<Issuer>), Error> {
        let token = jws::Token::read(token).map_err(|why| invalid(&why))?;
        let named = token.issuer().ok_or_else(|| invalid("it has no issuer (`iss`)"))?;
        let issuer = self.issuers.iter().find(|issuer| issuer.settings().issuer == named);
        let issuer =
            issuer.ok_or_else(|| invalid("its issuer (`iss`) is not one that this gateway trusts"))?;
        Ok((token, issuer))
    }

    fn opaque(&self) -> Option<(&Arc<Issuer>, &Inquirer)> {
        let issuer = self.issuers.iter().find(|issuer| issuer.takes_opaque())?;
        issuer.inquirer.as_ref().map(|inquirer| (issuer, inquirer))
    }
}

impl Prover for Issuers {
    fn prove(&self, token: &str) -> Result<Claims, Error> {
        if !looks_signed(token) {
            let (_, inquirer) = self.opaque().ok_or_else(|| invalid("it does not have three parts"))?;
            return inquirer.prove(token);
        }
        let (read, issuer) = self.named(token)?;
        match issuer.asked_always() {
            None => issuer.prove(&read),
            Some(inquirer) => match inquirer.standing(token) {
                Standing::Good(claims) => Ok(*claims),
                // What its keys do not prove is wrong whatever its issuer would say of it.
                _ => issuer.prove(&read).and_then(|_| inquirer.prove(token)),
            },
        }
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    fn inquires(&self) -> bool {
        self.issuers.iter().any(|issuer| issuer.inquirer.is_some())
    }

    fn takes_opaque(&self) -> bool {
        self.opaque().is_some()
    }

    fn inquiry(self: Arc<Self>, token: &Secret) -> Option<Inquiry> {
        let text = token.expose();
        let (issuer, signed) = if looks_signed(text) {
            let (read, issuer) = self.named(text).ok()?;
            let inquirer = issuer.asked_always()?;
            if !matches!(inquirer.standing(text), Standing::Unknown) {
                return None;
            }
            (issuer, Some(issuer.prove(&read).ok()?))
        } else {
            let (issuer, inquirer) = self.opaque()?;
            if !matches!(inquirer.standing(text), Standing::Unknown) {
                return None;
            }
            (issuer, None)
        };
        let (issuer, token) = (Arc::clone(issuer), token.clone());
        Some(Box::pin(async move {
            let Some(inquirer) = &issuer.inquirer else { return };
            if let Some(new) = inquirer.ask(issuer.settings(), &token, signed.clone()).await {
                introspect::begin(Arc::clone(&issuer), token, signed, new);
            }
        }))
    }
}

/// The shape of a signed token, as the head sees it.
fn looks_signed(token: &str) -> bool {
    token.starts_with("eyJ") && token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.issuers.iter().map(|issuer| &issuer.settings().issuer)).finish()
    }
}

#[cold]
fn invalid(why: &str) -> Error {
    Error::new(Code::InvalidToken, format!("this access token is not valid here: {why}"))
}

#[cfg(test)]
mod tests;
