//! An event as its JSON: `type`, `timestamp`, and `data` with little in it.

use std::time::SystemTime;

use penstock_alert::{Data, Event};
use serde_json::{Value, json};

/// The JSON of an event. Money stands as micro-dollars and as text, so that nobody has to compute with fractions.
pub fn render(event: &Event) -> Box<str> {
    let body = json!({"type": event.kind.name(), "timestamp": time(event.at), "data": data(&event.data)});
    body.to_string().into()
}

fn data(data: &Data) -> Value {
    match data {
        Data::Budget { level, name, per, percent, spent, limit, begun, renewed } => {
            let begun = renewed.map(|_| time(*begun));
            json!({
                "level": level,
                "name": if name.is_empty() { Value::Null } else { json!(&**name) },
                "per": per.name(),
                "threshold_percent": percent,
                "spent_microusd": spent.micros(),
                "spent_usd": spent.to_string(),
                "limit_microusd": limit.micros(),
                "limit_usd": limit.to_string(),
                "window_start": begun,
                "renews_at": renewed.map(time),
            })
        }
        Data::Provider { name, reason, .. } => json!({"provider": &**name, "reason": reason.as_deref()}),
        Data::Key { id, name, expires } => {
            json!({"id": &**id, "name": &**name, "expires_at": time(*expires)})
        }
    }
}

fn time(at: SystemTime) -> Option<String> {
    let stamp = jiff::Timestamp::try_from(at).ok()?;
    Some(stamp.round(jiff::Unit::Millisecond).unwrap_or(stamp).to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use penstock_config::{EventKind, Per};
    use penstock_domain::Money;

    use super::*;

    #[test]
    fn a_spent_budget_is_told_in_whole_numbers_and_in_dollars() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_453_200_250);
        let event = Event {
            kind: EventKind::BudgetThreshold,
            at,
            data: Data::Budget {
                level: "team",
                name: "support".into(),
                per: Per::Month,
                percent: 80,
                spent: Money::from_micros(400_000_001),
                limit: Money::from_micros(500_000_000),
                begun: SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_491_200),
                renewed: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_083_200)),
            },
        };
        let body: Value = serde_json::from_str(&render(&event)).expect("JSON");
        assert_eq!(
            body,
            json!({
                "type": "budget.threshold",
                "timestamp": "2026-11-23T17:00:00.25Z",
                "data": {
                    "level": "team",
                    "name": "support",
                    "per": "month",
                    "threshold_percent": 80,
                    "spent_microusd": 400_000_001,
                    "spent_usd": "400.000001",
                    "limit_microusd": 500_000_000,
                    "limit_usd": "500.000000",
                    "window_start": "2026-11-01T00:00:00Z",
                    "renews_at": "2026-12-01T00:00:00Z",
                }
            })
        );
    }
}
