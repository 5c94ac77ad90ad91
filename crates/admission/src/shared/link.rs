//! This gateway's side of what is shared: asks for every request, and knows what to do without.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use penstock_domain::{Code, Error};
use tokio::sync::{Mutex as Turn, Notify};

use super::notes::Notes;
use super::{Changes, Failure, Hold, Reply, Seed, Seen, Share, Shared, Terms};
use crate::ledger::{LedgerStore, Sums};
use crate::rules::{Level, Need};
use penstock_domain::calendar;

/// After so many failures in a row nobody waits for it any more.
const TRIPS: u32 = 3;
/// How long the first request of an account may wait for the ledger.
const SEEDING: Duration = Duration::from_secs(1);

/// Whether what is shared is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Requests are asked for.
    Here,
    /// It does not answer; each gateway lives on its part.
    Away,
}

const HERE: u8 = 0;
const AWAY: u8 = 1;

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests that were held for all gateways.
    pub held: u64,
    /// Requests that all gateways together had no room for.
    pub refused: u64,
    /// Calls that failed or took too long.
    pub failed: u64,
    /// Requests that were admitted without asking.
    pub alone: u64,
}

/// The link of one gateway with what is shared.
pub struct Link {
    pub(super) store: Arc<dyn Shared>,
    pub(super) ledger: Arc<dyn LedgerStore>,
    pub(super) notes: Mutex<Notes>,
    /// There is something to bring, or to mend.
    pub(super) wake: Notify,
    /// Something was brought.
    pub(super) brought: Notify,
    terms: Terms,
    standing: AtomicU8,
    failures: AtomicU32,
    gateways: AtomicU32,
    next: AtomicU64,
    seeding: Turn<()>,
    seeded: AtomicU64,
    counts: [AtomicU64; 4],
}

/// What a request may do.
pub(crate) enum Verdict {
    /// Run: all gateways know. The accounts as they are now.
    Held(Vec<Seen>),
    /// Not run. The accounts as they are.
    Refused(Vec<Seen>),
    /// Nobody can be asked.
    Alone,
}

impl Link {
    pub(super) fn new(store: Arc<dyn Shared>, ledger: Arc<dyn LedgerStore>, terms: Terms) -> Self {
        Self {
            store,
            ledger,
            notes: Mutex::default(),
            wake: Notify::new(),
            brought: Notify::new(),
            terms,
            standing: AtomicU8::new(AWAY),
            failures: AtomicU32::new(0),
            gateways: AtomicU32::new(1),
            next: AtomicU64::new(1),
            seeding: Turn::new(()),
            seeded: AtomicU64::new(0),
            counts: Default::default(),
        }
    }

    /// Whether it is there.
    pub fn standing(&self) -> Standing {
        if self.standing.load(Relaxed) == HERE { Standing::Here } else { Standing::Away }
    }

    /// How many gateways lived when somebody last looked.
    pub fn gateways(&self) -> u32 {
        self.gateways.load(Relaxed)
    }

    /// Why this gateway admits nothing, if it does not.
    ///
    /// # Errors
    /// The reason.
    pub fn ready(&self) -> Result<(), String> {
        match (self.standing(), self.terms.failure) {
            (Standing::Away, Failure::Refuse) => {
                Err("what gateways share cannot be reached, and stores.shared_failure is refuse".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// What is done without it.
    pub fn failure(&self) -> Failure {
        self.terms.failure
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let [held, refused, failed, alone] = self.counts.each_ref().map(|count| count.load(Relaxed));
        Counts { held, refused, failed, alone }
    }

    /// The part of everything that is this gateway's, as its divisor; `None` while all can be asked.
    pub(crate) fn alone(&self) -> Option<u32> {
        (self.standing() == Standing::Away).then(|| self.gateways.load(Relaxed).max(1))
    }

    /// A number for a request.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    pub(super) fn next(&self) -> u64 {
        self.next.load(Relaxed)
    }

    pub(super) fn here(&self) {
        self.failures.store(0, Relaxed);
        self.standing.store(HERE, Relaxed);
    }

    /// It is gone, or knows nothing: from now on nobody asks until the keeper has found the way back.
    pub(super) fn lost(&self, why: &str) {
        if self.standing.swap(AWAY, Relaxed) == HERE {
            tracing::error!(
                why,
                policy = match self.terms.failure {
                    Failure::Local => "local",
                    Failure::Refuse => "refuse",
                },
                "what gateways share cannot be reached; stores.shared_failure holds until it can"
            );
        }
        self.wake.notify_one();
    }

    pub(super) fn living(&self, count: usize) {
        self.gateways.store(u32::try_from(count).unwrap_or(u32::MAX).max(1), Relaxed);
    }

    fn count(&self, place: usize) {
        self.counts[place].fetch_add(1, Relaxed);
    }

    /// Asks for a request.
    pub(crate) async fn ask(&self, hold: &Hold) -> Verdict {
        if self.standing() == Standing::Away {
            return Verdict::Alone;
        }
        match self.reserve(hold).await {
            Some(Reply::Unknown(which)) => self.ask_seeded(hold, &which).await,
            reply => self.judge(hold, reply),
        }
    }

    /// Asks after what the ledger says of some accounts was brought: by this request, or by one that came before.
    async fn ask_seeded(&self, hold: &Hold, which: &[usize]) -> Verdict {
        let before = self.seeded.load(Relaxed);
        let seed = async {
            let turn = self.seeding.lock().await;
            if self.seeded.load(Relaxed) == before {
                let shares: Vec<Share> =
                    which.iter().filter_map(|place| hold.shares.get(*place)).cloned().collect();
                self.seed(&shares).await?;
                self.seeded.fetch_add(1, Relaxed);
            }
            drop(turn);
            Ok::<(), Error>(())
        };
        match tokio::time::timeout(SEEDING, seed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "what accounts have spent cannot be told to the other gateways");
                return Verdict::Alone;
            }
            Err(_) => return Verdict::Alone,
        }
        match self.reserve(hold).await {
            // Somebody else's turn brought other accounts.
            Some(Reply::Unknown(which)) => {
                let shares: Vec<Share> =
                    which.iter().filter_map(|place| hold.shares.get(*place)).cloned().collect();
                match tokio::time::timeout(SEEDING, self.seed(&shares)).await {
                    Ok(Ok(())) => self.judge(hold, self.reserve(hold).await),
                    _ => Verdict::Alone,
                }
            }
            reply => self.judge(hold, reply),
        }
    }

    fn judge(&self, hold: &Hold, reply: Option<Reply>) -> Verdict {
        match reply {
            Some(Reply::Held(seen)) => {
                self.count(0);
                self.notes.lock().begin(hold.number, (&hold.shares, hold.need), true);
                Verdict::Held(seen)
            }
            Some(Reply::Refused(seen)) => {
                self.count(1);
                Verdict::Refused(seen)
            }
            Some(Reply::Stranger) => {
                self.lost("its state was lost");
                Verdict::Alone
            }
            Some(Reply::Unknown(_)) | None => Verdict::Alone,
        }
    }

    /// One question; `None` when there is no answer in time.
    async fn reserve(&self, hold: &Hold) -> Option<Reply> {
        let why = match tokio::time::timeout(self.terms.timeout, self.store.reserve(hold)).await {
            Ok(Ok(reply)) => {
                self.failures.store(0, Relaxed);
                return Some(reply);
            }
            Ok(Err(error)) => error.say().to_owned(),
            Err(_) => "it does not answer in time".to_owned(),
        };
        self.count(2);
        if self.failures.fetch_add(1, Relaxed) + 1 >= TRIPS {
            self.lost(&why);
        }
        None
    }

    /// Waits until what ended here was brought, for a request that lacks a slot which may be free by now.
    pub(crate) async fn settled(&self) -> bool {
        let brought = self.brought.notified();
        if !self.notes.lock().has_news() {
            return true;
        }
        tokio::time::timeout(self.terms.timeout, brought).await.is_ok()
    }

    /// A request runs that all gateways could not be asked for, or may not run.
    ///
    /// # Errors
    /// `store_unavailable` where nothing runs without asking.
    pub(crate) fn go_alone(&self, hold: &Hold) -> Result<(), Error> {
        let mut notes = self.notes.lock();
        match self.terms.failure {
            Failure::Local => {
                self.count(3);
                notes.begin(hold.number, (&hold.shares, hold.need), false);
                Ok(())
            }
            Failure::Refuse => {
                notes.abandon(hold.number, &hold.shares);
                let say = "the limits that gateways share cannot be checked, and stores.shared_failure is refuse: try again later";
                Err(Error::new(Code::StoreUnavailable, say))
            }
        }
    }

    /// A request that was asked for is not to run after all.
    pub(crate) fn abandon(&self, hold: &Hold) {
        self.notes.lock().abandon(hold.number, &hold.shares);
        self.wake.notify_one();
    }

    /// A request holds so much now. Says whether it holds more than all gateways may lend.
    pub(crate) fn grown(&self, number: u64, need: Need) -> bool {
        let overdrawn = self.notes.lock().grow(number, need);
        self.wake.notify_one();
        overdrawn
    }

    /// A request has ended. `kept`: the ledger has it, or never will.
    pub(crate) fn ended(&self, number: u64, used: Need, kept: bool) {
        self.notes.lock().end(number, used, kept);
        self.wake.notify_one();
    }

    /// The ledger has these ends.
    pub(crate) fn written(&self, numbers: impl Iterator<Item = u64>, totals: &[(Level, Box<str>, u64)]) {
        self.notes.lock().written(numbers, totals);
        self.wake.notify_one();
    }

    /// Brings what the ledger says of accounts.
    pub(super) async fn seed(&self, shares: &[Share]) -> Result<(), Error> {
        let now = SystemTime::now();
        let level = |share: &Share| share.place.level;
        let accounts: Vec<_> = shares
            .iter()
            .flat_map(|share| share.names().map(move |name| (level(share), Arc::clone(name))))
            .collect();
        let sums: Vec<Sums> = self.ledger.spent(&accounts, now).await?;
        let mut known = accounts.into_iter().zip(sums);
        let seeds = shares.iter().map(|share| Seed {
            place: share.place.clone(),
            names: known.by_ref().take(share.names().count()).map(|((_, name), sums)| (name, sums)).collect(),
            period: (calendar::day(now), calendar::month(now)),
        });
        let changes = Changes { seeds: seeds.collect(), ..Changes::default() };
        self.store.put(&changes).await.map(drop)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("standing", &self.standing()).finish_non_exhaustive()
    }
}
