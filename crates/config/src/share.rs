//! Who waits for how long, and who goes first, where a provider is the bottleneck.

use std::borrow::Cow;
use std::time::Duration;

use penstock_domain::Priority;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer};

use crate::DurationText;

/// How urgent the requests of a team or a key are where they have to wait for their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Urgency {
    /// Somebody sits in front of it: before everybody else.
    Interactive,
    /// The usual.
    Standard,
    /// Nobody sits in front of it: after everybody else, but never starved.
    Batch,
}

impl From<Urgency> for Priority {
    fn from(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Interactive => Priority::Interactive,
            Urgency::Standard => Priority::Standard,
            Urgency::Batch => Priority::Batch,
        }
    }
}

/// How many requests may wait for a provider that has its hands full, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// So many may wait; 0: none, what cannot be served at once is refused.
    pub max_waiting: u32,
    /// So long may one wait.
    pub max_wait: DurationText,
}

impl Default for Queue {
    fn default() -> Self {
        Self { max_waiting: 256, max_wait: DurationText(Duration::from_secs(30)) }
    }
}

/// A number alone is `max_waiting`.
impl<'de> Deserialize<'de> for Queue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Most(u32),
            Both(Both),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Both {
            max_waiting: Option<u32>,
            max_wait: Option<DurationText>,
        }
        let usual = Self::default();
        let written = Written::deserialize(deserializer).map_err(|_| {
            de::Error::custom("expected a number, or `max_waiting` and `max_wait`, such as {max_waiting: 64, max_wait: 10s}")
        })?;
        Ok(match written {
            Written::Most(max_waiting) => Self { max_waiting, ..usual },
            Written::Both(Both { max_waiting, max_wait }) => Self {
                max_waiting: max_waiting.unwrap_or(usual.max_waiting),
                max_wait: max_wait.unwrap_or(usual.max_wait),
            },
        })
    }
}

impl JsonSchema for Queue {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Queue".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let wait = generator.subschema_for::<DurationText>();
        let most = json_schema!({
            "type": "integer", "minimum": 0, "maximum": 10_000,
            "description": "So many requests may wait; 0: none, what cannot be served at once is refused. Default 256."
        });
        json_schema!({
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 10_000},
                {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "max_waiting": most,
                        "max_wait": {"description": "So long may one request wait. Default 30s.", "anyOf": [wait]}
                    }
                }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_a_number_or_both_bounds_and_nothing_else() {
        let read = |text: &str| serde_json::from_str::<Queue>(text);
        let wait = |seconds| DurationText(Duration::from_secs(seconds));
        assert_eq!(read("7").unwrap(), Queue { max_waiting: 7, max_wait: wait(30) });
        assert_eq!(read("{}").unwrap(), Queue::default());
        let both = read(r#"{"max_waiting": 0, "max_wait": "5s"}"#).unwrap();
        assert_eq!(both, Queue { max_waiting: 0, max_wait: wait(5) });
        assert!(read(r#"{"max_weight": 5}"#).is_err() && read(r#""many""#).is_err());
    }
}
