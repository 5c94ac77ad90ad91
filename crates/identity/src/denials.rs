//! Denied access, counted: the first of a kind is told at once, repetitions as one number a minute.
//!
//! Whoever tries keys in a loop would otherwise fill the audit log, which is never cut.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use penstock_domain::Code;

use crate::AuditEvent;

/// Repetitions of a kind are told after this long.
const EVERY: Duration = Duration::from_secs(60);
/// Most kinds at once; what is beyond goes together as one.
const MOST: usize = 256;

/// A kind of denial.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Denial {
    /// Why.
    pub code: Code,
    /// Who, where that is known: whoever shows a wrong key is nobody.
    pub caller: Option<Arc<str>>,
    /// What they asked for: a route of the admin API, or `requests`.
    pub what: &'static str,
}

#[derive(Debug)]
struct Count {
    untold: u64,
    /// Since when repetitions are counted; `None` before the first was told.
    since: Option<Instant>,
}

/// Counts denials by kind.
#[derive(Debug, Default)]
pub struct Denials(Mutex<HashMap<Denial, Count>>);

impl Denials {
    /// Notes one.
    pub fn note(&self, denial: Denial) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kinds.len() < MOST || kinds.contains_key(&denial);
        let kind = if known { denial } else { Denial { code: denial.code, caller: None, what: "others" } };
        let count = kinds.entry(kind).or_insert(Count { untold: 0, since: None });
        count.untold = count.untold.saturating_add(1);
    }

    /// What is to be told now: kinds that are new, and kinds that were repeated for a minute. Kinds that stayed quiet for a
    /// minute are forgotten, so that their next time is told at once again.
    pub fn due(&self, now: Instant, wall: SystemTime) -> Vec<AuditEvent> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = Vec::new();
        kinds.retain(|kind, count| {
            let waits = count.since.is_some_and(|since| now.saturating_duration_since(since) < EVERY);
            if waits {
                return true;
            }
            if count.untold == 0 {
                return false;
            }
            let caller = kind.caller.as_deref().unwrap_or("nobody");
            let after = format!("{{\"code\":\"{}\",\"count\":{}}}", kind.code, count.untold);
            events.push(AuditEvent::new(wall, caller, "denied", kind.what).with(None, Some(&after)));
            *count = Count { untold: 0, since: Some(now) };
            true
        });
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(code: Code, caller: &str) -> Denial {
        Denial { code, caller: Some(caller.into()), what: "requests" }
    }

    fn told(denials: &Denials, now: Instant) -> Vec<(String, String)> {
        let events = denials.due(now, SystemTime::UNIX_EPOCH);
        events.into_iter().map(|e| (e.actor.to_string(), e.after.unwrap_or_default().to_string())).collect()
    }

    #[test]
    fn the_first_of_a_kind_is_told_at_once_and_repetitions_as_one_number_a_minute() {
        let (denials, begin) = (Denials::default(), Instant::now());
        denials.note(denial(Code::InvalidApiKey, "a"));
        assert_eq!(told(&denials, begin).len(), 1);
        for _ in 0..1000 {
            denials.note(denial(Code::InvalidApiKey, "a"));
        }
        assert_eq!(told(&denials, begin + Duration::from_secs(59)), []);
        let again = told(&denials, begin + Duration::from_secs(60));
        assert_eq!(again, [("a".to_owned(), "{\"code\":\"invalid_api_key\",\"count\":1000}".to_owned())]);
        assert_eq!(told(&denials, begin + Duration::from_secs(121)), []);
        denials.note(denial(Code::InvalidApiKey, "a"));
        assert_eq!(
            told(&denials, begin + Duration::from_secs(122)).len(),
            1,
            "it was quiet: told at once again"
        );
    }

    #[test]
    fn a_flood_of_kinds_is_bounded_and_loses_no_count() {
        let denials = Denials::default();
        for n in 0..10_000 {
            denials.note(denial(Code::InsufficientScope, &format!("key_{n}")));
        }
        let events = told(&denials, Instant::now());
        assert_eq!(events.len(), MOST + 1);
        let others = events.iter().find(|(actor, _)| actor == "nobody").expect("the rest together");
        assert_eq!(others.1, format!("{{\"code\":\"insufficient_scope\",\"count\":{}}}", 10_000 - MOST));
    }
}
