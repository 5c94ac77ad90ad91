use std::time::SystemTime;

use penstock_domain::{Code, Error, RequestId};

use super::keeper::TOGETHER;
use super::*;
use crate::store::{Filter, MemoryRecords, Page};
use crate::{Outcome, Timings, names};

pub(crate) fn record() -> Record {
    Record {
        id: RequestId::new("req_test"),
        at: SystemTime::now(),
        task: Some(penstock_domain::Task::Chat),
        stream: true,
        dialect: None,
        asked: None,
        tags: penstock_domain::Tags::default(),
        key: None,
        team: None,
        model: Some("large".into()),
        provider: Some("vendor".into()),
        upstream_model: None,
        version: None,
        attempts: 1,
        tries: Box::new([crate::Attempt::new("vendor", "vendor-large", "ok", Duration::from_millis(10))]),
        considered: Box::default(),
        estimated: false,
        cost: penstock_domain::Cost::Unknown,
        usage: Some(penstock_domain::Usage { input: 5, output: 3, ..Default::default() }),
        finish: None,
        duration: Duration::from_millis(30),
        first_token: Some(Duration::from_millis(10)),
        gaps: None,
        timings: Timings::default(),
        outcome: Outcome::Complete,
        content: None,
    }
}

#[tokio::test]
async fn every_record_is_counted_before_the_tally_ends() {
    let metrics = Arc::new(Metrics::new("1.2.3"));
    let (sink, tally) = Sink::new(Arc::clone(&metrics));
    for _ in 0..3 {
        sink.begin();
        sink.end(record());
    }
    drop(sink);
    tally.run().await;
    let text = metrics.text();
    let counted = r#"penstock_requests_total{operation="chat",model="large",provider="vendor",code="ok"} 3"#;
    assert!(text.contains(counted), "{text}");
    assert!(text.contains("penstock_requests_in_flight 0"), "{text}");
    assert!(text.contains(r#"penstock_upstream_calls_total{provider="vendor"} 3"#), "{text}");
    for name in [names::TIME_TO_FIRST_TOKEN, names::TIME_PER_OUTPUT_TOKEN, names::TOKEN_USAGE] {
        assert!(text.contains(&format!("{name}_count")), "{name} is missing: {text}");
    }
}

#[test]
fn a_full_queue_drops_records_and_counts_them_instead_of_waiting() {
    let metrics = Arc::new(Metrics::new("1.2.3"));
    let (sink, _tally) = Sink::new(Arc::clone(&metrics));
    for _ in 0..QUEUE + 2 {
        sink.begin();
        sink.end(record());
    }
    assert!(metrics.text().contains("penstock_records_dropped_total 2"));
}

fn numbered(number: usize) -> Record {
    Record { id: RequestId::new(format!("req_{number}")), ..record() }
}

fn full_disk() -> Error {
    Error::new(Code::StoreUnavailable, "the disk is full")
}

/// A sink whose records are kept in memory, with its tally at work.
fn kept() -> (Arc<Sink>, Arc<MemoryRecords>, Arc<Metrics>, tokio::task::JoinHandle<()>) {
    let metrics = Arc::new(Metrics::new("1.2.3"));
    let (sink, tally) = Sink::new(Arc::clone(&metrics));
    let store = Arc::new(MemoryRecords::default());
    let tally = tally.keeping(Arc::clone(&store) as Arc<dyn RecordStore>);
    (sink, store, metrics, tokio::spawn(tally.run()))
}

async fn ids(store: &MemoryRecords) -> Vec<String> {
    let found = store.search(&Filter::default(), Page { after: None, limit: usize::MAX }).await.unwrap();
    found.entries.iter().rev().map(|entry| entry.record.id.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_record_is_kept_soon_after_its_end() {
    let (sink, store, ..) = kept();
    for number in 0..3 {
        let clock = tokio::time::Instant::now();
        sink.end(numbered(number));
        while store.one(&format!("req_{number}")).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(clock.elapsed() <= TOGETHER + PAUSE + Duration::from_millis(2), "{:?}", clock.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_loses_nothing_and_gets_everything_in_order_when_it_works_again() {
    let (sink, store, metrics, _task) = kept();
    sink.end(numbered(0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.fail(Some(full_disk()));
    for number in 1..1_300 {
        sink.end(numbered(number));
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(metrics.text().contains("penstock_records_waiting 1299"), "{}", metrics.text());
    assert!(metrics.text().contains(r#"code="ok"} 1300"#), "counting goes on");
    store.fail(None);
    // Nothing new arrives: the store is tried again all the same.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ids(&store).await, (0..1_300).map(|number| format!("req_{number}")).collect::<Vec<_>>());
    let text = metrics.text();
    assert!(text.contains("penstock_records_waiting 0") && text.contains("penstock_records_lost_total 0"));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_failing_store_is_bounded_and_what_is_lost_is_counted() {
    let (sink, store, metrics, task) = kept();
    store.fail(Some(full_disk()));
    for round in 0..3 {
        for number in 0..8 * 1_024 {
            sink.end(numbered(round * 8_192 + number));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(metrics.text().contains("penstock_records_waiting 16384"));
    assert!(metrics.text().contains("penstock_records_lost_total 8192"), "{}", metrics.text());
    assert!(metrics.text().contains("penstock_records_dropped_total 0"));
    store.fail(None);
    drop(sink);
    task.await.unwrap();
    assert_eq!(ids(&store).await.len(), 16_384);
}

#[tokio::test(start_paused = true)]
async fn records_that_can_never_be_stored_do_not_hold_up_the_others() {
    let (sink, store, metrics, _task) = kept();
    store.fail(Some(Error::new(Code::InternalError, "a column is too small")));
    sink.end(numbered(0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.fail(None);
    sink.end(numbered(1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ids(&store).await, ["req_1"]);
    assert!(metrics.text().contains("penstock_records_lost_total 1"));
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_the_store_and_counts_what_it_never_took() {
    let (sink, store, metrics, task) = kept();
    store.fail(Some(full_disk()));
    sink.end(numbered(0));
    drop(sink);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!task.is_finished(), "there is one left");
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(metrics.text().contains("penstock_records_lost_total 1"));
}

#[tokio::test(start_paused = true)]
async fn waiting_content_is_bounded_and_makes_room_when_it_is_stored() {
    let (sink, store, metrics, _task) = kept();
    let large = |number| {
        let content = crate::Captured {
            request: vec![b'x'; 256 << 10].into(),
            request_cut: false,
            answer: vec![b'y'; 256 << 10].into(),
            form: crate::Form::Text,
            answer_cut: false,
            retention: Duration::from_secs(60),
        };
        Record { content: Some(Box::new(content)), ..numbered(number) }
    };
    store.fail(Some(full_disk()));
    for number in 0..70 {
        sink.end(large(number));
    }
    // 32 MiB are 64 of them.
    assert!(metrics.text().contains("penstock_record_content_dropped_total 6"), "{}", metrics.text());
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.fail(None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let has = async |id| store.one(id).await.unwrap().unwrap().record.content.is_some();
    assert!(has("req_63").await && !has("req_64").await, "the record itself is kept");
    sink.end(large(70));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(has("req_70").await);
}

#[tokio::test(start_paused = true)]
async fn nobody_who_watches_sees_content_and_nobody_watching_costs_nothing() {
    let metrics = Arc::new(Metrics::new("1.2.3"));
    let (sink, tally) = Sink::new(metrics);
    let tail = tally.tail();
    tokio::spawn(tally.run());
    let mut watcher = tail.watch().unwrap();
    sink.end(numbered(0));
    let entry = watcher.recv().await.unwrap();
    assert_eq!(entry.record.id.as_str(), "req_0");
    assert!(entry.record.content.is_none());
    tail.close();
    assert!(watcher.recv().await.is_err());
    assert_eq!(tail.watch().err(), Some(crate::Unwatched::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_an_asker_chose_is_kept_to_a_bounded_length() {
    let (sink, store, ..) = kept();
    let name = |length: usize| Some(Arc::from("ü".repeat(length)));
    sink.end(Record { asked: name(10_000_000), version: name(128), ..numbered(0) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let record = store.one("req_0").await.unwrap().unwrap().record;
    assert_eq!((record.asked, record.version), (name(128), name(128)));
}
