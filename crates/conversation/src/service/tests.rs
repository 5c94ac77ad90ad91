use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use super::*;
use crate::{MemoryResponses, Pending};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn turn(id: &str, previous: Option<&str>) -> Turn {
    Turn {
        id: id.into(),
        owner: Owner::key("k"),
        previous: previous.map(Arc::from),
        created: at(0),
        expires: at(100),
        response: format!("{{\"id\":\"{id}\"}}").into(),
        input: "[]".into(),
        items: Arc::new([format!("msg_{id}").into()]),
    }
}

struct Bench {
    store: Arc<MemoryResponses>,
    noticed: Arc<AtomicUsize>,
    service: Conversations,
}

fn bench(policy: Policy) -> Bench {
    let store = Arc::new(MemoryResponses::default());
    let noticed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&noticed);
    let notice = Box::new(move |kept| {
        if kept != Kept::Stored {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let service = Conversations::new(Arc::clone(&store) as Arc<dyn ResponseStore>, policy, notice);
    Bench { store, noticed, service }
}

fn ids(turns: &[Turn]) -> Vec<&str> {
    turns.iter().map(|turn| &*turn.id).collect()
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Error>) -> (Code, Option<String>) {
    let error = outcome.expect_err("it is refused");
    (error.code(), error.param().map(str::to_owned))
}

const NOT_THERE: Code = Code::PreviousResponseNotFound;

#[tokio::test]
async fn a_conversation_comes_back_oldest_first_and_to_its_owner_alone() {
    let Bench { service, .. } = bench(Policy::default());
    let policy = service.policy();
    for (id, previous) in [("a", None), ("b", Some("a")), ("c", Some("b")), ("other", None)] {
        assert_eq!(service.keep(turn(id, previous), &policy).await, Kept::Stored);
    }
    let me = Owner::key("k");
    assert_eq!(ids(&service.before(&me, "c", at(1)).await.expect("there")), ["a", "b", "c"]);
    assert_eq!(ids(&service.before(&me, "b", at(1)).await.expect("there")), ["a", "b"]);
    for foreign in [Owner::team("k"), Owner::key("K"), Owner::key("")] {
        let param = Some("previous_response_id".to_owned());
        assert_eq!(code(service.before(&foreign, "c", at(1)).await), (NOT_THERE, param));
        let said = |error: Error| error.say().to_owned();
        let one = service.one(&foreign, "c", at(1)).await.map_err(said);
        let unknown = service.one(&foreign, "x", at(1)).await.map_err(said);
        assert_eq!(one.unwrap_err().replace("'c'", "'x'"), unknown.unwrap_err(), "foreign reads as unknown");
        assert_eq!(code(service.delete(&foreign, "c", at(1)).await).0, Code::NotFound);
    }
    assert_eq!(ids(&service.holding(&me, &["msg_b".into()], at(1)).await.expect("there")), ["b"]);
    assert!(service.holding(&Owner::key("K"), &["msg_b".into()], at(1)).await.expect("none").is_empty());
}

#[tokio::test]
async fn what_is_deleted_or_too_old_breaks_what_continues_it() {
    let Bench { service, store, .. } = bench(Policy::default());
    let policy = service.policy();
    for (id, previous) in [("a", None), ("b", Some("a")), ("c", Some("b"))] {
        service.keep(turn(id, previous), &policy).await;
    }
    let me = Owner::key("k");
    service.delete(&me, "b", at(1)).await.expect("deleted");
    assert_eq!(code(service.before(&me, "c", at(1)).await).0, NOT_THERE);
    assert_eq!(code(service.before(&me, "b", at(1)).await).0, NOT_THERE);
    assert_eq!(ids(&service.history(&me, "c", at(1)).await.expect("there")), ["c"]);
    assert_eq!(ids(&service.before(&me, "a", at(1)).await.expect("there")), ["a"]);
    // Expired, and not swept yet.
    assert_eq!(code(service.before(&me, "a", at(100)).await).0, NOT_THERE);
    assert_eq!(code(service.one(&me, "a", at(100)).await).0, Code::NotFound);
    assert_eq!(code(service.delete(&me, "a", at(100)).await).0, Code::NotFound);
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn chains_and_sizes_and_totals_are_bounded() {
    let size = turn("a", None).size();
    let Bench { service, noticed, .. } =
        bench(Policy { max_bytes: 2 * size, max_owner_bytes: 4 * size, ..Policy::default() });
    let policy = service.policy();
    let me = Owner::key("k");
    for (id, previous) in [("a", None), ("b", Some("a")), ("c", Some("b"))] {
        assert_eq!(service.keep(turn(id, previous), &policy).await, Kept::Stored);
    }
    assert_eq!(ids(&service.before(&me, "b", at(1)).await.expect("within")), ["a", "b"]);
    let param = Some("previous_response_id".to_owned());
    assert_eq!(code(service.before(&me, "c", at(1)).await), (Code::InvalidValue, param));
    let large = Turn { input: vec![b' '; 64].into(), ..turn("large", None) };
    assert_eq!(service.keep(large, &policy).await, Kept::Unfit);
    assert_eq!(service.keep(turn("d", None), &policy).await, Kept::Stored);
    assert_eq!(service.keep(turn("e", None), &policy).await, Kept::Full);
    let other = Turn { owner: Owner::team("t"), ..turn("e", None) };
    assert_eq!(service.keep(other, &policy).await, Kept::Stored, "another owner has room");
    assert_eq!(noticed.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_store_that_fails_costs_the_copy_and_not_the_answer() {
    let Bench { service, store, noticed } = bench(Policy::default());
    let policy = service.policy();
    store.fail(Some(Error::new(Code::StoreUnavailable, "the disk is full")));
    assert_eq!(service.keep(turn("a", None), &policy).await, Kept::Failed);
    let me = Owner::key("k");
    assert_eq!(code(service.before(&me, "a", at(1)).await).0, Code::StoreUnavailable);
    store.fail(None);
    assert_eq!(service.keep(turn("a", None), &policy).await, Kept::Stored);
    assert_eq!(service.keep(turn("a", None), &policy).await, Kept::Failed, "an id is used once");
    assert_eq!(noticed.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_odd_id_is_neither_kept_nor_looked_for() {
    let Bench { service, store, .. } = bench(Policy::default());
    let policy = service.policy();
    store.fail(Some(Error::new(Code::StoreUnavailable, "nobody should ask")));
    let me = Owner::key("k");
    for odd in ["", "a b", "a/b", "a\n", "ä", &"x".repeat(129)] {
        assert_eq!(service.keep(turn(odd, None), &policy).await, Kept::Unfit, "{odd}");
        assert_eq!(code(service.one(&me, odd, at(1)).await).0, Code::NotFound, "{odd}");
        assert_eq!(code(service.before(&me, odd, at(1)).await).0, NOT_THERE, "{odd}");
        assert_eq!(code(service.delete(&me, odd, at(1)).await).0, Code::NotFound, "{odd}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_thrown_away_every_hour() {
    let Bench { service, store, .. } = bench(Policy::default());
    let policy = service.policy();
    let over = Turn { expires: UNIX_EPOCH, ..turn("over", None) };
    let lasting =
        Turn { expires: SystemTime::now() + Duration::from_secs(9_000_000), ..turn("lasting", None) };
    for turn in [over.clone(), lasting] {
        service.keep(turn, &policy).await;
    }
    let service = Arc::new(service);
    let sweeper = Arc::clone(&service);
    let sweeping = tokio::spawn(async move { sweeper.sweep().await });
    tokio::time::sleep(FIRST + STEP).await;
    assert_eq!(store.len(), 1);
    service.keep(over, &policy).await;
    store.fail(Some(Error::new(Code::StoreUnavailable, "the disk is full")));
    tokio::time::sleep(SWEEP).await;
    assert_eq!(store.len(), 2);
    store.fail(None);
    tokio::time::sleep(SWEEP).await;
    assert_eq!(store.len(), 1, "a failure does not end it");
    sweeping.abort();
}

/// Never answers, and counts what it was asked to remove.
#[derive(Default)]
struct Stuck(AtomicUsize);

impl ResponseStore for Stuck {
    fn put(&self, _: Turn, _: u64) -> Pending<'_, ()> {
        Box::pin(pending())
    }

    fn chain<'a>(&'a self, _: &'a Owner, _: &'a str, _: Reach, _: SystemTime) -> Pending<'a, Chain> {
        Box::pin(pending())
    }

    fn holding<'a>(
        &'a self,
        _: &'a Owner,
        _: &'a [String],
        _: Reach,
        _: SystemTime,
    ) -> Pending<'a, Vec<Turn>> {
        Box::pin(pending())
    }

    fn delete<'a>(&'a self, _: &'a Owner, _: &'a str, _: SystemTime) -> Pending<'a, bool> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(true) })
    }

    fn expire(&self, _: SystemTime) -> Pending<'_, bool> {
        Box::pin(pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_an_answer_for_two_seconds_and_what_came_late_is_removed() {
    let store = Arc::new(Stuck::default());
    let service =
        Conversations::new(Arc::clone(&store) as Arc<dyn ResponseStore>, Policy::default(), Box::new(|_| {}));
    let begun = tokio::time::Instant::now();
    assert_eq!(service.keep(turn("a", None), &service.policy()).await, Kept::Failed);
    assert_eq!(begun.elapsed(), PATIENCE);
    tokio::task::yield_now().await;
    assert_eq!(store.0.load(Ordering::SeqCst), 1);
}
