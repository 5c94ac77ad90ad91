//! The task beside the path: brings what ended, tends the ledger, buries the dead, finds the way back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_domain::{Code, Error};
use tokio::time::{Instant, timeout};

use super::link::{Link, Standing};
use super::{Changes, Present, Share, Shared, Terms};
use crate::ledger::{GatewayId, LedgerStore};

/// How often this gateway says that it lives, and looks who does not.
const TEND: Duration = Duration::from_secs(1);
/// How often the whole of what is shared is laid beside what is known here.
const AUDIT: Duration = Duration::from_secs(10);
/// How often the way back is looked for.
const RETRY: Duration = Duration::from_millis(200);
/// The longest time for one call.
const CALL: Duration = Duration::from_secs(2);
/// After a loss, how long the others have to bring what they have open before anybody is admitted again.
const GRACE: Duration = Duration::from_secs(5);
/// Accounts that are laid beside the ledger at once.
const SEEDS: usize = 256;
/// The longest time at the end for bringing what is left.
const LAST: Duration = Duration::from_secs(2);

/// Keeps the ledger and what is shared in order: run it as one task.
pub struct Keeper {
    gateway: GatewayId,
    ledger: Arc<dyn LedgerStore>,
    link: Option<Arc<Link>>,
    living: HashSet<GatewayId>,
    tended: Instant,
    audited: Instant,
    /// Requests with numbers below this had begun at the last audit.
    before: u64,
    failing: bool,
}

impl Keeper {
    /// One that tends a ledger.
    pub fn new(gateway: GatewayId, ledger: Arc<dyn LedgerStore>) -> Self {
        let now = Instant::now();
        Self {
            living: HashSet::from([gateway.clone()]),
            gateway,
            ledger,
            link: None,
            tended: now,
            audited: now,
            before: 0,
            failing: false,
        }
    }

    /// The same, and what is shared; gives the link for [`crate::Admission::share`].
    pub fn sharing(self, store: Arc<dyn Shared>, terms: Terms) -> (Self, Arc<Link>) {
        let link = Arc::new(Link::new(store, Arc::clone(&self.ledger), terms));
        (Self { link: Some(Arc::clone(&link)), ..self }, link)
    }

    /// Finds the way for the first time; in vain, the next try follows soon.
    pub async fn begin(&mut self) {
        if let Some(link) = self.link.clone() {
            self.tend().await;
            self.find(&link).await;
        }
    }

    /// Works for ever.
    pub async fn run(mut self) {
        let Some(link) = self.link.clone() else {
            loop {
                tokio::time::sleep(TEND).await;
                self.tend().await;
            }
        };
        loop {
            let here = link.standing() == Standing::Here;
            let rest = if here { TEND.saturating_sub(self.tended.elapsed()) } else { RETRY };
            if here {
                // A pause is over at the first piece of news, and those that come together go together.
                let _ = timeout(rest, link.wake.notified()).await;
                self.bring(&link).await;
                if self.tended.elapsed() >= TEND {
                    self.look(&link).await;
                }
            } else {
                if self.find(&link).await {
                    continue;
                }
                tokio::time::sleep(rest).await;
                if self.tended.elapsed() >= TEND {
                    self.tend().await;
                }
            }
        }
    }

    /// The end: brings what is left, and takes this gateway out.
    pub async fn leave(link: &Link, gateway: &GatewayId) {
        let end = Instant::now() + LAST;
        while link.standing() == Standing::Here && link.notes.lock().has_news() && Instant::now() < end {
            if !Self::push(link).await {
                return;
            }
        }
        if link.standing() == Standing::Here {
            // Whoever stays behind is buried by another gateway.
            let _ = timeout(CALL, link.store.bury(gateway, true)).await;
        }
    }

    async fn bring(&mut self, link: &Arc<Link>) {
        while link.standing() == Standing::Here && link.notes.lock().has_news() {
            if !Self::push(link).await {
                return;
            }
        }
        link.brought.notify_waiters();
    }

    /// Brings some news; says whether it worked.
    async fn push(link: &Link) -> bool {
        let changes = link.notes.lock().news();
        match timeout(CALL, link.store.put(&changes)).await {
            Ok(Ok(overdrawn)) => {
                link.notes.lock().told(&changes, &overdrawn);
                true
            }
            outcome => {
                link.notes.lock().untold(changes);
                link.lost(&why(outcome.map(|outcome| outcome.map(drop))));
                false
            }
        }
    }

    /// Says that this gateway lives. Says whether it is known who else does.
    async fn tend(&mut self) -> bool {
        self.tended = Instant::now();
        match timeout(CALL, self.ledger.tend(SystemTime::now())).await {
            Ok(Ok(tended)) => {
                if tended.orphans > 0 {
                    tracing::warn!(
                        count = tended.orphans,
                        "requests of gateways that are no more were settled as estimated"
                    );
                }
                self.living = tended.living.into_iter().chain([self.gateway.clone()]).collect();
                if let Some(link) = &self.link {
                    link.living(self.living.len());
                }
                if std::mem::replace(&mut self.failing, false) {
                    tracing::info!("the ledger is tended again");
                }
                true
            }
            outcome => {
                if !std::mem::replace(&mut self.failing, true) {
                    let why = why(outcome.map(|outcome| outcome.map(drop)));
                    tracing::error!(why, "the ledger cannot be tended");
                }
                false
            }
        }
    }

    /// Looks whether all is well.
    async fn look(&mut self, link: &Arc<Link>) {
        let audit = self.audited.elapsed() >= AUDIT;
        // In this order: whoever is found here has said before that it lives.
        let present = timeout(CALL, link.store.greet(audit)).await;
        let tended = self.tend().await;
        let present = match present {
            Ok(Ok(present)) if present.known => present,
            Ok(Ok(_)) => return link.lost("its state was lost"),
            outcome => return link.lost(&why(outcome.map(|outcome| outcome.map(drop)))),
        };
        if tended {
            self.bury(link, &present).await;
        }
        if audit {
            self.audited = Instant::now();
            self.audit(link, &present).await;
        }
    }

    /// Gives back what dead gateways held. The ledger has settled what they left.
    async fn bury(&self, link: &Arc<Link>, present: &Present) {
        for (gateway, _) in &present.gateways {
            if self.living.contains(gateway) {
                continue;
            }
            if let Err(error) = Self::bury_one(link, gateway).await {
                tracing::warn!(%error, "what a dead gateway held is not given back yet");
                return;
            }
        }
    }

    async fn bury_one(link: &Link, gateway: &GatewayId) -> Result<(), Error> {
        let places = within(link.store.bury(gateway, false)).await?;
        let shares: Vec<Share> = places
            .into_iter()
            .map(|place| Share { place, allowance: crate::Allowance::default(), names: None })
            .collect();
        // What it has spent is known before what it held is given back: nobody sees too little.
        for some in shares.chunks(SEEDS) {
            within(Box::pin(link.seed(some))).await?;
        }
        within(link.store.bury(gateway, true)).await.map(drop)
    }

    /// Takes out what belongs to nothing, and lays accounts beside the ledger.
    async fn audit(&mut self, link: &Arc<Link>, present: &Present) {
        let puts = link.notes.lock().strangers(&present.numbers, self.before);
        self.before = link.next();
        if !puts.is_empty() {
            let changes = Changes { puts, ..Changes::default() };
            let _ = timeout(CALL, link.store.put(&changes)).await;
        }
        let touched = link.notes.lock().touched();
        for some in touched.chunks(SEEDS) {
            if let Err(error) = within(Box::pin(link.seed(some))).await {
                tracing::warn!(%error, "accounts could not be laid beside the ledger");
                return;
            }
        }
    }

    /// Finds the way back: brings everything, and waits for the others to have done so. Says whether it is found.
    async fn find(&mut self, link: &Arc<Link>) -> bool {
        match self.way(link).await {
            Ok(true) => {
                link.here();
                tracing::info!(gateways = self.living.len(), "what gateways share is reached");
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::debug!(%error, "what gateways share is not reached");
                false
            }
        }
    }

    async fn way(&mut self, link: &Arc<Link>) -> Result<bool, Error> {
        let present = within(link.store.greet(true)).await?;
        let sweep = {
            let mut notes = link.notes.lock();
            notes.recall(&present.numbers);
            notes.strangers(&present.numbers, u64::MAX)
        };
        if !sweep.is_empty() {
            let changes = Changes { puts: sweep, complete: true, ..Changes::default() };
            within(link.store.put(&changes)).await?;
        }
        loop {
            let news = link.notes.lock().news();
            let last = !link.notes.lock().has_news() || news.puts.is_empty();
            let changes = Changes { complete: true, ..news };
            match within(link.store.put(&changes)).await {
                Ok(overdrawn) => link.notes.lock().told(&changes, &overdrawn),
                Err(error) => {
                    link.notes.lock().untold(changes);
                    return Err(error);
                }
            }
            if last {
                break;
            }
        }
        let present = within(link.store.greet(false)).await?;
        if present.age >= GRACE {
            return Ok(present.known);
        }
        let tended = self.tend().await;
        let all = self
            .living
            .iter()
            .all(|one| present.gateways.iter().any(|(gateway, complete)| gateway == one && *complete));
        Ok(present.known && tended && all)
    }
}

async fn within<T>(call: crate::ledger::Pending<'_, T>) -> Result<T, Error> {
    match timeout(CALL, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::new(Code::StoreUnavailable, "it does not answer in time")),
    }
}

fn why<E>(outcome: Result<Result<(), Error>, E>) -> String {
    match outcome {
        Ok(Err(error)) => error.say().to_owned(),
        _ => "it does not answer in time".to_owned(),
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}
