//! What of a provider's moods is worth telling.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_config::EventKind;

use crate::event::{Data, Event};

/// How long what was told of a provider stands at least: one that flaps is not news every minute.
pub(crate) const APART: Duration = Duration::from_secs(300);

/// A change is told when so many looks in a row saw it.
const LOOKS: u32 = 2;

/// How a provider is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mood {
    /// Requests go there.
    Up,
    /// None do: why.
    Down(Box<str>),
}

/// What was told of each provider.
#[derive(Debug, Default)]
pub struct Watch {
    known: HashMap<Arc<str>, Known>,
}

#[derive(Debug)]
struct Known {
    told_down: bool,
    told_at: Option<SystemTime>,
    looks: u32,
}

impl Watch {
    /// Looks at all providers and says what is to be told. A provider that was never seen counts as up; one that is gone from
    /// the configuration is forgotten.
    pub fn look(&mut self, now: SystemTime, moods: &[(Arc<str>, Mood)]) -> Vec<Event> {
        self.known.retain(|name, _| moods.iter().any(|(there, _)| there == name));
        moods.iter().filter_map(|(name, mood)| self.one(now, name, mood)).collect()
    }

    fn one(&mut self, now: SystemTime, name: &Arc<str>, mood: &Mood) -> Option<Event> {
        let fresh = || Known { told_down: false, told_at: None, looks: 0 };
        let known = self.known.entry(Arc::clone(name)).or_insert_with(fresh);
        let down = matches!(mood, Mood::Down(_));
        known.looks = if down == known.told_down { 0 } else { known.looks.saturating_add(1) };
        let early = known.told_at.is_some_and(|told| now.duration_since(told).unwrap_or_default() < APART);
        if known.looks < LOOKS || early {
            return None;
        }
        (known.told_down, known.told_at, known.looks) = (down, Some(now), 0);
        let (kind, reason) = match mood {
            Mood::Down(reason) => (EventKind::ProviderUnavailable, Some(reason.clone())),
            Mood::Up => (EventKind::ProviderRecovered, None),
        };
        Some(Event { kind, at: now, data: Data::Provider { name: Arc::clone(name), reason } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn look(watch: &mut Watch, second: u64, up: bool) -> Vec<EventKind> {
        let mood = if up { Mood::Up } else { Mood::Down("its errors".into()) };
        watch.look(at(second), &[("a".into(), mood)]).iter().map(|event| event.kind).collect()
    }

    #[test]
    fn a_change_is_told_when_it_lasts() {
        let mut watch = Watch::default();
        assert_eq!(look(&mut watch, 0, true), []);
        assert_eq!(look(&mut watch, 5, false), []);
        assert_eq!(look(&mut watch, 10, true), []);
        assert_eq!(look(&mut watch, 15, false), []);
        assert_eq!(look(&mut watch, 20, false), [EventKind::ProviderUnavailable]);
        assert_eq!(look(&mut watch, 25, false), []);
    }

    #[test]
    fn one_that_flaps_is_told_of_every_five_minutes_and_what_is_told_last_is_true() {
        let mut watch = Watch::default();
        let mut told = Vec::new();
        // Down for 20 seconds of every 40, then up for good.
        for second in (0..3_600).step_by(5) {
            told.extend(look(&mut watch, second, second >= 1_800 || second % 40 < 20));
        }
        assert!(told.len() <= 12, "{told:?}");
        assert_eq!(told.last(), Some(&EventKind::ProviderRecovered));
        assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
    }

    #[test]
    fn a_provider_that_is_gone_is_forgotten() {
        let mut watch = Watch::default();
        look(&mut watch, 0, false);
        assert_eq!(look(&mut watch, 5, false), [EventKind::ProviderUnavailable]);
        assert_eq!(watch.look(at(10), &[]), []);
        assert!(watch.known.is_empty());
    }
}
