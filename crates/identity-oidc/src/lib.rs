//! Access tokens of other issuers, proved by the keys that those publish.
//!
//! What it is: [`Issuers`], the [`Prover`](penstock_identity::Prover) of the identity head: JWS signatures (RFC 7515), JSON
//! Web Keys (RFC 7517), and the keys' fetching by OIDC discovery, in the background.
//!
//! What it promises: a token is proved from memory, without IO. The algorithm is one that the configuration allows for the
//! issuer *and* one that the key is for; `none` and everything symmetric are not even words here. Nothing in a token leads
//! anywhere: `jku`, `x5u`, `jwk` and `x5c` are not read, and `kid` only picks among known keys. Unknown `kid`s cause at most
//! one fetch a minute. Fetches are bounded in size and time, follow no redirect, and go to addresses that were checked.
//!
//! What it refuses to know: what claims mean (the head decides), who may do what, where tokens come from.

mod fetch;
mod issuer;
mod jwk;
mod jws;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use penstock_config::OidcIssuer;
use penstock_domain::{Code, Error};
use penstock_identity::{Claims, Prover};

use issuer::Issuer;

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

impl Prover for Issuers {
    fn prove(&self, token: &str) -> Result<Claims, Error> {
        let token = jws::Token::read(token).map_err(|why| invalid(&why))?;
        let named = token.issuer().ok_or_else(|| invalid("it has no issuer (`iss`)"))?;
        let issuer = self.issuers.iter().find(|issuer| issuer.settings().issuer == named);
        issuer.ok_or_else(|| invalid("its issuer (`iss`) is not one that this gateway trusts"))?.prove(&token)
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }
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
