use std::time::{Duration, SystemTime};

use penstock_domain::{Money, RequestId, Tags, Usage};

use super::*;
use crate::{Attempt, Outcome, Timings};

fn record(cost: Cost, estimated: bool) -> Record {
    let attempt = |provider: &str, code| Attempt::new(provider, "m", code, Duration::from_millis(1));
    Record {
        id: RequestId::new("req_test"),
        at: SystemTime::now(),
        task: Some(Task::Chat),
        stream: false,
        dialect: None,
        asked: None,
        tags: Tags::default(),
        key: None,
        team: None,
        model: Some("large".into()),
        provider: Some("second".into()),
        upstream_model: None,
        version: None,
        attempts: 2,
        tries: Box::new([attempt("first", "upstream_error"), attempt("second", "ok")]),
        considered: Box::default(),
        usage: Some(Usage { input: 5, output: 3, ..Usage::default() }),
        estimated,
        cost,
        finish: None,
        duration: Duration::from_millis(30),
        first_token: None,
        gaps: None,
        timings: Timings::default(),
        outcome: Outcome::Complete,
        content: None,
    }
}

fn told(records: &[Record]) -> impl Fn(&str) -> Option<f64> + use<> {
    let metrics = Metrics::new("1.2.3");
    records.iter().for_each(|record| metrics.record(record));
    let text = metrics.text();
    move |series| {
        let line = text.lines().find(|line| line.split(' ').next() == Some(series))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

const PAID: &str = r#"{model="large",provider="second"}"#;

#[test]
fn costs_add_up_in_dollars_and_unknown_ones_are_counted_apart() {
    let known = |micros| record(Cost::Known(Money::from_micros(micros)), false);
    let value =
        told(&[known(1_234), known(2_000_001), record(Cost::Unknown, false), record(Cost::None, false)]);
    let dollars = value(&format!("penstock_cost_usd_total{PAID}")).unwrap();
    assert!((dollars - 2.001_235).abs() < 1e-12, "{dollars}");
    assert_eq!(value(&format!("penstock_unpriced_requests_total{PAID}")), Some(1.0));
}

#[test]
fn estimated_usage_is_counted_and_shows_although_no_content_was_delivered() {
    let value = told(&[record(Cost::None, true), record(Cost::None, false)]);
    assert_eq!(value(&format!("penstock_estimated_usage_total{PAID}")), Some(1.0));
    let tokens = r#"gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_request_model="large",gen_ai_provider_name="second",gen_ai_token_type="output"}"#;
    assert_eq!(value(tokens), Some(6.0));
}

#[test]
fn every_call_counts_for_the_provider_that_was_called() {
    let value = told(&[record(Cost::None, false)]);
    for provider in ["first", "second"] {
        assert_eq!(value(&format!(r#"penstock_upstream_calls_total{{provider="{provider}"}}"#)), Some(1.0));
    }
}

#[test]
fn calls_are_counted_by_why_they_were_made_and_how_they_ended() {
    let metrics = Metrics::new("1.2.3");
    let attempt = |provider: &str, why, code| Attempt {
        why,
        ..Attempt::new(provider, "m", code, Duration::from_millis(1))
    };
    let tries = Box::new([
        attempt("first", "first", "upstream_error"),
        attempt("second", "failover", "cancelled"),
        attempt("third", "hedge", "ok"),
        attempt("second", "resume", "ok"),
    ]);
    metrics.record(&Record { tries, ..record(Cost::None, false) });
    let text = metrics.text();
    for line in [
        r#"penstock_attempts_total{provider="first",why="first",code="upstream_error"} 1"#,
        r#"penstock_attempts_total{provider="third",why="hedge",code="ok"} 1"#,
        r#"penstock_failovers_total{provider="first"} 1"#,
        r#"penstock_hedges_total{outcome="won"} 1"#,
        r#"penstock_resumes_total{outcome="continued"} 1"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn a_target_is_shown_in_one_state_and_not_at_all_once_it_is_gone() {
    let metrics = Metrics::new("1.2.3");
    let target = |state| {
        std::iter::once(TargetState { provider: "a".into(), credential: 0, model: "m".into(), state })
    };
    let shown = |state| {
        metrics.text().contains(&format!(
            r#"penstock_target_state{{provider="a",credential="0",model="m",state="{state}"}} 1"#
        ))
    };
    metrics.targets(target("healthy"));
    assert!(shown("healthy"));
    metrics.targets(target("ejected"));
    assert!(shown("ejected") && !shown("healthy"));
    metrics.targets(std::iter::empty());
    assert!(!shown("ejected"));
    metrics.ejected("a", 2);
    metrics.ejected("a", 3);
    assert!(metrics.text().contains(r#"penstock_ejections_total{provider="a"} 3"#));
}
