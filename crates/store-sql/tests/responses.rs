//! The contract of [`ResponseStore`], executed against the file and against the version in memory alike; and what the
//! file does to the disk.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

mod homes;

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_conversation::{Chain, MemoryResponses, Owner, Reach, ResponseStore, Tail, Turn};
use penstock_domain::Code;
use penstock_store_sql::SqlResponses;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor};

use homes::Home;

const ALL: Reach = Reach { turns: 100, bytes: 1 << 20 };
const ROOM: u64 = 1 << 20;

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + millis)
}

fn me() -> Owner {
    Owner::team("support'; DROP TABLE responses; --")
}

fn turn(id: &str, previous: Option<&str>, expires: u64) -> Turn {
    Turn {
        id: id.into(),
        owner: me(),
        previous: previous.map(Arc::from),
        created: at(7),
        expires: at(expires),
        response: format!("{{\"id\":\"{id}\",\"output\":\"zebra\"}}").into(),
        input: format!("[\"{id}\"]").into(),
        items: Arc::new([format!("msg_{id}").into(), "shared".into()]),
    }
}

/// As a store gives it back: the ids of items are for finding alone.
fn back(turn: &Turn) -> Turn {
    Turn { items: Arc::new([]), ..turn.clone() }
}

fn ids(chain: &Chain) -> (Vec<&str>, Tail) {
    (chain.turns.iter().map(|turn| &*turn.id).collect(), chain.tail)
}

async fn filled(store: &dyn ResponseStore) {
    for (id, previous, expires) in
        [("a", None, 100), ("b", Some("a"), 200), ("c", Some("b"), 300), ("lone", Some("never"), 300)]
    {
        store.put(turn(id, previous, expires), ROOM).await.expect("kept");
    }
}

async fn contract(store: &dyn ResponseStore) {
    filled(store).await;
    let me = me();
    let chain = async |id: &str, reach: Reach, now: u64| {
        store.chain(&me, id, reach, at(now)).await.expect("readable")
    };
    let whole = chain("c", ALL, 1).await;
    assert_eq!(ids(&whole), (vec!["c", "b", "a"], Tail::Begins));
    assert_eq!(back(&whole.turns[1]), back(&turn("b", Some("a"), 200)), "a turn comes back as it was");
    assert_eq!(ids(&chain("a", Reach::ONE, 1).await), (vec!["a"], Tail::Begins));
    assert_eq!(ids(&chain("c", Reach::ONE, 1).await), (vec!["c"], Tail::More));
    assert_eq!(ids(&chain("nothing", ALL, 1).await), (vec![], Tail::Gone));
    assert_eq!(ids(&chain("lone", ALL, 1).await), (vec!["lone"], Tail::Gone));
    // Bounds: two turns, the bytes of two turns, and one byte less.
    let size = turn("a", None, 0).size();
    assert_eq!(ids(&chain("c", Reach { turns: 2, ..ALL }, 1).await), (vec!["c", "b"], Tail::More));
    let bytes = |bytes| Reach { bytes, ..ALL };
    assert_eq!(ids(&chain("c", bytes(2 * size), 1).await), (vec!["c", "b"], Tail::More));
    assert_eq!(ids(&chain("c", bytes(2 * size - 1), 1).await), (vec!["c"], Tail::More));
    assert_eq!(ids(&chain("c", bytes(0), 1).await), (vec!["c"], Tail::More));
    assert_eq!(ids(&chain("c", bytes(3 * size), 1).await), (vec!["c", "b", "a"], Tail::Begins));
    // An expired turn is gone before it is thrown away.
    assert_eq!(ids(&chain("c", ALL, 100).await), (vec!["c", "b"], Tail::Gone));
    assert_eq!(ids(&chain("a", ALL, 100).await), (vec![], Tail::Gone));

    let other = Owner::key("somebody");
    assert_eq!(ids(&store.chain(&other, "c", ALL, at(1)).await.expect("readable")), (vec![], Tail::Gone));
    assert!(!store.delete(&other, "c", at(1)).await.expect("asked"), "a foreign turn stays");
    let same_id = Turn { owner: other.clone(), previous: None, ..turn("c", None, 300) };
    store.put(same_id, ROOM).await.expect("ids are per owner");
    let taken = store.put(turn("c", None, 300), ROOM).await.expect_err("it is taken");
    assert_eq!(taken.code(), Code::Conflict);

    holds(store, &other).await;
    ends(store, &other).await;
}

async fn holds(store: &dyn ResponseStore, other: &Owner) {
    let me = me();
    let holding = async |owner: &Owner, items: &[&str], reach: Reach, now: u64| {
        let items: Vec<String> = items.iter().map(|item| (*item).to_owned()).collect();
        let turns = store.holding(owner, &items, reach, at(now)).await.expect("readable");
        let mut ids: Vec<String> = turns.iter().map(|turn| turn.id.to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(holding(&me, &["msg_b", "msg_a", "msg_b", "nothing"], ALL, 1).await, ["a", "b"]);
    assert_eq!(holding(&me, &["msg_b", "msg_a"], ALL, 100).await, ["b"]);
    assert_eq!(holding(other, &["msg_b"], ALL, 1).await, Vec::<String>::new());
    assert_eq!(holding(&me, &["shared"], Reach { turns: 2, ..ALL }, 1).await.len(), 2);
    let size = turn("a", None, 0).size();
    assert_eq!(holding(&me, &["msg_a", "msg_b"], Reach { bytes: size, ..ALL }, 1).await.len(), 1);
    assert_eq!(holding(&me, &["\"] UNION SELECT 1 --"], ALL, 1).await, Vec::<String>::new());
}

async fn ends(store: &dyn ResponseStore, other: &Owner) {
    let me = me();
    // What goes makes room: the owner keeps four turns, and may keep five.
    let most = turn("a", None, 0).size() * 4 + turn("lone", None, 0).size();
    store.put(turn("d", None, 300), most).await.expect("the fifth");
    let full = store.put(turn("e", None, 300), most).await.expect_err("the sixth");
    assert_eq!(full.code(), Code::RequestTooLarge);
    assert!(store.delete(&me, "b", at(1)).await.expect("asked"));
    assert!(!store.delete(&me, "b", at(1)).await.expect("asked"), "it was deleted");
    store.put(turn("e", None, 300), most).await.expect("there is room again");
    let left = store.chain(&me, "c", ALL, at(1)).await.expect("readable");
    assert_eq!(ids(&left), (vec!["c"], Tail::Gone));
    let found = store.holding(&me, &["msg_b".into()], ALL, at(1)).await.expect("readable");
    assert!(found.is_empty(), "its items went with it");

    assert!(!store.expire(at(100)).await.expect("swept"));
    assert!(!store.delete(&me, "a", at(0)).await.expect("asked"), "it was thrown away");
    assert!(!store.delete(&me, "c", at(300)).await.expect("asked"), "it had expired");
    assert_eq!(store.chain(other, "c", ALL, at(1)).await.expect("readable").turns.len(), 1);
    while store.expire(at(10_000)).await.expect("swept") {}
    assert!(store.chain(other, "c", ALL, at(1)).await.expect("readable").turns.is_empty());
    store.put(turn("f", None, 300), turn("f", None, 0).size()).await.expect("nothing counts any more");
}

#[tokio::test]
async fn the_file_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    contract(&SqlResponses::new(dir.path())).await;
}

#[tokio::test]
async fn a_real_postgres_keeps_the_contract() {
    contract(&*Home::postgres().open()).await;
}

#[tokio::test]
async fn the_memory_keeps_the_contract() {
    contract(&MemoryResponses::default()).await;
}

#[tokio::test]
async fn a_sweep_of_many_is_taken_in_steps() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SqlResponses::new(dir.path());
    for i in 0..120 {
        store.put(turn(&format!("r{i}"), None, 5), ROOM).await.expect("kept");
    }
    let mut steps = 0;
    while store.expire(at(5)).await.expect("swept") {
        steps += 1;
    }
    assert_eq!(steps, 2);
}

#[tokio::test]
async fn turns_outlive_the_process_and_a_second_process_reads_them() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SqlResponses::new(dir.path());
    filled(&store).await;
    let other = SqlResponses::new(dir.path());
    assert_eq!(other.chain(&me(), "c", ALL, at(1)).await.expect("readable").turns.len(), 3);
    // As after a crash: nothing was closed.
    drop((store, other));
    let later = SqlResponses::new(dir.path());
    assert_eq!(later.chain(&me(), "c", ALL, at(1)).await.expect("readable").turns.len(), 3);
}

#[tokio::test]
async fn what_was_thrown_away_is_no_longer_on_the_disk() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SqlResponses::new(dir.path());
    filled(&store).await;
    let found = || {
        let files = std::fs::read_dir(dir.path()).expect("readable");
        files
            .map(|file| std::fs::read(file.expect("an entry").path()).expect("readable"))
            .any(|bytes| bytes.windows(5).any(|window| window == b"zebra"))
    };
    assert!(found(), "the scan sees what is there");
    store.delete(&me(), "c", at(1)).await.expect("deleted");
    while store.expire(at(10_000)).await.expect("swept") {}
    assert!(!found(), "neither in the file nor in its log");
}

#[tokio::test]
async fn a_change_that_is_dropped_never_was() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SqlResponses::new(dir.path());
    filled(&store).await;
    // Somebody else writes: the change can begin and not end.
    let other = SqliteConnectOptions::new().filename(store.path()).connect().await;
    let mut other = other.expect("a second connection");
    other.execute("BEGIN IMMEDIATE").await.expect("the file is free");
    let mut put = store.put(turn("x", None, 300), ROOM);
    let pending = std::future::poll_fn(|context| Poll::Ready(put.as_mut().poll(context).is_pending())).await;
    assert!(pending, "it was dropped in between");
    drop(put);
    other.execute("ROLLBACK").await.expect("it had begun");
    assert!(store.chain(&me(), "x", ALL, at(1)).await.expect("readable").turns.is_empty());
    store.put(turn("x", None, 300), ROOM).await.expect("the connection goes on");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SqlResponses::new(dir.path());
    filled(&store).await;
    for file in std::fs::read_dir(dir.path()).expect("readable") {
        let mode = file.expect("an entry").metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
}
