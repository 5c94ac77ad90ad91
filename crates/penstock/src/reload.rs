//! Reload: on SIGHUP and when a file changed. Everything is checked first; on any problem the old snapshot stays.

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use penstock_config::{Loaded, ProcessEnvironment, Watch, diff};
use penstock_observe::{Metrics, Reload};
use tokio::signal::unix::Signal;

use crate::snapshots::Snapshots;
use crate::wiring;

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
    snapshots: Arc<Snapshots>,
    listen: Option<SocketAddr>,
    metrics: Arc<Metrics>,
    watch: Watch,
}

impl Reloader {
    pub(crate) fn new(
        snapshots: Arc<Snapshots>,
        listen: Option<SocketAddr>,
        metrics: Arc<Metrics>,
    ) -> Self {
        // From the moment that the files were read, near enough: an edit during the start is not missed.
        let watch = Watch::new(now(&snapshots.current()).source.files.clone());
        Self { snapshots, listen, metrics, watch }
    }

    /// A view of the configuration in force.
    pub(crate) fn current(&self) -> Current {
        self.snapshots.current()
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
        now(&self.snapshots.current())
    }

    /// Notes in the audit log that another configuration is in force, and what of it is other.
    async fn note(&self, before: &Loaded) {
        let loaded = self.loaded();
        let changes = diff(&before.config, &loaded.config);
        crate::audit::configured(&*self.snapshots.lasting.audit, "config.reload", &loaded, &changes).await;
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
        let lasting = &self.snapshots.lasting;
        let snapshot = self.snapshots.gateway.snapshot();
        let kept = Some((&before.config, snapshot.providers()));
        let providers = wiring::providers(&loaded.config, kept)?;
        wiring::check_tokens(&loaded.config)?;
        let endpoints = penstock_webhook::endpoints(&loaded.config)?;
        // Last, because it takes effect at once: everything before it may still refuse.
        wiring::use_file_keys(&lasting.people.keys, &loaded.config)?;
        lasting.trusted.follow(&lasting.people.keys, &loaded.config)?;
        lasting.people.use_door(&loaded.config)?;
        lasting.people.teams.use_file(&loaded.config.teams);
        let changes = diff(&before.config, &loaded.config);
        for change in changes.iter().filter(|change| change.needs_restart) {
            tracing::warn!(path = change.path, "changed in the file, but takes effect only after a restart");
        }
        // What kept a provider away may be mended: a new credential, another address.
        for (name, section) in &loaded.config.providers {
            if before.config.providers.get(name) != Some(section) {
                lasting.fleet.reinstate(name);
            }
        }
        lasting.alerts.follow(endpoints);
        lasting.conversations.set_policy((&loaded.config.responses).into());
        lasting.idempotency.set_policy((&loaded.config.idempotency).into());
        self.snapshots.swap(Arc::new(loaded), providers);
        Ok(changes.len())
    }
}
