//! Deliveries of events: shown without secrets, made anew by those who may operate.

use std::sync::Arc;

use penstock_alert::{
    Alerts, Answer, Data, Deliver, Delivering, Endpoint, Event, MemoryOutbox, Parcel,
};
use penstock_config::{EventKind, SecretText, Webhook};

use super::*;

struct Nobody;

impl Deliver for Nobody {
    fn deliver<'a>(&'a self, _: &'a Endpoint, _: &'a Parcel) -> Delivering<'a> {
        Box::pin(std::future::ready(Answer::default()))
    }
}

/// One endpoint, which nothing was delivered to yet.
pub(super) fn alerts() -> Alerts {
    let alerts = Alerts::new(Arc::new(MemoryOutbox::default()), Arc::new(Nobody), |_| "{}".into(), now);
    let settings = Webhook {
        url: "https://app.example/hooks/s3cret".to_owned(),
        events: Vec::new(),
        secret: SecretText::new("whsec_hunter2"),
        previous_secret: None,
        allow_private: Vec::new(),
    };
    alerts.follow(vec![Endpoint::new(&settings, "https://app.example")]);
    alerts
}

pub(super) fn event(name: &str) -> Event {
    let data = Data::Provider { name: name.into(), reason: None };
    Event { kind: EventKind::ProviderRecovered, at: now(), data }
}
