use std::time::SystemTime;

use penstock_domain::RequestId;

use super::*;
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
        tries: Box::default(),
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
