//! Something that happened, and what makes it the same as when it is noticed again.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_config::{EventKind, Per};
use penstock_domain::Money;
use sha2::{Digest, Sha256};

/// How long an event is remembered at least: longer than any clock of two gateways is apart.
const REMEMBERED: Duration = Duration::from_secs(3 * 86_400);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// When it was noticed.
    pub at: SystemTime,
    /// What more there is to say.
    pub data: Data,
}

/// What there is to say of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A part of a budget is spent.
    Budget {
        /// `key`, `team`, `organisation`, `model`, ….
        level: &'static str,
        /// The account's name; empty for the organisation.
        name: Arc<str>,
        /// What the budget is per.
        per: Per,
        /// The part, in percent.
        percent: u8,
        /// What is spent.
        spent: Money,
        /// The whole budget.
        limit: Money,
        /// When the day or the month began.
        begun: SystemTime,
        /// When the budget begins anew.
        renewed: Option<SystemTime>,
    },
    /// A provider fell away, or came back.
    Provider {
        /// Its name in the configuration.
        name: Arc<str>,
        /// Why it is away.
        reason: Option<Box<str>>,
        /// When it was told that it fell away: its return belongs to that.
        fell: SystemTime,
    },
    /// A key expires soon.
    Key {
        /// Its id.
        id: Box<str>,
        /// Its name.
        name: Box<str>,
        /// When.
        expires: SystemTime,
    },
}

impl Event {
    /// Its id, the same whoever notices it and however often: a digest of what makes it one event. A part of a budget is spent
    /// once in each day or month, for each size of the budget.
    pub fn id(&self) -> Box<str> {
        let what = match &self.data {
            Data::Budget { level, name, per, percent, limit, begun, .. } => {
                format!("{level}\0{name}\0{}\0{percent}\0{}\0{}", per.name(), limit.micros(), seconds(*begun))
            }
            Data::Provider { name, fell, .. } => {
                format!("{name}\0{}", seconds(*fell) / crate::watch::APART.as_secs())
            }
            Data::Key { id, expires, .. } => format!("{id}\0{}", seconds(*expires)),
        };
        digest("evt_", &[self.kind.name(), &what])
    }

    /// Until when it has to be remembered so that it is not told again; `None`: for good.
    pub fn remember_until(&self) -> Option<SystemTime> {
        match &self.data {
            Data::Budget { renewed, .. } => renewed.map(|renewed| renewed.max(self.at) + REMEMBERED),
            Data::Provider { .. } => Some(self.at + REMEMBERED),
            Data::Key { expires, .. } => Some((*expires).max(self.at) + REMEMBERED),
        }
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A name of 96 bits for some texts, none of which holds a line feed.
pub(crate) fn digest(prefix: &str, texts: &[&str]) -> Box<str> {
    let hash = Sha256::digest(texts.join("\n"));
    let mut name = String::from(prefix);
    for byte in hash.iter().take(12) {
        let _ = write!(name, "{byte:02x}");
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(percent: u8, micros: u64, month: u64) -> Event {
        let begun = UNIX_EPOCH + Duration::from_secs(month * 2_592_000);
        Event {
            kind: EventKind::BudgetThreshold,
            at: begun + Duration::from_secs(micros),
            data: Data::Budget {
                level: "team",
                name: "support".into(),
                per: Per::Month,
                percent,
                spent: Money::from_micros(micros),
                limit: Money::from_micros(1_000),
                begun,
                renewed: Some(begun + Duration::from_secs(2_592_000)),
            },
        }
    }

    #[test]
    fn the_same_part_of_the_same_month_is_the_same_event() {
        assert_eq!(spent(80, 800, 1).id(), spent(80, 950, 1).id());
        assert_ne!(spent(80, 800, 1).id(), spent(80, 800, 2).id());
        assert_ne!(spent(80, 800, 1).id(), spent(50, 800, 1).id());
        let id = spent(80, 800, 1).id();
        assert!(id.len() == 28 && id.starts_with("evt_") && !id.contains('.'), "{id}");
    }

    #[test]
    fn an_event_is_remembered_beyond_its_month() {
        let event = spent(80, 800, 1);
        let Data::Budget { renewed: Some(renewed), .. } = event.data else { panic!("a month ends") };
        assert_eq!(event.remember_until(), Some(renewed + REMEMBERED));
    }
}
