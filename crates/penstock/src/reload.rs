//! Reload: on SIGHUP and when a file changed. Everything is checked first; on any problem the old snapshot stays.

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use penstock_config::{Loaded, ProcessEnvironment, Watch, diff};
use penstock_flow::Gateway;
use penstock_observe::{Metrics, Reload};
use tokio::signal::unix::Signal;

use crate::wiring::{self, Lasting};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The configuration in force, for the admin API.
pub(crate) type Current = Arc<RwLock<Arc<Loaded>>>;

/// The configuration that is in force now.
pub(crate) fn now(current: &Current) -> Arc<Loaded> {
    match current.read() {
        Ok(current) => Arc::clone(&current),
        Err(poisoned) => Arc::clone(&poisoned.into_inner()),
    }
}

/// Puts new configurations in force.
pub(crate) struct Reloader {
    current: Current,
    listen: Option<SocketAddr>,
    gateway: Gateway,
    lasting: Lasting,
    metrics: Arc<Metrics>,
    watch: Watch,
}

impl Reloader {
    pub(crate) fn new(
        loaded: Arc<Loaded>,
        listen: Option<SocketAddr>,
        gateway: Gateway,
        lasting: Lasting,
        metrics: Arc<Metrics>,
    ) -> Self {
        // From the moment that the files were read, near enough: an edit during the start is not missed.
        let watch = Watch::new(loaded.source.files.clone());
        Self { current: Arc::new(RwLock::new(loaded)), listen, gateway, lasting, metrics, watch }
    }

    /// A view of the configuration in force.
    pub(crate) fn current(&self) -> Current {
        Arc::clone(&self.current)
    }

    /// Waits for SIGHUP or a changed file, for ever.
    pub(crate) async fn run(mut self, mut hangup: Signal) {
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                _ = every.tick() => false,
            };
            if !(self.watch.changed() || asked) {
                continue;
            }
            let before = self.loaded();
            if self.reload() {
                self.watch.follow(self.loaded().source.files.clone());
                self.note(&before).await;
            }
        }
    }

    fn loaded(&self) -> Arc<Loaded> {
        now(&self.current)
    }

    /// Notes in the audit log that another configuration is in force, and what of it is other.
    async fn note(&self, before: &Loaded) {
        let loaded = self.loaded();
        let changes = diff(&before.config, &loaded.config);
        crate::audit::configured(&*self.lasting.audit, "config.reload", &loaded, &changes).await;
    }

    /// Whether a new configuration came into force.
    fn reload(&self) -> bool {
        let before = self.loaded();
        match self.try_reload(&before) {
            Ok(changes) => {
                self.metrics.reloaded(Reload::Applied);
                tracing::info!(changes, "configuration reloaded");
                true
            }
            Err(problems) => {
                self.metrics.reloaded(Reload::Refused);
                let report = crate::verb::report(&before.source.path, &problems);
                tracing::error!("configuration not reloaded, the old one stays in force: {report}");
                false
            }
        }
    }

    fn try_reload(&self, before: &Arc<Loaded>) -> Result<usize, Vec<penstock_config::Problem>> {
        let mut loaded = penstock_config::load(&before.source.path, &ProcessEnvironment, &wiring::kinds())?;
        if let Some(listen) = self.listen {
            loaded.config.server.listen = listen;
        }
        let snapshot = self.gateway.snapshot();
        let kept = Some((&before.config, snapshot.providers()));
        let providers = wiring::providers(&loaded.config, kept)?;
        wiring::check_tokens(&loaded.config)?;
        // Last, because it takes effect at once: everything before it may still refuse.
        wiring::use_file_keys(&self.lasting.keys, &loaded.config)?;
        self.lasting.trusted.follow(&self.lasting.keys, &loaded.config)?;
        let changes = diff(&before.config, &loaded.config);
        for change in changes.iter().filter(|change| change.needs_restart) {
            tracing::warn!(path = change.path, "changed in the file, but takes effect only after a restart");
        }
        // What kept a provider away may be mended: a new credential, another address.
        for (name, section) in &loaded.config.providers {
            if before.config.providers.get(name) != Some(section) {
                self.lasting.fleet.reinstate(name);
            }
        }
        self.gateway.swap(self.lasting.parts(&loaded.config, providers));
        self.lasting.conversations.set_policy((&loaded.config.responses).into());
        self.lasting.idempotency.set_policy((&loaded.config.idempotency).into());
        let loaded = Arc::new(loaded);
        match self.current.write() {
            Ok(mut current) => *current = loaded,
            Err(poisoned) => *poisoned.into_inner() = loaded,
        }
        Ok(changes.len())
    }
}
