//! The contract of [`AnswerStore`], executed against the file, a real PostgreSQL and the version in memory alike; and
//! what the file does to the disk.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

mod homes;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use penstock_idempotency::{
    AnswerStore, Ask, Begun, Claim, Claimed, Idempotency, Kept, Key, MemoryAnswers, Policy, Print, Room,
    Sealed, Slot, Stored, Tenant, Ticket, weight,
};
use penstock_store_sql::SqlAnswers;

use homes::Home;

const ROOM: Room = Room { tenant: 1 << 20, total: 1 << 20 };

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + millis)
}

/// A claim on slot `slot` of tenant `tenant` by `ticket`, now 10 with a lease until 100.
fn claim(slot: u8, tenant: u8, ticket: u8) -> Claim {
    Claim {
        slot: Slot([slot; 32]),
        tenant: Tenant([tenant; 32]),
        print: [slot; 32],
        ticket: Ticket([ticket; 16]),
        now: at(10),
        until: at(100),
    }
}

fn sealed(slot: u8, ticket: u8, bytes: &[u8]) -> Sealed {
    Sealed {
        slot: Slot([slot; 32]),
        ticket: Ticket([ticket; 16]),
        bytes: Bytes::copy_from_slice(bytes),
        until: at(1_000),
    }
}

async fn take(store: &dyn AnswerStore, claim: Claim) -> Claimed {
    store.claim(claim).await.expect("an answer of the store")
}

async fn keep(store: &dyn AnswerStore, sealed: Sealed, room: Room) -> Stored {
    store.keep(sealed, room).await.expect("an answer of the store")
}

async fn one_runs_and_the_others_get_its_answer(store: &dyn AnswerStore) {
    assert_eq!(take(store, claim(1, 1, 1)).await, Claimed::Yours);
    assert_eq!(take(store, claim(1, 1, 2)).await, Claimed::Running);
    assert_eq!(take(store, Claim { print: [9; 32], ..claim(1, 1, 2) }).await, Claimed::Other);
    assert_eq!(take(store, claim(2, 1, 2)).await, Claimed::Yours, "another slot is another matter");
    assert_eq!(
        keep(store, sealed(1, 2, b"forged"), ROOM).await,
        Stored::Lost,
        "who does not run keeps nothing"
    );
    assert_eq!(keep(store, sealed(1, 1, b"one"), ROOM).await, Stored::Stored);
    assert_eq!(take(store, claim(1, 1, 3)).await, Claimed::Done(Bytes::from_static(b"one")));
    assert_eq!(take(store, Claim { print: [9; 32], ..claim(1, 1, 3) }).await, Claimed::Other);
    assert_eq!(keep(store, sealed(1, 1, b"two"), ROOM).await, Stored::Lost, "an answer is kept once");
    store.release(Slot([1; 32]), Ticket([1; 16])).await.expect("released");
    assert_eq!(
        take(store, claim(1, 1, 3)).await,
        Claimed::Done(Bytes::from_static(b"one")),
        "what is kept stays"
    );
}

async fn what_is_given_back_or_over_is_free(store: &dyn AnswerStore) {
    assert_eq!(take(store, claim(1, 1, 1)).await, Claimed::Yours);
    store.release(Slot([1; 32]), Ticket([2; 16])).await.expect("released");
    assert_eq!(take(store, claim(1, 1, 2)).await, Claimed::Running, "a stranger gives nothing back");
    store.release(Slot([1; 32]), Ticket([1; 16])).await.expect("released");
    assert_eq!(take(store, claim(1, 1, 2)).await, Claimed::Yours);
    // The lease of 2 runs out at 100; whoever comes then takes over, with whatever request.
    let late = Claim { now: at(100), until: at(200), print: [9; 32], ..claim(1, 1, 3) };
    assert_eq!(take(store, late).await, Claimed::Yours);
    assert_eq!(keep(store, sealed(1, 2, b"late"), ROOM).await, Stored::Lost);
    // A renewal holds for who runs, and for nobody else.
    store.renew(&[(Slot([1; 32]), Ticket([2; 16]))], at(900)).await.expect("renewed");
    store.renew(&[(Slot([1; 32]), Ticket([3; 16]))], at(300)).await.expect("renewed");
    let other = Claim { now: at(250), print: [9; 32], ..claim(1, 1, 4) };
    assert_eq!(take(store, other).await, Claimed::Running);
    assert_eq!(keep(store, sealed(1, 3, b"one"), ROOM).await, Stored::Stored);
    assert_eq!(take(store, Claim { now: at(999), ..other }).await, Claimed::Done(Bytes::from_static(b"one")));
    let over = Claim { now: at(1_000), until: at(1_100), ..other };
    assert_eq!(take(store, over).await, Claimed::Yours, "an answer has its time");
}

async fn room_is_bounded(store: &dyn AnswerStore) {
    let two = weight(3) * 2;
    let room = Room { tenant: two, total: two + weight(3) };
    for slot in 1..=3 {
        assert_eq!(take(store, claim(slot, 1, slot)).await, Claimed::Yours);
        assert_eq!(keep(store, sealed(slot, slot, b"abc"), room).await, Stored::Stored, "{slot}");
    }
    assert_eq!(take(store, claim(1, 1, 9)).await, Claimed::Yours, "the oldest made room");
    assert!(matches!(take(store, claim(2, 1, 9)).await, Claimed::Done(_)));
    assert!(matches!(take(store, claim(3, 1, 9)).await, Claimed::Done(_)));
    for (slot, stored) in [(11, Stored::Stored), (12, Stored::Full)] {
        assert_eq!(take(store, claim(slot, 2, slot)).await, Claimed::Yours);
        assert_eq!(
            keep(store, sealed(slot, slot, b"abc"), room).await,
            stored,
            "nobody makes room for another"
        );
    }
    assert!(matches!(take(store, claim(3, 1, 9)).await, Claimed::Done(_)));
    let huge = vec![0; usize::try_from(two).expect("small")];
    assert_eq!(keep(store, sealed(12, 12, &huge), room).await, Stored::Full);
    assert!(
        matches!(take(store, claim(11, 2, 9)).await, Claimed::Done(_)),
        "what cannot fit pushes nothing out"
    );
    // What was thrown away weighs nothing any more.
    while store.expire(at(2_000)).await.expect("swept") {}
    for slot in 21..=22 {
        assert_eq!(take(store, claim(slot, 3, slot)).await, Claimed::Yours);
        assert_eq!(keep(store, sealed(slot, slot, b"abc"), room).await, Stored::Stored);
    }
}

fn in_file() -> (tempfile::TempDir, SqlAnswers) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SqlAnswers::new(dir.path());
    (dir, store)
}

macro_rules! contract {
    ($($promise:ident),+) => {
        mod memory {
            $(#[tokio::test] async fn $promise() { super::$promise(&super::MemoryAnswers::default()).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $promise() { super::$promise(&*super::Home::postgres().open()).await; })+
        }
        mod file {
            $(#[tokio::test] async fn $promise() {
                let (_dir, store) = super::in_file();
                super::$promise(&store).await;
            })+
        }
    };
}

contract!(one_runs_and_the_others_get_its_answer, what_is_given_back_or_over_is_free, room_is_bounded);

/// Two who come at once, over and over.
async fn race(one: &dyn AnswerStore, other: &dyn AnswerStore) {
    for slot in 0..50 {
        let (a, b) = tokio::join!(take(one, claim(slot, 1, 1)), take(other, claim(slot, 1, 2)));
        assert!(a != b && [&a, &b].contains(&&Claimed::Yours), "{a:?} {b:?}");
    }
}

#[tokio::test]
async fn of_two_gateways_on_one_database_one_runs() {
    let home = Home::postgres();
    race(&*home.open(), &*home.open()).await;
}

#[tokio::test]
async fn of_two_processes_one_runs_and_a_dead_one_is_replaced() {
    let (dir, one) = in_file();
    let other = SqlAnswers::new(dir.path());
    race(&one, &other).await;
    // As after kill -9: nothing was closed, and the leases still stand.
    drop((one, other));
    let later = SqlAnswers::new(dir.path());
    assert_eq!(take(&later, claim(7, 1, 3)).await, Claimed::Running);
    assert_eq!(take(&later, Claim { now: at(100), until: at(200), ..claim(7, 1, 3) }).await, Claimed::Yours);
}

/// Everything that is on the disk.
fn dump(dir: &tempfile::TempDir) -> Vec<u8> {
    let files = std::fs::read_dir(dir.path()).expect("readable");
    files.flat_map(|file| std::fs::read(file.expect("an entry").path()).expect("readable")).collect()
}

fn holds(dump: &[u8], word: &[u8]) -> bool {
    dump.windows(word.len()).any(|window| window == word)
}

#[tokio::test]
async fn the_file_tells_neither_key_nor_tenant_nor_request_nor_answer() {
    let (dir, store) = in_file();
    let store = Arc::new(store);
    let port = Arc::clone(&store) as Arc<dyn AnswerStore>;
    let service = Idempotency::new(port, &[7; 32], Policy::default());
    let key = Key::read([&b"order-zebra-17"[..]]).expect("a key");
    let print = Print::begin("/v1/giraffe", None).body(b"application/json", b"{\"ask\":\"walrus\"}");
    let ask = Ask { key: &key, tenant: "key_badger", route: "POST /v1/giraffe", print: &print };
    let Ok(Begun::Run(running)) = service.begin(ask).await else { panic!("it does not run") };
    let kept = Kept {
        status: 201,
        headers: vec![("penstock-ferret".into(), Bytes::from_static(b"marmot"))],
        body: Bytes::from_static(b"{\"key\":\"pk_live_otter\"}"),
    };
    assert_eq!(running.keep(kept.clone()).await, Stored::Stored);
    let found = dump(&dir);
    assert!(found.len() > 1_000, "the scan sees what is there");
    let words = ["zebra", "giraffe", "walrus", "badger", "ferret", "marmot", "otter", "pk_live"];
    for word in words {
        assert!(!holds(&found, word.as_bytes()), "{word} is on the disk");
    }
    let Ok(Begun::Replay(again)) = service.begin(ask).await else { panic!("it is not replayed") };
    assert_eq!(again, kept);
}

#[tokio::test]
async fn what_was_thrown_away_is_no_longer_on_the_disk() {
    let (dir, store) = in_file();
    take(&store, claim(1, 1, 1)).await;
    keep(&store, sealed(1, 1, b"zebra zebra zebra"), ROOM).await;
    assert!(holds(&dump(&dir), b"zebra"), "the scan sees what is there");
    while store.expire(at(10_000)).await.expect("swept") {}
    assert!(!holds(&dump(&dir), b"zebra"), "neither in the file nor in its log");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, store) = in_file();
    take(&store, claim(1, 1, 1)).await;
    for file in std::fs::read_dir(dir.path()).expect("readable") {
        let mode = file.expect("an entry").metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
}
