//! Records over HTTP.

use axum::body::BodyDataStream;
use futures_util::StreamExt;
use penstock_domain::{Cost, Dialect, Money, Stage, Task, Usage};
use penstock_observe::store::ended;
use penstock_observe::{Attempt, Captured, Form, Gaps, Outcome, Record, Recorder, Timings};

use super::*;

/// A record that ended half an hour before the tests' now.
pub(super) fn record(id: &str) -> Record {
    let mut timings = Timings::default();
    timings.add(Stage::Call, Duration::from_micros(7_250));
    Record {
        id: RequestId::new(id),
        at: now() - Duration::from_secs(1_800),
        task: Some(Task::Chat),
        stream: true,
        dialect: Some(Dialect::OpenAi),
        asked: Some("large".into()),
        tags: [("app", "shop & co")].into_iter().collect(),
        key: Some("key_a".into()),
        team: Some("support".into()),
        model: Some("large".into()),
        provider: Some("vendor".into()),
        upstream_model: Some("gpt-5".into()),
        version: None,
        attempts: 1,
        tries: Box::new([Attempt::new("vendor", "gpt-5", "ok", Duration::from_millis(7))]),
        considered: Box::default(),
        usage: Some(Usage { input: 100, output: 20, cached_input: Some(80), ..Usage::default() }),
        estimated: false,
        cost: Cost::Known(Money::from_micros(1_234)),
        finish: None,
        duration: Duration::from_micros(9_500),
        first_token: Some(Duration::from_millis(8)),
        gaps: None,
        timings,
        outcome: Outcome::Complete,
        content: None,
    }
}

fn captured() -> Option<Box<Captured>> {
    Some(Box::new(Captured {
        request: (&b"what was asked"[..]).into(),
        request_cut: false,
        answer: (&b"what was said \xff"[..]).into(),
        form: Form::Body(Dialect::OpenAi),
        answer_cut: true,
        retention: Duration::from_secs(60),
    }))
}

async fn reader(house: &House) -> Secret {
    house.mint("reader", &["admin:read"]).await.key
}

fn ids(body: &Value) -> Vec<&str> {
    body["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_record_is_shown_with_everything_but_what_was_said() {
    let house = House::new();
    let key = reader(&house).await;
    let mut gaps = Gaps::default();
    gaps.add(Duration::from_millis(4));
    let refused = Record {
        outcome: Outcome::Failed(
            Error::new(Code::UpstreamStreamCut, "the stream broke").at(Stage::Reply).with_param("model"),
        ),
        gaps: Some(Box::new(gaps)),
        content: captured(),
        ..record("req_a")
    };
    house.records.append(&[refused]).await.unwrap();
    let (status, body) = house.ask(&key, "GET", "/admin/v1/requests/req_a", Value::Null).await;
    assert_eq!(status, 200);
    for (pointer, wanted) in [
        ("/at", json!("2027-01-15T07:30:00Z")),
        ("/ended", json!("2027-01-15T07:30:00.0095Z")),
        ("/status", json!("failed")),
        ("/code", json!("upstream_stream_cut")),
        ("/tags", json!({"app": "shop & co"})),
        ("/tokens/cached_input", json!(80)),
        ("/tokens/reasoning", Value::Null),
        ("/cost", json!({"state": "known", "micro_usd": 1_234, "usd": "0.001234"})),
        ("/stages", json!([{"stage": "call", "ms": 7.25}])),
        ("/tries/0", json!({"provider": "vendor", "model": "gpt-5", "code": "ok", "ms": 7.0})),
        ("/gaps/max_ms", json!(4.0)),
        ("/error/docs", json!("/docs/errors/upstream_stream_cut")),
        ("/error/stage", json!("reply")),
        ("/captured", json!(true)),
        ("/content", Value::Null),
    ] {
        assert_eq!(body.pointer(pointer), Some(&wanted), "{pointer}: {body:#}");
    }
    let schema = &components()["RequestRecord"]["required"];
    for name in schema.as_array().unwrap() {
        assert!(body.get(name.as_str().unwrap()).is_some(), "{name} is promised");
    }
    let (_, listed) = house.ask(&key, "GET", "/admin/v1/requests", Value::Null).await;
    assert!(!listed.to_string().contains("what was"), "a list never holds content");
    let (status, problem) = house.ask(&key, "GET", "/admin/v1/requests/req_b", Value::Null).await;
    assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("not_found")));
}

#[tokio::test]
async fn what_was_said_needs_a_scope_of_its_own() {
    let house = House::new();
    house.records.append(&[Record { content: captured(), ..record("req_a") }]).await.unwrap();
    let both = house.mint("both", &["admin:read", "admin:content"]).await.key;
    let content = house.mint("content", &["admin:content"]).await.key;
    let path = "/admin/v1/requests/req_a";
    let (_, body) = house.ask(&both, "GET", path, Value::Null).await;
    assert_eq!(body["content"]["request"], "what was asked");
    assert_eq!(body["content"]["answer"], "what was said \u{fffd}");
    assert_eq!((&body["content"]["form"], &body["content"]["dialect"]), (&json!("body"), &json!("openai")));
    let (status, _) = house.ask(&content, "GET", path, Value::Null).await;
    assert_eq!(status, 403, "it is no way to the records themselves");
}

#[tokio::test]
async fn records_are_searched_page_by_page() {
    let house = House::new();
    let key = reader(&house).await;
    let other = Record { key: Some("key_b".into()), outcome: Outcome::Cancelled, ..record("req_other") };
    house.records.append(&[record("req_1"), other, record("req_2"), record("req_3")]).await.unwrap();
    let ask = async |query: &str| {
        house.ask(&key, "GET", &format!("/admin/v1/requests?{query}"), Value::Null).await.1
    };
    let first = ask("key=key_a&limit=2").await;
    assert_eq!((ids(&first), &first["has_more"]), (vec!["req_3", "req_2"], &json!(true)));
    let next = format!("key=key_a&limit=2&after={}", first["next"].as_str().unwrap());
    let second = ask(&next).await;
    assert_eq!(
        (ids(&second), &second["has_more"], &second["next"]),
        (vec!["req_1"], &json!(false), &Value::Null)
    );
    for (query, wanted) in [
        ("status=cancelled", vec!["req_other"]),
        ("code=cancelled&team=support&model=large&provider=vendor", vec!["req_other"]),
        ("tag=app%3Ashop+%26%20co&limit=1", vec!["req_3"]),
        ("tag=app:shop", vec![]),
        ("since=31m&until=29m", vec!["req_3", "req_2", "req_other", "req_1"]),
        ("since=29m", vec![]),
        ("until=2027-01-15T07:30:00Z", vec![]),
        ("since=2027-01-15T08:29:59%2B01:00&limit=1", vec!["req_3"]),
    ] {
        assert_eq!(ids(&ask(query).await), wanted, "{query}");
    }
}

#[tokio::test]
async fn every_mistake_in_a_query_is_named_at_once() {
    let house = House::new();
    let key = reader(&house).await;
    for (query, wanted) in [
        (
            "requests?limit=0&status=good&since=yesterday&tag=app&color=red",
            vec!["limit", "since", "status", "tag", "color"],
        ),
        ("requests?limit=1001", vec!["limit"]),
        ("requests?after=x", vec!["after"]),
        ("requests?key=", vec!["key"]),
        ("requests?key=a&key=b", vec!["key"]),
        ("requests?since=1h&until=2h", vec!["since"]),
        ("requests/tail?since=1h", vec!["since"]),
        ("usage?by=color", vec!["by"]),
        ("usage?by=tag", vec!["tag"]),
        ("usage?by=key&tag=app", vec!["tag"]),
        ("usage?since=401d", vec!["since"]),
        ("usage?since=1h&until=2h", vec!["since"]),
    ] {
        let (status, problem) = house.ask(&key, "GET", &format!("/admin/v1/{query}"), Value::Null).await;
        assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("invalid_value")), "{query}");
        assert_eq!(members(&problem), wanted, "{query}");
    }
    let long = format!("/admin/v1/requests?key={}", "x".repeat(5_000));
    assert_eq!(house.ask(&key, "GET", &long, Value::Null).await.0, 400);
}

#[tokio::test]
async fn usage_shows_what_is_unknown_and_estimated_apart() {
    let house = House::new();
    let minted = house.mint("reader", &["admin:read"]).await;
    let mine: Option<Arc<str>> = Some(minted.record.id.as_str().into());
    let unknown = Record { cost: Cost::Unknown, key: mine.clone(), ..record("req_b") };
    let guessed = Record { estimated: true, key: mine, ..record("req_c") };
    let refused = Record { key: None, usage: None, cost: Cost::None, ..record("req_d") };
    house.records.append(&[record("req_a"), unknown, guessed, refused]).await.unwrap();
    let ask = async |query: &str| {
        house.ask(&minted.key, "GET", &format!("/admin/v1/usage?{query}"), Value::Null).await.1
    };
    let report = ask("by=key&since=1h").await;
    let total = &report["total"];
    assert_eq!(
        (&report["since"], &report["until"]),
        (&json!("2027-01-15T07:00:00Z"), &json!("2027-01-15T08:00:00Z"))
    );
    assert_eq!(total["requests"], 4);
    assert_eq!(total["tokens"]["input"], 300);
    assert_eq!(total["cost"], json!({"micro_usd": 2_468, "usd": "0.002468"}));
    assert_eq!(total["unknown_cost"]["requests"], 1);
    assert_eq!(total["estimated"], json!({"requests": 1, "input": 100, "output": 20}));
    let rows = report["data"].as_array().unwrap();
    let by_key: Vec<_> = rows.iter().map(|row| (&row["group"], &row["name"], &row["requests"])).collect();
    assert_eq!(by_key[0], (&json!(minted.record.id.as_str()), &json!("reader"), &json!(2)));
    assert_eq!(
        by_key[1..],
        [(&Value::Null, &Value::Null, &json!(1)), (&json!("key_a"), &Value::Null, &json!(1))]
    );
    for (by, group) in [
        ("model", "large"),
        ("team", "support"),
        ("tag&tag=app", "shop & co"),
        ("hour", "2027-01-15T07:00:00Z"),
    ] {
        let report = ask(&format!("by={by}")).await;
        assert_eq!(
            (&report["data"][0]["group"], &report["data"][0]["requests"]),
            (&json!(group), &json!(4)),
            "{by}"
        );
        assert_eq!(&report["total"], total, "{by}");
        assert_eq!(report["truncated"], false);
    }
}

/// The body of a tail as events.
struct Events(BodyDataStream);

impl Events {
    async fn open(house: &House, key: &Secret, query: &str) -> Self {
        let uri = format!("/admin/v1/requests/tail{query}");
        let request =
            Request::builder().uri(uri).header("x-api-key", key.expose()).body(Body::empty()).unwrap();
        let response = house.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = Self(response.into_body().into_data_stream());
        assert_eq!(events.next().await, Some(": watching\n\n".to_owned()));
        events
    }

    async fn next(&mut self) -> Option<String> {
        let part = self.0.next().await?;
        Some(String::from_utf8(part.unwrap().to_vec()).unwrap())
    }
}

impl House {
    fn end(&self, record: Record) {
        self.sink.begin();
        self.sink.end(record);
    }

    fn count(&self) {
        let tally = self.tally.lock().unwrap().take().unwrap();
        tokio::spawn(tally.run());
    }
}

#[tokio::test(start_paused = true)]
async fn a_tail_shows_what_fits_as_it_ends_and_says_why_it_stops() {
    let house = House::new();
    house.count();
    let key = reader(&house).await;
    let mut events = Events::open(&house, &key, "?key=key_b").await;
    house.end(record("req_a"));
    house.end(Record { key: Some("key_b".into()), content: captured(), ..record("req_b") });
    let event = events.next().await.unwrap();
    assert!(event.starts_with("event: request\ndata: {\"id\":\"req_b\""), "{event}");
    assert!(event.ends_with("}\n\n") && !event.contains("what was"), "{event}");
    assert_eq!(events.next().await.unwrap(), ": watching\n\n", "silence is broken");
    house.tail.close();
    let last = events.next().await.unwrap();
    assert!(last.starts_with("event: end\ndata: {\"reason\":\"shutdown\""), "{last}");
    assert_eq!(events.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_told_how_much_it_missed_and_dropped() {
    let house = House::new();
    house.count();
    let key = reader(&house).await;
    let mut slow = Events::open(&house, &key, "").await;
    for number in 0..1_500 {
        house.end(record(&format!("req_{number}")));
    }
    while house.records.one("req_1499").await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let last = slow.next().await.unwrap();
    assert!(last.starts_with("event: end\ndata: {\"reason\":\"slow\""), "{last}");
    assert!(last.contains("\"missed\":476"), "{last}");
    assert_eq!(slow.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_tail_ends_when_its_key_is_revoked_and_only_so_many_are_open() {
    let house = House::new();
    house.count();
    let minted = house.mint("reader", &["admin:read"]).await;
    let mut events = Events::open(&house, &minted.key, "").await;
    let others = async || Events::open(&house, &minted.key, "").await;
    let mut open = Vec::new();
    for _ in 1..32 {
        open.push(others().await);
    }
    let (status, problem) = house.ask(&minted.key, "GET", "/admin/v1/requests/tail", Value::Null).await;
    assert_eq!((status.as_u16(), &problem["code"]), (429, &json!("concurrency_limit_exceeded")));
    open.pop();
    drop(others().await);
    house.keys.revoke(minted.record.id.as_str(), now()).await.unwrap();
    let last = events.next().await.unwrap();
    assert!(last.contains("\"reason\":\"invalid_api_key\""), "{last}");
    assert_eq!(events.next().await, None);
}

#[test]
fn a_record_ends_when_it_arrived_and_took() {
    assert_eq!(ended(&record("req_a")), 1_799_998_200_009_500);
}
