//! What endpoints get, in which order, while they answer and while they do not.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;

use penstock_config::{EventKind, SecretText, Webhook};

use super::*;
use crate::event::Data;
use crate::memory::MemoryOutbox;
use crate::outbox::{Answer, Delivering, State};

/// Seconds on the clock of these tests, which stands still between two moves.
static CLOCK: AtomicU64 = AtomicU64::new(1_800_000_000);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(CLOCK.load(Ordering::Relaxed))
}

/// Answers with the next of its statuses, and with 200 when it has none left.
#[derive(Default)]
struct Receiver {
    statuses: Mutex<VecDeque<u16>>,
    got: Mutex<Vec<(Box<str>, Box<str>)>>,
    heard: Notify,
}

impl Deliver for Receiver {
    fn deliver<'a>(&'a self, endpoint: &'a Endpoint, parcel: &'a Parcel) -> Delivering<'a> {
        let status = self.statuses.lock().pop_front().unwrap_or(200);
        self.got.lock().push((endpoint.shown.clone(), parcel.body.clone()));
        self.heard.notify_one();
        Box::pin(std::future::ready(Answer { status: Some(status), ..Answer::default() }))
    }
}

impl Receiver {
    /// Waits until there were so many attempts, and returns the bodies of all.
    async fn got(&self, count: usize) -> Vec<Box<str>> {
        while self.got.lock().len() < count {
            self.heard.notified().await;
        }
        self.got.lock().iter().map(|(_, body)| body.clone()).collect()
    }
}

fn render(event: &Event) -> Box<str> {
    let Data::Key { name, .. } = &event.data else { panic!("only keys here") };
    name.clone()
}

fn event(name: &str) -> Event {
    let data = Data::Key { id: name.into(), name: name.into(), expires: SystemTime::UNIX_EPOCH };
    Event { kind: EventKind::KeyExpiring, at: now(), data }
}

fn endpoint(shown: &str, events: Vec<EventKind>) -> Endpoint {
    let settings = Webhook {
        url: format!("https://{shown}/"),
        events,
        secret: SecretText::new("whsec_"),
        previous_secret: None,
        allow_private: Vec::new(),
    };
    Endpoint::new(&settings, shown)
}

fn alerts(statuses: &[u16]) -> (Arc<Alerts>, Arc<Receiver>) {
    let receiver = Arc::new(Receiver::default());
    receiver.statuses.lock().extend(statuses);
    let deliver = Arc::clone(&receiver) as Arc<dyn Deliver>;
    let alerts = Arc::new(Alerts::new(Arc::new(MemoryOutbox::default()), deliver, render, now));
    alerts.follow(vec![endpoint("a", Vec::new())]);
    (alerts, receiver)
}

async fn states(alerts: &Alerts) -> Vec<(Box<str>, State, u32)> {
    let rows = alerts.list(Query { limit: 100, ..Query::default() }).await.expect("a list");
    rows.into_iter().rev().map(|(row, _)| (row.endpoint, row.state, row.attempts)).collect()
}

/// Runs the deliveries beside a test until it ends.
async fn beside<T>(alerts: &Alerts, test: impl Future<Output = T>) -> T {
    tokio::select! {
        () = alerts.run() => panic!("it runs for ever"),
        done = test => done,
    }
}

/// Lets the runner do all that it can without time passing.
async fn quiet() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_delivered_once_however_often_it_is_noticed() {
    let (alerts, receiver) = alerts(&[]);
    beside(&alerts, async {
        for name in ["one", "two", "one", "three", "two"] {
            alerts.tell(&event(name)).await;
        }
        assert_eq!(receiver.got(3).await, ["one".into(), "two".into(), Box::<str>::from("three")]);
        quiet().await;
        assert_eq!(receiver.got.lock().len(), 3);
    })
    .await;
    assert_eq!(alerts.tally(), Tally { delivered: 3, ..Tally::default() });
}

#[tokio::test(start_paused = true)]
async fn later_events_wait_behind_one_whose_endpoint_is_in_trouble() {
    let (alerts, receiver) = alerts(&[503]);
    beside(&alerts, async {
        alerts.tell(&event("one")).await;
        receiver.got(1).await;
        quiet().await;
        alerts.tell(&event("two")).await;
        quiet().await;
        assert_eq!(receiver.got.lock().len(), 1, "the endpoint is left alone");
        CLOCK.fetch_add(10, Ordering::Relaxed);
        alerts.bell.notify_one();
        assert_eq!(receiver.got(3).await[1..], ["one".into(), Box::<str>::from("two")]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_event_does_not_stand_in_the_way() {
    let (alerts, receiver) = alerts(&[400]);
    beside(&alerts, async {
        alerts.tell(&event("one")).await;
        receiver.got(1).await;
        quiet().await;
        alerts.tell(&event("two")).await;
        assert_eq!(&*receiver.got(2).await[1], "two");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_gone_is_told_nothing_until_a_reload() {
    let (alerts, receiver) = alerts(&[410]);
    beside(&alerts, async {
        alerts.tell(&event("one")).await;
        receiver.got(1).await;
        quiet().await;
        alerts.tell(&event("two")).await;
        quiet().await;
        assert_eq!(receiver.got.lock().len(), 1);
        let kinds: Vec<State> = states(&alerts).await.into_iter().map(|(_, state, _)| state).collect();
        assert_eq!(kinds, [State::Dead, State::Waiting]);
        alerts.follow(vec![endpoint("a", Vec::new())]);
        assert_eq!(&*receiver.got(2).await[1], "two");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn everybody_is_told_what_they_want_and_nothing_else() {
    let (alerts, receiver) = alerts(&[]);
    alerts.follow(vec![
        endpoint("all", Vec::new()),
        endpoint("keys", vec![EventKind::KeyExpiring]),
        endpoint("money", vec![EventKind::BudgetExhausted]),
    ]);
    assert!(alerts.wants(EventKind::ProviderRecovered));
    beside(&alerts, async {
        alerts.tell(&event("one")).await;
        receiver.got(2).await;
        quiet().await;
    })
    .await;
    let mut told: Vec<Box<str>> = receiver.got.lock().iter().map(|(shown, _)| shown.clone()).collect();
    told.sort();
    assert_eq!(told, ["all".into(), Box::<str>::from("keys")]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_can_be_made_anew() {
    let (alerts, receiver) = alerts(&[410]);
    beside(&alerts, async {
        alerts.tell(&event("one")).await;
        receiver.got(1).await;
        quiet().await;
        alerts.follow(vec![endpoint("a", Vec::new())]);
        let (row, shown) =
            alerts.list(Query { limit: 1, ..Query::default() }).await.expect("a list").remove(0);
        assert_eq!((row.state, shown.as_deref()), (State::Dead, Some("a")));
        let (row, _) = alerts.again(&row.id).await.expect("an outbox").expect("a delivery");
        assert_eq!((row.state, row.attempts), (State::Waiting, 0));
        receiver.got(2).await;
        quiet().await;
        assert_eq!(states(&alerts).await[0].1, State::Delivered);
        assert_eq!(alerts.again("dlv_nobody").await.expect("an outbox"), None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_delivers_is_left_to_them_until_their_lease_ends() {
    let (alerts, receiver) = alerts(&[]);
    alerts.tell(&event("one")).await;
    let id = Arc::clone(&alerts.endpoints()[0].id);
    let claimed = alerts.outbox.claim(&id, now(), LEASE).await.expect("an outbox");
    assert!(matches!(claimed, Claim::Due(_)));
    beside(&alerts, async {
        quiet().await;
        assert_eq!(receiver.got.lock().len(), 0);
        CLOCK.fetch_add(61, Ordering::Relaxed);
        alerts.bell.notify_one();
        receiver.got(1).await;
    })
    .await;
}
