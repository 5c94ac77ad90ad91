//! What of a provider's moods is worth telling.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_config::EventKind;

use crate::event::{Data, Event};

/// How long lies at least between two times that a provider is said to fail: one that flaps is not news every minute. That it is
/// back is told as soon as it is so.
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
    /// When it was last told that it is down.
    fell: Option<SystemTime>,
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
        let fresh = || Known { told_down: false, fell: None, looks: 0 };
        let known = self.known.entry(Arc::clone(name)).or_insert_with(fresh);
        let down = matches!(mood, Mood::Down(_));
        known.looks = if down == known.told_down { 0 } else { known.looks.saturating_add(1) };
        let recent = |fell: SystemTime| now.duration_since(fell).unwrap_or_default() < APART;
        if known.looks < LOOKS || (down && known.fell.is_some_and(recent)) {
            return None;
        }
        (known.told_down, known.looks) = (down, 0);
        let (kind, reason) = match mood {
            Mood::Down(reason) => {
                known.fell = Some(now);
                (EventKind::ProviderUnavailable, Some(reason.clone()))
            }
            Mood::Up => (EventKind::ProviderRecovered, None),
        };
        let fell = known.fell.unwrap_or(now);
        Some(Event { kind, at: now, data: Data::Provider { name: Arc::clone(name), reason, fell } })
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
    fn one_that_flaps_is_said_to_fail_every_five_minutes_and_what_is_told_last_is_true() {
        let mut watch = Watch::default();
        let mut told = Vec::new();
        // Down for 20 seconds of every 40, then up for good.
        for second in (0..3_600).step_by(5) {
            told.extend(look(&mut watch, second, second >= 1_800 || second % 40 < 20));
        }
        assert!(told.len() <= 14, "{told:?}");
        assert_eq!(told.last(), Some(&EventKind::ProviderRecovered));
        assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
    }

    #[test]
    fn that_it_is_back_is_told_at_once_and_belongs_to_the_fall_before_it() {
        let mut watch = Watch::default();
        let mut at_second = |second: u64, up: bool| {
            let mood = if up { Mood::Up } else { Mood::Down("its errors".into()) };
            watch.look(at(second), &[("a".into(), mood)])
        };
        let mut told = Vec::new();
        for second in (290..700).step_by(5) {
            // Down at 290 and at 600; back a little later each time, once just beside the next fall.
            told.extend(at_second(second, !matches!(second, 290..=300 | 595..=605)));
        }
        let kinds: Vec<_> = told.iter().map(|event| event.kind).collect();
        let pair = [EventKind::ProviderUnavailable, EventKind::ProviderRecovered];
        assert_eq!(kinds, [pair, pair].concat());
        assert_eq!(told[1].at, at(310));
        let ids: std::collections::HashSet<_> = told.iter().map(Event::id).collect();
        assert_eq!(ids.len(), 4, "none is taken for one of before");
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
