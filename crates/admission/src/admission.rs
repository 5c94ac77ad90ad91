//! Counts per key, and the permits that hold them.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use penstock_config::Limits;
use penstock_domain::{Code, Error, Retry};

use crate::rate::{self, Rate, Verdict};

const SHARDS: usize = 16;
/// A shard looks for idle keys when it has grown to this many, and then whenever it has doubled.
const FIRST_SWEEP: usize = 64;

/// Decides whether a request may run now.
pub struct Admission {
    start: Instant,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

struct Shard {
    accounts: HashMap<Box<str>, Arc<Account>, RandomState>,
    sweep_at: usize,
}

/// What one key has in use.
#[derive(Default)]
struct Account {
    in_flight: AtomicU32,
    /// The state of [`rate`].
    full_at: AtomicU64,
}

/// The right to run. Dropping it gives the slot back; the request stays counted in the rate.
#[must_use = "a permit that is dropped at once holds no slot"]
pub struct Permit {
    account: Arc<Account>,
}

impl Admission {
    /// Counts from `start` on; every later time must not lie before it.
    pub fn new(start: Instant) -> Self {
        let hasher = RandomState::new();
        let shard = || {
            let accounts = HashMap::with_hasher(hasher.clone());
            Mutex::new(Shard { accounts, sweep_at: FIRST_SWEEP })
        };
        Self { start, shards: std::array::from_fn(|_| shard()), hasher }
    }

    /// Takes a slot and one request of the key's rate, or neither. The rate comes back for the headers of the answer, on
    /// a refusal too, where one is limited.
    ///
    /// # Errors
    /// `concurrency_limit_exceeded`; `rate_limit_exceeded` with the exact wait as [`Retry::After`].
    pub fn admit(&self, key: &str, limits: &Limits, now: Instant) -> (Option<Rate>, Result<Permit, Error>) {
        let now = self.nanos(now);
        let account = self.account(key, now);
        let permit = match account.enter(limits.concurrent_requests) {
            Ok(permit) => permit,
            Err(error) => {
                let full_at = account.full_at.load(Ordering::Relaxed);
                return (limits.requests_per_minute.map(|limit| rate::look(limit, full_at, now)), Err(error));
            }
        };
        let Some(limit) = limits.requests_per_minute else { return (None, Ok(permit)) };
        match account.spend(limit, now) {
            // On a refusal the permit drops here and the slot is free again.
            (rate, Err(error)) => (Some(rate), Err(error)),
            (rate, Ok(())) => (Some(rate), Ok(permit)),
        }
    }

    /// How many requests of the key are in flight.
    pub fn in_flight(&self, key: &str) -> u32 {
        let shard = self.shard(key).lock();
        shard.accounts.get(key).map_or(0, |account| account.in_flight.load(Ordering::Relaxed))
    }

    /// How many keys are remembered.
    pub fn remembered(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().accounts.len()).sum()
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    fn shard(&self, key: &str) -> &Mutex<Shard> {
        // The upper bits: the map inside uses the lower ones of the same hash.
        &self.shards[(self.hasher.hash_one(key) >> 60) as usize % SHARDS]
    }

    fn account(&self, key: &str, now: u64) -> Arc<Account> {
        let mut shard = self.shard(key).lock();
        if let Some(account) = shard.accounts.get(key) {
            return Arc::clone(account);
        }
        if shard.accounts.len() >= shard.sweep_at {
            shard.sweep(now);
        }
        let account = Arc::new(Account::default());
        shard.accounts.insert(key.into(), Arc::clone(&account));
        account
    }
}

impl Shard {
    /// Forgets keys that a new account would treat alike: nothing in flight, bucket full. Nobody can be between finding
    /// such an account and using it, because that holds a second reference.
    fn sweep(&mut self, now: u64) {
        self.accounts.retain(|_, account| {
            Arc::strong_count(account) > 1 || account.full_at.load(Ordering::Relaxed) > now
        });
        self.sweep_at = (self.accounts.len() * 2).max(FIRST_SWEEP);
        self.accounts.shrink_to(self.sweep_at);
    }
}

impl Account {
    fn enter(self: &Arc<Self>, limit: Option<u32>) -> Result<Permit, Error> {
        let limit = limit.unwrap_or(u32::MAX);
        let one_more = |count: u32| (count < limit).then(|| count + 1);
        match self.in_flight.try_update(Ordering::AcqRel, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Permit { account: Arc::clone(self) }),
            Err(_) => Err(Error::new(
                Code::ConcurrencyLimitExceeded,
                format!(
                    "this key may have {limit} requests in flight and has them: wait until one has ended"
                ),
            )),
        }
    }

    fn spend(&self, limit: u32, now: u64) -> (Rate, Result<(), Error>) {
        let mut seen = self.full_at.load(Ordering::Relaxed);
        loop {
            match rate::ask(limit, seen, now) {
                Verdict::Wait { wait } => {
                    let say = format!(
                        "this key may make {limit} requests per minute and has used them up: try again in {:.1} s",
                        wait.as_secs_f64()
                    );
                    let error = Error::new(Code::RateLimitExceeded, say).with_retry(Retry::After(wait));
                    return (rate::look(limit, seen, now), Err(error));
                }
                Verdict::Pass { full_at } => {
                    match self.full_at.compare_exchange_weak(
                        seen,
                        full_at,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => return (rate::look(limit, full_at, now), Ok(())),
                        Err(current) => seen = current,
                    }
                }
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.account.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("remembered", &self.remembered()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
