//! The service over the store: who runs, who waits, who gets the answer of before.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use penstock_domain::{Code, Error, Retry};

use crate::vault::Vault;
use crate::{AnswerStore, Claim, Claimed, Kept, Key, Policy, Print, Running, Slot, Ticket};

/// How long a request waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);
/// When somebody who came while another ran should ask again.
const AGAIN: Duration = Duration::from_secs(1);
/// The shortest time between two renewals of the leases.
const SHORTEST: Duration = Duration::from_millis(200);
/// How often rows whose time is over are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// Between two steps of one sweep, so that it never stands in anybody's way for long.
const STEP: Duration = Duration::from_millis(50);
/// Most leases that are renewed at once.
const TOGETHER: usize = 1_000;

/// Does each request once.
pub struct Idempotency {
    pub(crate) shared: Arc<Shared>,
}

/// What runners hold on to.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn AnswerStore>,
    pub(crate) vault: Vault,
    policy: ArcSwap<Policy>,
    /// Who runs in this process.
    pub(crate) live: Mutex<HashMap<Slot, Ticket>>,
}

/// One request that has a key.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What its client calls it.
    pub key: &'a Key,
    /// Who asks: the id of an API key or the subject of a token. Two of them never meet.
    pub tenant: &'a str,
    /// Method and route: the same key on another is another key.
    pub route: &'a str,
    /// What is asked.
    pub print: &'a Print,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Begun {
    /// It runs.
    Run(Running),
    /// It was answered before.
    Replay(Kept),
}

impl Idempotency {
    /// A service over a store. The pepper is the server's own secret.
    pub fn new(store: Arc<dyn AnswerStore>, pepper: &[u8; 32], policy: Policy) -> Self {
        let vault = Vault::new(pepper);
        let policy = ArcSwap::from_pointee(policy);
        Self { shared: Arc::new(Shared { store, vault, policy, live: Mutex::default() }) }
    }

    /// Puts a new policy in force. What was kept before keeps its time.
    pub fn set_policy(&self, policy: Policy) {
        self.shared.policy.store(Arc::new(policy));
    }

    /// Takes the right to run, or gives the answer of before. Whoever asks must have proved who they are, and that they may.
    ///
    /// # Errors
    /// `idempotency_in_progress` while another runs; `idempotency_key_reused` when the key stands for another request;
    /// `store_unavailable`: a request with a key is not run unprotected.
    pub async fn begin(&self, ask: Ask<'_>) -> Result<Begun, Error> {
        let shared = &self.shared;
        let policy = **shared.policy.load();
        let place = shared.vault.place(ask.tenant, ask.route, ask.key);
        let now = SystemTime::now();
        let claim = Claim {
            slot: place.slot,
            tenant: place.tenant,
            print: place.print(ask.print),
            ticket: shared.vault.ticket()?,
            now,
            until: now + policy.lease,
        };
        // Made before the store is asked: whoever drops this future gives back what it may have taken.
        let guard = Guard { shared, slot: claim.slot, ticket: claim.ticket, armed: true };
        let claimed = shared.in_time(shared.store.claim(claim)).await?;
        guard.disarm();
        match claimed {
            Claimed::Yours => Ok(Begun::Run(Running::new(self, place, claim.ticket, policy))),
            Claimed::Other => Err(reused()),
            Claimed::Running => Err(in_progress()),
            Claimed::Done(sealed) => match shared.vault.open(&place, &sealed) {
                Some(kept) => Ok(Begun::Replay(kept)),
                None => Err(unreadable()),
            },
        }
    }

    /// Renews the leases of who runs, and throws away what has expired, for ever.
    pub async fn tend(&self) {
        let (mut trouble, mut swept) = (false, tokio::time::Instant::now());
        loop {
            let lease = self.shared.policy.load().lease;
            tokio::time::sleep((lease / 3).max(SHORTEST)).await;
            let mut outcome = self.renew(lease).await;
            if swept.elapsed() >= SWEEP {
                swept = tokio::time::Instant::now();
                outcome = outcome.and(self.expire().await);
            }
            match outcome {
                // Once per trouble.
                Err(error) if !trouble => {
                    tracing::error!(%error, "the answers to idempotency keys cannot be tended");
                    trouble = true;
                }
                outcome => trouble = outcome.is_err(),
            }
        }
    }

    async fn renew(&self, lease: Duration) -> Result<(), Error> {
        let live: Vec<_> = self.shared.live.lock().iter().map(|(slot, ticket)| (*slot, *ticket)).collect();
        for some in live.chunks(TOGETHER) {
            self.shared.in_time(self.shared.store.renew(some, SystemTime::now() + lease)).await?;
        }
        Ok(())
    }

    async fn expire(&self) -> Result<(), Error> {
        while self.shared.store.expire(SystemTime::now()).await? {
            tokio::time::sleep(STEP).await;
        }
        Ok(())
    }
}

impl Shared {
    /// Waits for the store, but not for ever.
    pub(crate) async fn in_time<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
            let say = "the store of answers by idempotency key did not answer in time";
            Err(Error::new(Code::StoreUnavailable, say))
        })
    }
}

/// A claim under way.
struct Guard<'a> {
    shared: &'a Arc<Shared>,
    slot: Slot,
    ticket: Ticket,
    armed: bool,
}

impl Guard<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.give_back(self.slot, self.ticket);
        }
    }
}

impl Shared {
    /// Gives back a slot, beside whatever goes on.
    pub(crate) fn give_back(self: &Arc<Self>, slot: Slot, ticket: Ticket) {
        // Without a runtime the lease runs out by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let shared = Arc::clone(self);
        runtime.spawn(async move {
            if let Err(error) = shared.in_time(shared.store.release(slot, ticket)).await {
                tracing::warn!(%error, "an idempotency key is held until its lease runs out");
            }
        });
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("policy", &self.shared.policy.load()).finish_non_exhaustive()
    }
}

fn reused() -> Error {
    let say = "this idempotency key stands for another request: the same key takes the same path, query and body; send a \
               new key with a new request";
    Error::new(Code::IdempotencyKeyReused, say).with_param("idempotency-key")
}

fn in_progress() -> Error {
    let say = "the first request with this idempotency key is still running: send it again in a moment to get its answer";
    Error::new(Code::IdempotencyInProgress, say).with_retry(Retry::After(AGAIN))
}

fn unreadable() -> Error {
    let say = "the answer that was kept for this idempotency key cannot be opened: it was changed in the database; send \
               a new key";
    Error::new(Code::StoreUnavailable, say).with_retry(Retry::Never)
}
