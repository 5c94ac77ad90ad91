//! What differs between two snapshots, and what of it needs a restart.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Config, FileKey};

/// One setting or object that differs. Names only: values may be secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which: `server.listen`, `providers.openai`, `keys.ci`.
    pub path: String,
    /// How it differs.
    pub what: What,
    /// Whether it takes effect only after a restart.
    pub needs_restart: bool,
}

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// The new snapshot has it, the old one has not.
    Added,
    /// The old snapshot has it, the new one has not.
    Removed,
    /// Both have it, and it is not the same.
    Changed,
}

impl What {
    /// `added`, `removed` or `changed`.
    pub const fn name(self) -> &'static str {
        match self {
            What::Added => "added",
            What::Removed => "removed",
            What::Changed => "changed",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let restart = if self.needs_restart { " (takes effect after a restart)" } else { "" };
        write!(f, "{} {}{restart}", self.path, self.what.name())
    }
}

/// What differs between two snapshots, in the order of the file's sections.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    let (a, b) = (&old.server, &new.server);
    one(&mut changes, "server.listen", a.listen == b.listen, true);
    one(&mut changes, "server.admin_listen", a.admin_listen == b.admin_listen, true);
    one(&mut changes, "server.drain", a.drain == b.drain, false);
    one(&mut changes, "server.max_body", a.max_body == b.max_body, true);
    one(&mut changes, "server.max_in_flight", a.max_in_flight == b.max_in_flight, true);
    let same = a.max_in_flight_bytes == b.max_in_flight_bytes;
    one(&mut changes, "server.max_in_flight_bytes", same, true);
    one(&mut changes, "server.header_timeout", a.header_timeout == b.header_timeout, true);
    one(&mut changes, "server.body_timeout", a.body_timeout == b.body_timeout, true);
    one(&mut changes, "server.write_timeout", a.write_timeout == b.write_timeout, true);
    one(&mut changes, "server.keep_alive", a.keep_alive == b.keep_alive, true);
    one(&mut changes, "server.trusted_proxies", a.trusted_proxies == b.trusted_proxies, true);
    one(&mut changes, "data_dir", old.data_dir == new.data_dir, true);
    one(&mut changes, "stores.database", old.stores.database == new.stores.database, true);
    one(&mut changes, "stores.shared", old.stores.shared == new.stores.shared, true);
    let (before, after) = (&old.stores, &new.stores);
    one(&mut changes, "stores.database_wait", before.database_wait == after.database_wait, true);
    one(&mut changes, "stores.shared_timeout", before.shared_timeout == after.shared_timeout, true);
    one(&mut changes, "stores.shared_failure", before.shared_failure == after.shared_failure, true);
    one(&mut changes, "auth.pepper", old.auth.pepper == new.auth.pepper, true);
    one(&mut changes, "auth", old.auth == new.auth, false);
    named("providers", &old.providers, &new.providers, &mut changes);
    named("models", &old.models, &new.models, &mut changes);
    named("teams", &old.teams, &new.teams, &mut changes);
    let by_name = |keys: &[FileKey]| -> BTreeMap<String, FileKey> {
        keys.iter().map(|key| (key.name.clone(), key.clone())).collect()
    };
    named("keys", &by_name(&old.keys), &by_name(&new.keys), &mut changes);
    one(&mut changes, "limits", old.limits == new.limits, false);
    one(&mut changes, "organisation", old.organisation == new.organisation, false);
    one(&mut changes, "records.retention", old.records.retention == new.records.retention, false);
    one(&mut changes, "ledger.retention", old.ledger.retention == new.ledger.retention, false);
    one(&mut changes, "webhooks", old.webhooks == new.webhooks, false);
    one(&mut changes, "responses", old.responses == new.responses, false);
    one(&mut changes, "idempotency", old.idempotency == new.idempotency, false);
    one(&mut changes, "relay", old.relay == new.relay, false);
    one(&mut changes, "log.format", old.log.format == new.log.format, true);
    one(&mut changes, "log.level", old.log.level == new.log.level, true);
    changes
}

fn one(changes: &mut Vec<Change>, path: &str, same: bool, needs_restart: bool) {
    if !same {
        changes.push(Change { path: path.to_owned(), what: What::Changed, needs_restart });
    }
}

fn named<T: PartialEq>(
    section: &str,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    changes: &mut Vec<Change>,
) {
    let mut push = |name: &str, what| {
        changes.push(Change { path: format!("{section}.{name}"), what, needs_restart: false });
    };
    for (name, value) in old {
        match new.get(name) {
            None => push(name, What::Removed),
            Some(other) if other != value => push(name, What::Changed),
            Some(_) => {}
        }
    }
    for name in new.keys().filter(|name| !old.contains_key(*name)) {
        push(name, What::Added);
    }
}
