//! Deliveries of events: shown without secrets, made anew by those who may operate.

use std::sync::Arc;
use std::task::{Context, Waker};

use penstock_alert::{
    Alerts, Answer, Data, Deliver, Delivering, Endpoint, Event, MemoryOutbox, Notice, Parcel,
};
use penstock_config::{EventKind, SecretText, Webhook};

use super::*;

struct Carrier;

impl Deliver for Carrier {
    fn deliver<'a>(&'a self, _: &'a Endpoint, _: &'a Parcel) -> Delivering<'a> {
        Box::pin(std::future::ready(Answer::default()))
    }
}

/// One endpoint, and one event that waits for it.
pub(super) fn alerts() -> Alerts {
    let alerts = Alerts::new(Arc::new(MemoryOutbox::default()), Arc::new(Carrier), |_| "{}".into(), now);
    alerts.follow(vec![endpoint()]);
    // An outbox in memory answers at once.
    let event = event();
    {
        let told = std::pin::pin!(alerts.tell(&event));
        assert!(told.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
    alerts
}

fn endpoint() -> Endpoint {
    let settings = Webhook {
        url: "https://app.example/hooks/s3cret".to_owned(),
        events: Vec::new(),
        secret: SecretText::new("whsec_hunter2"),
        previous_secret: None,
        allow_private: Vec::new(),
    };
    Endpoint::new(&settings, "https://app.example")
}

fn event() -> Event {
    let data = Data::Provider { name: "outer".into(), reason: None, fell: now() };
    Event { kind: EventKind::ProviderRecovered, at: now(), data }
}

/// The id of its delivery.
pub(super) fn known() -> Box<str> {
    let event = event();
    let notice =
        Notice { id: event.id(), kind: event.kind, at: event.at, body: "{}".into(), remember_until: None };
    notice.delivery(&endpoint().id)
}

#[tokio::test]
async fn a_delivery_is_shown_without_secrets_and_made_anew_on_the_audit_log() {
    let house = House::new();
    let reader = house.mint("reader", &["admin:read"]).await.key;
    let operator = house.mint("operator", &["admin:operate"]).await.key;
    let path = "/admin/v1/webhook-deliveries";
    let (status, page) =
        house.ask(&reader, "GET", &format!("{path}?state=waiting&limit=1"), Value::Null).await;
    assert_eq!((status, page["has_more"].clone()), (StatusCode::OK, json!(false)));
    let row = &page["data"][0];
    assert_eq!(row["id"], *known());
    assert_eq!(
        (&row["type"], &row["endpoint"]),
        (&json!("provider.recovered"), &json!("https://app.example"))
    );
    assert!(!page.to_string().contains("s3cret") && !page.to_string().contains("hunter2"));
    let (_, none) = house.ask(&reader, "GET", &format!("{path}?state=dead"), Value::Null).await;
    assert_eq!(none["data"], json!([]));
    let (status, _) = house.ask(&reader, "GET", &format!("{path}?state=lost"), Value::Null).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    let again = format!("{path}/{}/redeliver", known());
    let (status, row) = house.ask(&operator, "POST", &again, Value::Null).await;
    assert_eq!((status, &row["state"]), (StatusCode::OK, &json!("waiting")));
    let entries = house.audit.page(None, 10).await.unwrap().entries;
    assert!(entries.iter().any(|entry| &*entry.event.action == "webhook.redeliver"));
    let (status, _) = house.ask(&operator, "POST", &format!("{path}/dlv_none/redeliver"), Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
