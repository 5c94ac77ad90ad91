//! Whom the gateway tells of what happens, and from which part of a budget on it speaks up.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::{DurationText, IpRange, SecretText};

/// An address that is told of events.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where events are sent by POST: `https://…`; `http://…` only to addresses in `allow_private`.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Which events. All of them when left out.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub events: Vec<EventKind>,
    /// What every delivery is signed with (Standard Webhooks): `whsec_` and 24 to 64 random bytes in base64.
    pub secret: SecretText,
    /// The secret before this one: while it stands here, deliveries are signed with both.
    #[serde(default)]
    pub previous_secret: Option<SecretText>,
    /// Addresses that are not public and may be reached all the same, as ranges: `[10.2.0.0/16]`. Without any, an address
    /// of this machine or of a private network is refused, whatever name leads there.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub allow_private: Vec<IpRange>,
}

impl Webhook {
    /// Whether it is to be told of such an event.
    pub fn wants(&self, kind: EventKind) -> bool {
        self.events.is_empty() || self.events.contains(&kind)
    }
}

/// What can happen that somebody wants to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum EventKind {
    /// A part of a budget is spent.
    #[serde(rename = "budget.threshold")]
    BudgetThreshold,
    /// A budget is spent, or refuses because so little is left.
    #[serde(rename = "budget.exhausted")]
    BudgetExhausted,
    /// A provider gets no requests because of its errors.
    #[serde(rename = "provider.unavailable")]
    ProviderUnavailable,
    /// A provider that got none gets requests again.
    #[serde(rename = "provider.recovered")]
    ProviderRecovered,
    /// A key expires within a week.
    #[serde(rename = "key.expiring")]
    KeyExpiring,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [EventKind; 5] = [
        EventKind::BudgetThreshold,
        EventKind::BudgetExhausted,
        EventKind::ProviderUnavailable,
        EventKind::ProviderRecovered,
        EventKind::KeyExpiring,
    ];

    /// Its name: `budget.threshold`, ….
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::BudgetThreshold => "budget.threshold",
            EventKind::BudgetExhausted => "budget.exhausted",
            EventKind::ProviderUnavailable => "provider.unavailable",
            EventKind::ProviderRecovered => "provider.recovered",
            EventKind::KeyExpiring => "key.expiring",
        }
    }
}

/// The parts of a budget, in percent, at which somebody is told: a set of numbers from 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AlertAt(u128);

/// Most parts of one budget.
const MOST_PARTS: usize = 10;

impl AlertAt {
    /// None: nobody is told.
    pub const NONE: AlertAt = AlertAt(0);

    /// The same and one more; a number that is no percentage changes nothing.
    #[must_use]
    pub const fn with(self, percent: u8) -> Self {
        if percent >= 1 && percent <= 100 { Self(self.0 | 1 << percent) } else { self }
    }

    /// Those that are not in another set.
    #[must_use]
    pub const fn without(self, others: AlertAt) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether a part is in it.
    pub const fn contains(self, percent: u8) -> bool {
        percent <= 100 && self.0 >> percent & 1 == 1
    }

    /// The parts, in rising order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (1..=100).filter(move |percent| self.contains(*percent))
    }

    /// Whether it is the usual set, which need not be written.
    pub(crate) fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// At a half, at four fifths and when it is spent.
impl Default for AlertAt {
    fn default() -> Self {
        Self::NONE.with(50).with(80).with(100)
    }
}

impl<'de> Deserialize<'de> for AlertAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Vec::<u8>::deserialize(deserializer)?;
        if parts.len() > MOST_PARTS {
            return Err(de::Error::custom(format_args!(
                "expected at most {MOST_PARTS} percentages, found {}",
                parts.len()
            )));
        }
        parts.into_iter().try_fold(Self::NONE, |at, percent| match percent {
            1..=100 => Ok(at.with(percent)),
            _ => Err(de::Error::custom(format_args!("expected percentages from 1 to 100, found {percent}"))),
        })
    }
}

impl Serialize for AlertAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.iter().count()))?;
        for percent in self.iter() {
            list.serialize_element(&percent)?;
        }
        list.end()
    }
}

impl JsonSchema for AlertAt {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "AlertAt".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "title": "Percentages",
            "maxItems": MOST_PARTS,
            "items": { "type": "integer", "minimum": 1, "maximum": 100 }
        })
    }
}

/// How long the ledger keeps what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// The entry of a single request is deleted when it is older; sums by hour and totals stay. Default 400d.
    pub retention: DurationText,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { retention: DurationText(std::time::Duration::from_secs(400 * 86_400)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_budget_are_a_set_of_percentages() {
        let read = |text: &str| serde_json::from_str::<AlertAt>(text);
        let at = read("[100, 80, 50, 80]").expect("a set");
        assert_eq!(at, AlertAt::default());
        assert_eq!(at.iter().collect::<Vec<_>>(), [50, 80, 100]);
        assert_eq!(serde_json::to_string(&at).expect("text"), "[50,80,100]");
        assert_eq!(at.without(AlertAt::NONE.with(80)).iter().collect::<Vec<_>>(), [50, 100]);
        assert_eq!(read("[]").expect("nobody is told"), AlertAt::NONE);
        for bad in ["[0]", "[101]", "[1,2,3,4,5,6,7,8,9,10,11]", "[-1]", "50"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_event_is_read_by_its_name() {
        for kind in EventKind::ALL {
            let text = format!("\"{}\"", kind.name());
            assert_eq!(serde_json::from_str::<EventKind>(&text).expect("a kind"), kind);
        }
    }
}
