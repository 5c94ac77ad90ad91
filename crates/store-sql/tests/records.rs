//! The contract of [`RecordStore`], executed against the store in memory and both of this crate.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

mod homes;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_domain::{Code, Cost, Dialect, Error, FinishReason, Money, RequestId, Stage, Task, Usage};
use penstock_observe::store::{
    By, Filter, Found, Group, Hours, MAX_COST, MAX_TOKENS, MemoryRecords, Page, Pauses, Report, Status, Sums,
};
use penstock_observe::{
    Attempt, Captured, Considered, Entry, Form, Gaps, Outcome, Record, RecordStore, Timings,
};
use penstock_store_sql::{RECORDS_FILE, SqlRecords};

use homes::Home;

/// An hour's beginning.
const NOON: u64 = 1_800_000_000;

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOON) + Duration::from_millis(millis)
}

fn plain(id: &str, millis: u64) -> Record {
    Record {
        id: RequestId::new(id),
        at: at(millis),
        task: None,
        stream: false,
        dialect: None,
        asked: None,
        tags: penstock_domain::Tags::default(),
        key: None,
        team: None,
        model: None,
        provider: None,
        upstream_model: None,
        version: None,
        attempts: 0,
        tries: Box::default(),
        considered: Box::default(),
        usage: None,
        estimated: false,
        cost: Cost::None,
        finish: None,
        duration: Duration::ZERO,
        first_token: None,
        gaps: None,
        timings: Timings::default(),
        outcome: Outcome::Complete,
        content: None,
    }
}

fn full(id: &str, millis: u64) -> Record {
    let mut gaps = Gaps::default();
    [900, 1_000, 40_000].into_iter().for_each(|micros| gaps.add(Duration::from_micros(micros)));
    let mut timings = Timings::default();
    timings.add(Stage::Decode, Duration::from_micros(52));
    timings.add(Stage::Call, Duration::from_micros(13_200));
    let attempt = |provider: &str, code| {
        Attempt::new(provider, "vendor/model \"x\"", code, Duration::from_micros(7_001))
    };
    let guess = Usage { input: 900, output: 0, cache_write: Some(3), ..Usage::default() };
    let considered = |provider: &str, verdict: &'static str| Considered {
        provider: provider.into(),
        credential: 1,
        model: "vendor/model".into(),
        verdict: verdict.into(),
    };
    Record {
        task: Some(Task::Chat),
        stream: true,
        dialect: Some(Dialect::Anthropic),
        asked: Some("large'; DROP TABLE records; --".into()),
        tags: [("app", "shop"), ("key", "a \"quoted\" 🦀")].into_iter().collect(),
        key: Some("key_one".into()),
        team: Some("support".into()),
        model: Some("large".into()),
        provider: Some("two".into()),
        upstream_model: Some("vendor/model".into()),
        version: Some("model-2027-01-01".into()),
        attempts: 2,
        tries: Box::new([
            Attempt {
                usage: Some(guess),
                estimated: true,
                cost: Cost::Unknown,
                ..attempt("one", "upstream_timeout")
            },
            Attempt {
                credential: 1,
                why: "failover",
                cost: Cost::Known(Money::from_micros(1_234)),
                ..attempt("two", "ok")
            },
        ]),
        considered: Box::new([considered("one", "tried"), considered("three", "cooling")]),
        usage: Some(Usage {
            input: 1_000,
            output: 50,
            cached_input: Some(900),
            cache_write: Some(20),
            cache_write_hour: Some(5),
            reasoning: Some(0),
            doubtful: false,
        }),
        estimated: true,
        cost: Cost::Known(Money::from_micros(1_234)),
        finish: Some(FinishReason::ToolCalls),
        duration: Duration::from_micros(15_000),
        first_token: Some(Duration::from_micros(13_300)),
        gaps: Some(Box::new(gaps)),
        timings,
        outcome: Outcome::Failed(
            Error::new(Code::UpstreamStreamCut, "the stream broke")
                .with_param("messages[0]")
                .at(Stage::Reply),
        ),
        content: Some(Box::new(Captured {
            request: (&b"{\"q\":\"what was asked\"}"[..]).into(),
            request_cut: false,
            answer: (&b"event: x\n\n\xff"[..]).into(),
            form: Form::Events(Dialect::Anthropic),
            answer_cut: true,
            retention: Duration::from_secs(3_600),
        })),
        ..plain(id, millis)
    }
}

/// A store and what to call it.
type Named = (&'static str, Arc<dyn RecordStore>);

/// Every store, empty, with what keeps their places.
fn stores() -> ([Home; 2], [Named; 3]) {
    let homes = Home::each();
    let [files, postgres] = homes.each_ref().map(|home| (home.name(), home.records()));
    (homes, [("memory", Arc::new(MemoryRecords::default())), files, postgres])
}

async fn page(store: &dyn RecordStore, filter: &Filter, after: Option<u64>, limit: usize) -> Found {
    store.search(filter, Page { after, limit }).await.expect("searched")
}

/// Every record that fits, page by page, newest first.
async fn all(store: &dyn RecordStore, filter: &Filter, limit: usize) -> Vec<Entry> {
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let found = page(store, filter, after, limit).await;
        assert!(found.entries.len() <= limit);
        entries.extend(found.entries);
        after = found.next;
        if after.is_none() {
            return entries;
        }
    }
}

fn ids(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.record.id.as_str()).collect()
}

async fn usage(store: &dyn RecordStore, by: By) -> Report {
    store.usage(&by, Hours::around(at(0), at(24 * 3_600_000))).await.expect("added up")
}

fn named(name: &str) -> Group {
    Group::Named(name.into())
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_with_its_content_and_the_figures_of_its_pauses() {
    let (_dir, stores) = stores();
    for (name, store) in &stores {
        let (bare, rich) = (plain("req_bare", 0), full("req_rich", 1));
        store.append(&[bare.clone(), rich.clone()]).await.expect("kept");
        assert!(store.one("req_nobody").await.expect("asked").is_none(), "{name}");
        for kept in [bare, rich] {
            let entry = store.one(kept.id.as_str()).await.expect("asked").expect("there");
            assert_eq!(entry.pauses, kept.gaps.as_deref().map(Pauses::from), "{name}");
            let wanted = Record { gaps: None, ..kept };
            assert_eq!(entry.record.content, wanted.content, "{name}");
            // Errors know no equality; what they show is all there is of them.
            assert_eq!(format!("{:?}", entry.record), format!("{wanted:?}"), "{name}");
        }
    }
}

#[tokio::test]
async fn every_word_of_a_record_is_known_again() {
    let (_dir, stores) = stores();
    let tasks = [Task::Chat, Task::Completion, Task::Embedding, Task::CountTokens, Task::Relay];
    let dialects =
        [Dialect::OpenAi, Dialect::Responses, Dialect::Anthropic, Dialect::Gemini, Dialect::Bedrock];
    let finishes =
        [FinishReason::Stop, FinishReason::Length, FinishReason::ToolCalls, FinishReason::ContentFilter];
    let errors = Code::ALL.iter().map(|code| Outcome::Refused(Error::new(*code, "no")));
    for (number, outcome) in errors.chain([Outcome::Complete, Outcome::Cancelled]).enumerate() {
        let mut timings = Timings::default();
        timings.add(Stage::ALL[number % Stage::ALL.len()], Duration::from_micros(7));
        let record = Record {
            task: Some(tasks[number % tasks.len()]),
            dialect: Some(dialects[number % dialects.len()]),
            finish: Some(finishes[number % finishes.len()]),
            timings,
            outcome,
            ..plain(&format!("req_{number}"), 0)
        };
        for (name, store) in &stores {
            store.append(std::slice::from_ref(&record)).await.expect("kept");
            let entry = store.one(record.id.as_str()).await.expect("asked").expect("there");
            assert_eq!(format!("{:?}", entry.record), format!("{record:?}"), "{name}");
        }
    }
}

#[tokio::test]
async fn pages_go_from_the_newest_to_the_oldest_and_stay_as_they_were_while_records_arrive() {
    let (_dir, stores) = stores();
    for (name, store) in &stores {
        let records: Vec<_> = (0..7).map(|n| plain(&format!("req_{n}"), n / 3)).collect();
        store.append(&records).await.expect("kept");
        let everything = Filter::default();
        let first = page(store.as_ref(), &everything, None, 3).await;
        assert_eq!(ids(&first.entries), ["req_6", "req_5", "req_4"], "{name}");
        assert!(first.entries.iter().all(|entry| entry.record.content.is_none()));
        store.append(&[plain("req_new", 9), plain("req_late", 0)]).await.expect("kept");
        let second = page(store.as_ref(), &everything, first.next, 3).await;
        assert_eq!(ids(&second.entries), ["req_3", "req_2", "req_1"], "{name}");
        let last = page(store.as_ref(), &everything, second.next, 3).await;
        assert_eq!((ids(&last.entries), last.next), (vec!["req_0"], None), "{name}");
        let newest = page(store.as_ref(), &everything, None, 2).await;
        assert_eq!(
            ids(&newest.entries),
            ["req_late", "req_new"],
            "{name}: in the order of their arrival here"
        );
    }
}

#[tokio::test]
async fn a_filter_lets_through_what_fits_all_of_it() {
    let (_dir, stores) = stores();
    let text = |text: &str| Some(Box::<str>::from(text));
    let tag = |name: &str, value: &str| Some((name.into(), value.into()));
    let none = Filter::default();
    let cases = [
        (Filter { key: text("key_one"), ..none.clone() }, vec!["req_c", "req_b"]),
        (Filter { key: text("key_two"), ..none.clone() }, vec![]),
        (Filter { team: text("support"), model: text("large"), ..none.clone() }, vec!["req_c", "req_b"]),
        (Filter { provider: text("two"), code: text("ok"), ..none.clone() }, vec!["req_c"]),
        (Filter { code: text("upstream_stream_cut"), ..none.clone() }, vec!["req_b"]),
        (Filter { status: Some(Status::Failed), ..none.clone() }, vec!["req_b"]),
        (Filter { status: Some(Status::Ok), ..none.clone() }, vec!["req_c", "req_a"]),
        (Filter { status: Some(Status::Refused), ..none.clone() }, vec![]),
        (Filter { tag: tag("app", "shop"), ..none.clone() }, vec!["req_c", "req_b"]),
        (Filter { tag: tag("key", "a \"quoted\" 🦀"), ..none.clone() }, vec!["req_c", "req_b"]),
        (Filter { tag: tag("app", "%"), ..none.clone() }, vec![]),
        (Filter { tag: tag("app' OR '1'='1", "shop"), ..none.clone() }, vec![]),
        (Filter { since: Some(at(1_000)), ..none.clone() }, vec!["req_c", "req_b"]),
        (Filter { until: Some(at(1_000)), ..none.clone() }, vec!["req_a"]),
        (Filter { since: Some(at(1)), until: Some(at(2_000)), ..none.clone() }, vec!["req_b"]),
        (Filter { key: text("x' OR '1'='1"), ..none.clone() }, vec![]),
    ];
    for (name, store) in &stores {
        let c = Record { outcome: Outcome::Complete, ..full("req_c", 2_000) };
        store.append(&[plain("req_a", 0), full("req_b", 1_000), c]).await.expect("kept");
        for (filter, wanted) in &cases {
            assert_eq!(ids(&all(store.as_ref(), filter, 1).await), *wanted, "{name}: {filter:?}");
        }
    }
}

/// A record like those of a busy hour, from a number.
fn random(seed: u64) -> Record {
    // Knuth's multiplicative generator: the test needs variety, not chance.
    let mut state = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let name = |prefix: &str, number: u64| (number > 0).then(|| Arc::from(format!("{prefix}{number}")));
    let part = |number: u64| (number > 3).then_some(number);
    let (input, output) = (draw(5_000), draw(900));
    Record {
        key: name("key_", draw(5)),
        team: name("team", draw(3)),
        model: name("model", draw(4)),
        tags: (0..draw(3)).map(|n| (format!("tag{n}"), draw(3).to_string())).collect(),
        usage: (draw(9) > 0).then(|| Usage {
            input,
            output,
            cached_input: part(draw(9)),
            cache_write: part(draw(9)),
            reasoning: part(draw(9)),
            ..Usage::default()
        }),
        estimated: draw(4) == 0,
        cost: match draw(4) {
            0 => Cost::None,
            1 => Cost::Unknown,
            _ => Cost::Known(Money::from_micros(draw(1 << 30))),
        },
        outcome: match draw(5) {
            0 => Outcome::Cancelled,
            1 => Outcome::Refused(Error::new(Code::RateLimitExceeded, "slow down")),
            _ => Outcome::Complete,
        },
        duration: Duration::from_micros(draw(4 * 3_600_000_000)),
        ..plain(&format!("req_{seed}"), draw(7_200_000))
    }
}

#[tokio::test]
async fn usage_is_exactly_the_sum_of_the_records_whatever_it_is_grouped_by() {
    let (_dir, stores) = stores();
    let mut records: Vec<_> = (0..700).map(random).collect();
    records.sort_by_key(|record| record.at + record.duration);
    let bys = [By::Key, By::Model, By::Team, By::Hour, By::Tag("tag0".into()), By::Tag("tag1".into())];
    for (name, store) in &stores {
        for batch in records.chunks(97) {
            store.append(batch).await.expect("kept");
        }
        let kept = all(store.as_ref(), &Filter::default(), 100).await;
        assert_eq!(kept.len(), records.len(), "{name}");
        for by in &bys {
            let report = usage(store.as_ref(), by.clone()).await;
            let mut sums: std::collections::BTreeMap<Group, Sums> = std::collections::BTreeMap::new();
            for Entry { record, .. } in &kept {
                let text = |text: Option<&str>| text.map_or(Group::None, named);
                let ended = (record.at + record.duration).duration_since(UNIX_EPOCH).expect("after 1970");
                let group = match by {
                    By::Key => text(record.key.as_deref()),
                    By::Model => text(record.model.as_deref()),
                    By::Team => text(record.team.as_deref()),
                    By::Hour => Group::Hour(ended.as_secs() / 3_600),
                    By::Tag(name) => text(record.tags.get(name)),
                };
                let sum = sums.entry(group).or_default();
                *sum = sum.plus(Sums::of(record));
            }
            let total = sums.values().fold(Sums::default(), |all, sum| all.plus(*sum));
            assert_eq!(report.total, total, "{name} by {by:?}");
            assert!(total.unpriced > 0 && total.estimated > 0 && total.cost > 0);
            let mut found = report.rows.clone();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            assert_eq!(found, sums.into_iter().collect::<Vec<_>>(), "{name} by {by:?}");
        }
    }
    let [(_, memory), others @ ..] = &stores;
    for (name, other) in others {
        for by in &bys {
            let (one, other) =
                (usage(memory.as_ref(), by.clone()).await, usage(other.as_ref(), by.clone()).await);
            assert_eq!(one.rows, other.rows, "the same order, {name} by {by:?}");
        }
    }
}

#[tokio::test]
async fn numbers_that_no_vendor_should_send_do_not_spoil_the_sums() {
    let (_dir, stores) = stores();
    for (name, store) in &stores {
        let absurd =
            Usage { input: u64::MAX, output: u64::MAX, reasoning: Some(u64::MAX), ..Usage::default() };
        let record = |id: &str| Record { usage: Some(absurd), cost: Cost::Known(Money::MAX), ..plain(id, 0) };
        store.append(&[record("req_a"), record("req_b")]).await.expect("kept");
        store.append(&[record("req_c")]).await.expect("kept");
        let total = usage(store.as_ref(), By::Hour).await.total;
        assert_eq!((total.input, total.cost), (3 * MAX_TOKENS, 3 * MAX_COST.micros()), "{name}");
        assert_eq!(usage(store.as_ref(), By::Tag("none".into())).await.total, total, "{name}");
    }
}

#[tokio::test]
async fn old_records_and_contents_whose_time_is_over_go_and_sums_stay() {
    let (_dir, stores) = stores();
    for (name, store) in &stores {
        let records = [full("req_old", 0), full("req_read", 5_000), full("req_new", 3_600_000)];
        store.append(&records).await.expect("kept");
        let before = usage(store.as_ref(), By::Key).await;
        // An hour and two seconds later: the first is too old, the content of the second is over.
        while store.expire(at(1_000), at(3_607_000)).await.expect("expired") {}
        let left = all(store.as_ref(), &Filter::default(), 10).await;
        assert_eq!(ids(&left), ["req_new", "req_read"], "{name}");
        let content = async |id| store.one(id).await.expect("asked").expect("there").record.content.is_some();
        assert!(!content("req_read").await && content("req_new").await, "{name}");
        if *name == "files" {
            assert_eq!(usage(store.as_ref(), By::Key).await, before, "hours outlive their records");
        }
    }
}

#[tokio::test]
async fn many_old_records_go_in_several_steps() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SqlRecords::new(dir.path());
    let records: Vec<_> = (0..1_200).map(|n| plain(&format!("req_{n}"), n)).collect();
    store.append(&records).await.expect("kept");
    assert!(store.expire(at(1_100), at(1_100)).await.expect("expired"), "there is more");
    let left = || async { all(&store, &Filter::default(), 1_000).await.len() };
    assert_eq!(left().await, 700);
    while store.expire(at(1_100), at(1_100)).await.expect("expired") {}
    assert_eq!(left().await, 100);
}

#[tokio::test]
async fn a_filtered_page_looks_at_a_bounded_number_of_records_and_says_where_it_stopped() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SqlRecords::new(dir.path());
    store.append(&[Record { key: Some("key_rare".into()), ..plain("req_first", 0) }]).await.expect("kept");
    let many: Vec<_> = (0..1_000).map(|n| plain("req_x", n)).collect();
    for _ in 0..51 {
        store.append(&many).await.expect("kept");
    }
    let filter = Filter { key: Some("key_rare".into()), ..Filter::default() };
    let first = page(&store, &filter, None, 10).await;
    assert!(first.entries.is_empty() && first.next.is_some(), "nothing yet, but there is more to look at");
    let second = page(&store, &filter, first.next, 10).await;
    assert_eq!((ids(&second.entries), second.next), (vec!["req_first"], None));
}

#[tokio::test]
async fn what_was_captured_is_gone_from_the_file_when_its_time_is_over() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SqlRecords::new(dir.path());
    store.append(&[full("req_a", 0)]).await.expect("kept");
    store.close().await;
    let holds = || {
        let bytes = std::fs::read(dir.path().join(RECORDS_FILE)).expect("readable");
        bytes.windows(14).any(|part| part == b"what was asked")
    };
    assert!(holds());
    while store.expire(at(0), at(3_700_000)).await.expect("expired") {}
    store.close().await;
    assert!(!holds(), "deleted bytes are overwritten");
}

#[tokio::test]
async fn another_process_reads_while_one_writes_and_two_writers_never_take_the_same_place() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (one, other) = (SqlRecords::new(dir.path()), SqlRecords::new(dir.path()));
    let batch = |name: &str| (0..50).map(|n| plain(&format!("req_{name}{n}"), n)).collect::<Vec<_>>();
    let (mine, yours) = (batch("a"), batch("b"));
    let (first, second) = tokio::join!(one.append(&mine), other.append(&yours));
    first.and(second).expect("both kept");
    let reader = SqlRecords::new(dir.path());
    assert_eq!(all(&reader, &Filter::default(), 30).await.len(), 100);
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_its_owners_alone_and_a_damaged_or_newer_one_is_refused_with_a_mend() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SqlRecords::new(dir.path());
    store.append(&[plain("req_a", 0)]).await.expect("kept");
    for name in [RECORDS_FILE, "records.db-wal"] {
        let mode = std::fs::metadata(dir.path().join(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    store.close().await;
    std::fs::write(dir.path().join(RECORDS_FILE), [b'x'; 4_096]).expect("written");
    let error = store.append(&[plain("req_b", 0)]).await.expect_err("damaged");
    assert_eq!(error.code(), Code::StoreUnavailable);
    assert!(error.say().contains("damaged"), "{error}");
    std::fs::remove_file(dir.path().join(RECORDS_FILE)).expect("removed");
    store.append(&[plain("req_c", 0)]).await.expect("it works again by itself");
}
