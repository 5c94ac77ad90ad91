//! The snapshot in force: made anew by a reload of the file and by a change of the teams in the database, one at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use penstock_config::Loaded;
use penstock_flow::Gateway;

use crate::reload::{self, Current};
use crate::wiring::{Lasting, Providers};

/// Puts snapshots in force.
pub(crate) struct Snapshots {
    pub(crate) gateway: Gateway,
    pub(crate) lasting: Lasting,
    current: Current,
    one: Mutex<()>,
}

impl Snapshots {
    /// Goes on from the snapshot that the gateway began with. Changes of teams make new ones from now on, as long as this
    /// is there.
    pub(crate) fn new(loaded: Arc<Loaded>, gateway: Gateway, lasting: Lasting) -> Arc<Self> {
        let teams = Arc::clone(&lasting.people.teams);
        let snapshots =
            Self { gateway, lasting, current: Arc::new(RwLock::new(loaded)), one: Mutex::default() };
        let snapshots = Arc::new(snapshots);
        // Weak: the last snapshot must go when the program drains, or its recorder would never end.
        let weak: Weak<Self> = Arc::downgrade(&snapshots);
        teams.when_changed(move || {
            if let Some(snapshots) = weak.upgrade() {
                snapshots.again();
            }
        });
        snapshots
    }

    /// A view of the configuration in force.
    pub(crate) fn current(&self) -> Current {
        Arc::clone(&self.current)
    }

    /// Puts another configuration in force.
    pub(crate) fn swap(&self, loaded: Arc<Loaded>, providers: Providers) {
        let _one = self.one();
        self.gateway.swap(self.lasting.parts(&loaded.config, providers));
        match self.current.write() {
            Ok(mut current) => *current = loaded,
            Err(poisoned) => *poisoned.into_inner() = loaded,
        }
    }

    /// Puts the same configuration in force with other teams.
    fn again(&self) {
        let _one = self.one();
        let loaded = reload::now(&self.current);
        let providers = self.gateway.snapshot().providers().clone();
        self.gateway.swap(self.lasting.parts(&loaded.config, providers));
        tracing::info!("the teams changed");
    }

    fn one(&self) -> MutexGuard<'_, ()> {
        self.one.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
