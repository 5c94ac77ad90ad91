//! One issuer: its keys as they were last fetched, and the task that keeps them current.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use penstock_config::OidcIssuer;
use penstock_domain::{Code, Error, Retry};
use penstock_identity::Claims;
use tokio::sync::Notify;

use crate::fetch::{self, Fetched};
use crate::introspect::Inquirer;
use crate::invalid;
use crate::jwk::Key;
use crate::jws::Token;

/// How long known keys go on proving while their issuer cannot be reached.
const MAX_STALE: Duration = Duration::from_secs(24 * 3600);
/// Between two fetches that unknown key ids asked for.
const BETWEEN_WISHES: Duration = Duration::from_secs(60);
/// When keys are fetched again whose issuer does not say how long they hold.
const USUAL: Duration = Duration::from_secs(15 * 60);
/// However long an issuer lets its keys be kept: this bounds how long a key works that it withdrew.
const LONGEST: Duration = Duration::from_secs(3600);
/// However short.
const SHORTEST: Duration = Duration::from_secs(60);
/// Between failed fetches, at first and at most.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// What a client is told to wait when keys are on their way.
const SOON: Duration = Duration::from_secs(1);

/// An issuer with its keys.
pub(crate) struct Issuer {
    settings: OidcIssuer,
    /// Who asks it about tokens, where it is to be asked.
    pub(crate) inquirer: Option<Inquirer>,
    keys: ArcSwapOption<Vec<Key>>,
    /// Counts changes of keys, of all issuers together.
    revision: Arc<AtomicU64>,
    wish: Notify,
    /// Whether a fetch was asked for and has not ended.
    wished: AtomicBool,
    began: Instant,
    /// When unknown key ids may ask again, in milliseconds since `began`.
    next_wish: AtomicU64,
}

impl Issuer {
    /// Begins to fetch. The task ends when nobody has the issuer any more.
    pub(crate) fn start(settings: &OidcIssuer, revision: Arc<AtomicU64>) -> Arc<Self> {
        let issuer = Arc::new(Self::new(settings.clone(), revision));
        tokio::spawn(keep(Arc::downgrade(&issuer)));
        issuer
    }

    pub(crate) fn new(settings: OidcIssuer, revision: Arc<AtomicU64>) -> Self {
        let inquirer = settings.introspection.as_ref().and_then(|_| Inquirer::new());
        Self {
            settings,
            inquirer,
            keys: ArcSwapOption::empty(),
            revision,
            wish: Notify::new(),
            wished: AtomicBool::new(false),
            began: Instant::now(),
            next_wish: AtomicU64::new(0),
        }
    }

    pub(crate) fn settings(&self) -> &OidcIssuer {
        &self.settings
    }

    pub(crate) fn has_keys(&self) -> bool {
        self.keys.load().is_some()
    }

    /// Whether it is asked about tokens that no signature proves.
    pub(crate) fn takes_opaque(&self) -> bool {
        self.inquirer.is_some() && self.settings.introspection.as_ref().is_some_and(|how| how.opaque)
    }

    /// Who asks it about tokens that it signed too.
    pub(crate) fn asked_always(&self) -> Option<&Inquirer> {
        let always = self.settings.introspection.as_ref().is_some_and(|how| how.always);
        self.inquirer.as_ref().filter(|_| always)
    }

    /// The claims of a token that this issuer signed.
    pub(crate) fn prove(&self, token: &Token<'_>) -> Result<Claims, Error> {
        token.is_of(self.settings.token_type).map_err(invalid)?;
        if !self.settings.algorithms.contains(&token.alg) {
            return Err(invalid("its algorithm (`alg`) is none of those that its issuer signs with"));
        }
        let keys = self.keys.load();
        let Some(keys) = keys.as_ref() else {
            return Err(unavailable(
                "the keys of this token's issuer are not here yet: send it again in a moment",
            ));
        };
        let key = match token.kid.as_deref() {
            Some(kid) => keys.iter().find(|key| key.kid.as_deref() == Some(kid) && key.is_for(token.alg)),
            None => match keys.iter().filter(|key| key.is_for(token.alg)).collect::<Vec<_>>().as_slice() {
                [one] => Some(*one),
                _ => return Err(invalid("it does not say which key (`kid`) signed it")),
            },
        };
        let Some(key) = key else {
            return Err(if self.wish() {
                unavailable(
                    "this token names a key that is not known yet and is being looked for: send it again in a moment",
                )
            } else {
                invalid("no key of its issuer has its key id (`kid`)")
            });
        };
        if !key.proves(token.alg, token.signed.as_bytes(), &token.signature) {
            return Err(invalid("its signature does not fit"));
        }
        token.claims(&self.settings).map_err(|why| invalid(&why))
    }

    /// Asks for a fetch, unless one was asked for within the last minute. Whether one is under way.
    fn wish(&self) -> bool {
        let now = self.since_began();
        let next = self.next_wish.load(Ordering::Acquire);
        if now < next {
            return self.wished.load(Ordering::Acquire);
        }
        let after = now + u64::try_from(BETWEEN_WISHES.as_millis()).unwrap_or(u64::MAX);
        // Of those who come at once, one asks.
        if self.next_wish.compare_exchange(next, after, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.wished.store(true, Ordering::Release);
            self.wish.notify_one();
        }
        true
    }

    fn since_began(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes keys in place of those before; `None` when those must not be used any more.
    pub(crate) fn take(&self, keys: Option<Vec<Key>>) {
        let same = self.keys.load().as_deref() == keys.as_ref();
        if !same {
            self.keys.store(keys.map(Arc::new));
            // After the store: whoever sees the number sees the keys.
            self.revision.fetch_add(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
impl Issuer {
    /// As if the fetch that was asked for had ended.
    pub(crate) fn fetched_for_test(&self) {
        self.wished.store(false, Ordering::Release);
    }
}

#[cold]
pub(crate) fn unavailable(say: &str) -> Error {
    Error::new(Code::IssuerUnavailable, say).with_retry(Retry::After(SOON))
}

/// Fetches, waits, fetches again, for as long as somebody has the issuer.
async fn keep(issuer: Weak<Issuer>) {
    let mut failures = 0_u32;
    let mut last_good = Instant::now();
    loop {
        let Some(strong) = issuer.upgrade() else { return };
        let fetched = fetch::keys(&strong.settings).await;
        let wait = match fetched {
            Ok(Fetched { keys, fresh_for }) => {
                if failures > 0 || !strong.has_keys() {
                    tracing::info!(
                        issuer = strong.settings.issuer,
                        keys = keys.len(),
                        "the issuer's keys are here"
                    );
                }
                failures = 0;
                last_good = Instant::now();
                strong.take(Some(keys));
                // Before they run out, so that no request ever waits for them.
                fresh_for.map_or(USUAL, |time| time / 5 * 4).clamp(SHORTEST, LONGEST)
            }
            Err(error) => {
                let stale = last_good.elapsed() >= MAX_STALE;
                if failures == 0 || stale && strong.has_keys() {
                    tracing::warn!(
                        issuer = strong.settings.issuer,
                        error,
                        "the issuer's keys cannot be fetched; known ones go on for a day"
                    );
                }
                if stale {
                    strong.take(None);
                }
                failures = failures.saturating_add(1);
                FIRST_RETRY.saturating_mul(1 << failures.min(6)).min(LAST_RETRY)
            }
        };
        strong.wished.store(false, Ordering::Release);
        let wished = Arc::clone(&strong);
        drop(strong);
        // The task must not keep alive what it works for: it looks every now and then whether anybody is left.
        if !pause(wished, wait).await {
            return;
        }
    }
}

/// Waits, or less when somebody asks. Whether to go on.
async fn pause(issuer: Arc<Issuer>, wait: Duration) -> bool {
    let end = Instant::now() + wait;
    let weak = Arc::downgrade(&issuer);
    let mut held = Some(issuer);
    loop {
        let Some(issuer) = held.take().or_else(|| weak.upgrade()) else { return false };
        let left = end.saturating_duration_since(Instant::now());
        let step = left.min(Duration::from_secs(5));
        let asked = tokio::time::timeout(step, issuer.wish.notified()).await.is_ok();
        if asked || step == left {
            return true;
        }
        drop(issuer);
        tokio::task::yield_now().await;
    }
}
