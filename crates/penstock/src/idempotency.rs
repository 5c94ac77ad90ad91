//! Kept answers: their secret, their policy, and who tends them.

use std::sync::Arc;

use penstock_config::Config;
use penstock_domain::Error;
use penstock_idempotency::{Idempotency, Policy};
use tokio::task::JoinHandle;

use crate::stores::Stores;

/// The kept answers of the running program.
pub(crate) struct Answers {
    pub(crate) service: Arc<Idempotency>,
    tending: JoinHandle<()>,
}

impl Answers {
    /// The answers of the configuration. The store is opened by the first request that has a key: trouble with it refuses
    /// those requests and no others.
    ///
    /// # Errors
    /// `store_unavailable` when the pepper cannot be read.
    pub(crate) async fn open(config: &Config, stores: &Stores) -> Result<Self, Error> {
        let pepper = stores.pepper(config).await?;
        let policy = Policy::from(&config.idempotency);
        let service = Arc::new(Idempotency::new(Arc::clone(&stores.answers), pepper.expose(), policy));
        let tended = Arc::clone(&service);
        let tending = tokio::spawn(async move { tended.tend().await });
        Ok(Self { service, tending })
    }

    /// Tends them no more.
    pub(crate) async fn close(self) {
        self.tending.abort();
        let _ = self.tending.await;
    }
}
