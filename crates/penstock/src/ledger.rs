//! The ledger of the running program, and what it shares with other gateways: what was spent before counts from the first
//! request on.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use penstock_admission::ledger::{GatewayId, Writer};
use penstock_admission::shared::{Counts, Failure as Without, Keeper, Link, Standing, Terms};
use penstock_admission::{Admission, Crossing, Rules};
use penstock_config::{Config, SharedFailure, SharedState};
use penstock_domain::Error;
use penstock_store_redis::RedisShared;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::house::apart;
use crate::reload::{self, Current};
use crate::stores::Stores;

/// The ledger and who writes it.
pub(crate) struct Kept {
    gateway: GatewayId,
    pub(crate) admission: Arc<Admission>,
    /// Reservations that were found open at the start.
    pub(crate) orphans: u64,
    /// Parts of budgets that are spent, for one listener.
    pub(crate) crossings: Option<mpsc::Receiver<Crossing>>,
    writing: JoinHandle<()>,
    keeping: JoinHandle<()>,
}

impl Kept {
    /// Opens the ledger, settles what a process left open that is no more, takes over what was spent, and joins the other
    /// gateways where there are any.
    ///
    /// # Errors
    /// A sentence on the mend: without its ledger a gateway cannot keep a budget.
    pub(crate) async fn open(config: &Config, stores: &Stores) -> Result<Self, Failure> {
        let gateway = stores.gateway.clone();
        let told = |error: Error| error.say().to_owned();
        let store = Arc::clone(&stores.ledger);
        let now = SystemTime::now();
        let recovered = store.recover(now).await.map_err(told)?;
        if recovered.orphans > 0 {
            tracing::warn!(
                count = recovered.orphans,
                "requests had no end in the ledger and were settled as estimated"
            );
        }
        let (mut admission, mut writer) = Admission::with_ledger(Instant::now(), Arc::clone(&store));
        let mut keeper = Keeper::new(gateway.clone(), store);
        if let Some((shared, terms)) = shared(config, &gateway).map_err(told)? {
            let (sharing, link) = keeper.sharing(Arc::new(shared), terms);
            writer.tell(&link);
            (admission, keeper) = (admission.share(link), sharing);
            keeper.begin().await;
        }
        let (admission, crossings) = admission.with_bell();
        admission.restore(&Rules::of(config), &recovered, now);
        let (writing, keeping) = (apart(Writer::run(writer)), tokio::spawn(keeper.run()));
        Ok(Self {
            gateway,
            admission: Arc::new(admission),
            orphans: recovered.orphans,
            crossings: Some(crossings),
            writing,
            keeping,
        })
    }

    /// The link with the other gateways.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.admission.link().cloned()
    }

    /// Writes what is left, and takes leave of the other gateways.
    pub(crate) async fn close(self) {
        self.admission.close();
        // A writer that panicked has nothing left to write.
        let _ = self.writing.await;
        self.keeping.abort();
        let _ = self.keeping.await;
        if let Some(link) = self.admission.link() {
            Keeper::leave(link, &self.gateway).await;
        }
    }
}

/// How this gateway stands with the others, for the metrics.
pub(crate) fn told(link: &Link) -> penstock_observe::SharedState {
    let Counts { held, refused, failed, alone } = link.counts();
    penstock_observe::SharedState {
        up: link.standing() == Standing::Here,
        gateways: link.gateways(),
        requests: [("held", held), ("refused", refused), ("failed", failed), ("alone", alone)],
    }
}

/// What gateways share, where the configuration has them share something.
fn shared(config: &Config, gateway: &GatewayId) -> Result<Option<(RedisShared, Terms)>, Error> {
    let SharedState::Redis(address) = &config.stores.shared else { return Ok(None) };
    let failure = match config.stores.shared_failure {
        SharedFailure::Local => Without::Local,
        SharedFailure::Refuse => Without::Refuse,
    };
    let terms = Terms { timeout: config.stores.shared_timeout.0, failure };
    RedisShared::new(address.secret(), gateway.clone()).map(|shared| Some((shared, terms)))
}

/// Whether what gateways share can be reached, where the configuration has them share something.
///
/// # Errors
/// `store_unavailable` or `invalid_value`, with a sentence on the mend.
pub(crate) async fn reach_shared(config: &Config) -> Result<bool, Error> {
    match shared(config, &GatewayId::random())? {
        Some((shared, _)) => shared.reach().await.map(|()| true),
        None => Ok(false),
    }
}

/// How often old entries are looked for.
const SWEEP: Duration = Duration::from_secs(3_600);
/// The first time comes when the start is over.
const FIRST: Duration = Duration::from_secs(10);
/// Between two steps of a sweep: new entries are written meanwhile.
const BREATH: Duration = Duration::from_millis(50);

/// Deletes entries that are too old, in small steps, for ever. What was spent by hour, and ever, stays.
pub(crate) async fn sweep(stores: Arc<Stores>, current: Current) {
    let mut every = tokio::time::interval_at(tokio::time::Instant::now() + FIRST, SWEEP);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let retention = reload::now(&current).config.ledger.retention.0;
        let before = SystemTime::now().checked_sub(retention).unwrap_or(SystemTime::UNIX_EPOCH);
        loop {
            match stores.expire_entries(before).await {
                Ok(true) => tokio::time::sleep(BREATH).await,
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "old entries of the ledger cannot be deleted; tried again in an hour");
                    break;
                }
            }
        }
    }
}
