//! Providers that have their hands full.

use penstock_admission::fair::{Ask, Bounds as Line};
use penstock_admission::{Allowance, Need, Now};
use penstock_domain::{Priority, Retry};
use penstock_routing::{Deployment, Fleet, Target};
use tokio::task::JoinSet;

use super::*;
use crate::doors::{Pass, Place, Wish};
use crate::{Door, DoorRules, Doors, Lanes};

const MOMENT: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(20);

fn rules(slots: Option<u32>) -> DoorRules {
    DoorRules {
        slots,
        lanes: Lanes::Open,
        allowance: Allowance::default(),
        line: Line { max_waiting: 64, max_wait: PATIENCE },
    }
}

fn door(rules: DoorRules) -> Arc<Door> {
    let mut all = Doors::default().adopt([("vendor".into(), rules)]);
    all.remove("vendor").expect("it is bounded")
}

fn target(model: &str) -> Arc<Target> {
    Fleet::seeded(1).target(&"vendor".into(), 0, &model.into())
}

fn wish(target: &Arc<Target>, tenant: &str, output: u64) -> Wish {
    Wish {
        target: Arc::clone(target),
        need: Need { input: 10, output, micros: 0 },
        priced: true,
        ask: Ask {
            tenant: tenant.into(),
            weight: 1,
            class: Priority::Standard,
            lane: target.digest(),
            input: 10,
            output,
        },
    }
}

fn enter(door: &Arc<Door>, wish: &Wish) -> Option<Pass> {
    door.enter(wish, Now::read()).ok()
}

fn join(door: &Arc<Door>, wish: &Wish) -> Place {
    door.join(wish, PATIENCE, Now::read()).expect("room in the line")
}

#[tokio::test]
async fn who_waits_is_let_in_when_somebody_leaves_and_nobody_overtakes() {
    let (door, target) = (door(rules(Some(1))), target("m"));
    let inside = enter(&door, &wish(&target, "a", 10)).expect("it is empty");
    let shut = door.enter(&wish(&target, "b", 10), Now::read()).unwrap_err();
    assert_eq!((shut.error.code(), shut.word, shut.waits), (Code::Overloaded, "full", true));
    assert!(matches!(shut.error.retry(), Retry::After(_)));
    let mut place = join(&door, &wish(&target, "b", 10));
    assert!(tokio::time::timeout(MOMENT, place.turn()).await.is_err());
    drop(inside);
    assert!(enter(&door, &wish(&target, "c", 10)).is_none(), "it was given to whoever waits");
    let second = place.turn().await.expect("its turn");
    drop(second);
    assert!(enter(&door, &wish(&target, "c", 10)).is_some());
}

#[tokio::test]
async fn who_gives_up_leaves_no_trace_even_when_its_turn_had_come() {
    let (door, target) = (door(rules(Some(1))), target("m"));
    let inside = enter(&door, &wish(&target, "a", 10)).expect("it is empty");
    let (gone, called) = (join(&door, &wish(&target, "b", 10)), join(&door, &wish(&target, "c", 10)));
    drop(gone);
    assert_eq!(door.waiting(Priority::Standard), 1, "it leaves at once");
    drop(inside);
    // `c` was let in, and goes without having heard of it.
    drop(called);
    assert!(enter(&door, &wish(&target, "d", 10)).is_some());
    assert_eq!(door.waiting(Priority::Standard), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_order_of_coming_leaving_and_giving_up_loses_a_place_or_makes_one() {
    let (door, inside) = (door(rules(Some(3))), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let mut all = JoinSet::new();
    for n in 0..60_u64 {
        let (door, inside, target) = (Arc::clone(&door), Arc::clone(&inside), target("m"));
        all.spawn(async move {
            let wish = wish(&target, &format!("t{}", n % 5), 10);
            for round in 0..40 {
                let pass = match enter(&door, &wish) {
                    Some(pass) => Some(pass),
                    None => match door.join(&wish, PATIENCE, Now::read()) {
                        // Some give up after a moment that often is just the moment of their turn.
                        Ok(mut place) if (n + round) % 3 == 0 => {
                            tokio::time::timeout(Duration::from_micros(n * 20), place.turn())
                                .await
                                .ok()
                                .and_then(Result::ok)
                        }
                        Ok(mut place) => place.turn().await.ok(),
                        Err(_) => None,
                    },
                };
                let Some(pass) = pass else { continue };
                let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                assert!(now <= 3, "{now} inside");
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                match n % 2 {
                    0 => {
                        let used = Usage { input: 10, output: 5, ..Usage::default() };
                        pass.end(Some(used), Default::default());
                    }
                    _ => drop(pass),
                }
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.expect("no order is wrong");
    }
    assert_eq!(door.waiting(Priority::Standard), 0);
    let target = target("m");
    let three: Vec<_> = (0..3).map(|_| enter(&door, &wish(&target, "t", 1))).collect();
    assert!(three.iter().all(Option::is_some) && enter(&door, &wish(&target, "t", 1)).is_none());
}

#[tokio::test]
async fn a_rate_of_the_provider_lets_in_whoever_waits_once_there_is_room() {
    let limits = Limits { output_tokens_per_minute: Some(60_000), ..Limits::default() };
    let (target, rules) = (target("m"), rules(None));
    let door = door(DoorRules { allowance: Allowance { limits, budget: None }, ..rules });
    let all = enter(&door, &wish(&target, "a", 60_000)).expect("a whole minute's worth may come at once");
    all.end(Some(Usage { input: 1, output: 60_000, ..Usage::default() }), Default::default());
    let shut = door.enter(&wish(&target, "b", 100), Now::read()).unwrap_err();
    assert_eq!((shut.error.code(), shut.word), (Code::RateLimitExceeded, "quota"));
    assert!(shut.error.say().starts_with("the provider vendor may use 60000 output tokens per minute"));
    let begun = Instant::now();
    let pass = join(&door, &wish(&target, "b", 100)).turn().await.expect("its turn");
    assert!(begun.elapsed() >= Duration::from_millis(50), "{:?}", begun.elapsed());
    assert_eq!(door.standing().held.output, 100);
    drop(pass);
    let never = door.enter(&wish(&target, "b", 60_001), Now::read()).unwrap_err();
    assert!(!never.waits && never.error.retry() == Retry::Never);
}

#[tokio::test]
async fn whoever_would_wait_too_long_is_told_at_once_when_to_come_back() {
    let (door, target) = (door(rules(Some(1))), target("m"));
    let limits = Limits { output_tokens_per_minute: Some(600), ..Limits::default() };
    let slow = DoorRules { allowance: Allowance { limits, budget: None }, ..rules(None) };
    let rated = self::door(slow);
    let used = Usage { input: 1, output: 600, ..Usage::default() };
    enter(&rated, &wish(&target, "a", 600)).expect("room").end(Some(used), Default::default());
    let shut = rated.join(&wish(&target, "b", 300), PATIENCE, Now::read()).err().expect("30 s are too long");
    let Retry::After(wait) = shut.error.retry() else { panic!("{:?}", shut.error) };
    assert!((29..=30).contains(&wait.as_secs()), "{wait:?}");
    // A service time of some milliseconds, and a line of nine: the tenth waits for all of them.
    let first = enter(&door, &wish(&target, "a", 1)).expect("room");
    tokio::time::sleep(MOMENT).await;
    first.end(Some(Usage { input: 1, output: 1, ..Usage::default() }), Default::default());
    let _inside = enter(&door, &wish(&target, "a", 1)).expect("room");
    let _line: Vec<_> = (0..9).map(|_| join(&door, &wish(&target, "a", 1))).collect();
    let predicted = door.predicts(&wish(&target, "a", 1), Now::read());
    assert!(predicted >= MOMENT * 10, "{predicted:?}");
    assert!(door.join(&wish(&target, "a", 1), MOMENT * 9, Now::read()).is_err());
    assert!(
        door.predicts(&wish(&target, "b", 1), Now::read()) < predicted / 2,
        "another tenant's turn comes sooner"
    );
}

#[tokio::test]
async fn each_model_of_the_engine_has_places_of_its_own() {
    let door = door(DoorRules { lanes: Lanes::Fixed(1), ..rules(None) });
    let (chat, embed) = (target("chat"), target("embed"));
    let _inside = enter(&door, &wish(&chat, "a", 1)).expect("room");
    let _waits = join(&door, &wish(&chat, "a", 1));
    assert!(enter(&door, &wish(&embed, "a", 1)).is_some(), "the other model is free");
}

/// A bench before a door, and the door.
fn before(slots: u32, models: impl IntoIterator<Item = Model>) -> (Bench, Arc<Door>) {
    let provider = || -> Arc<dyn Provider> { Arc::new(Scripted(Box::new(gives(whole_answer())))) };
    let providers = HashMap::from([("vendor".into(), provider()), ("spare".into(), provider())]);
    let mut bench = bench_of(
        (&["chat:*"], &[]),
        (Catalogue::new(models), providers),
        (Captures::default(), HashMap::new()),
    );
    let door = door(rules(Some(slots)));
    let flow = Arc::get_mut(&mut bench.flow).expect("nobody else has it yet");
    flow.parts.doors.insert("vendor".into(), Arc::clone(&door));
    (bench, door)
}

fn at(provider: &str) -> Deployment {
    Deployment::new(provider, Some("m".into()))
}

#[tokio::test]
async fn a_request_waits_for_its_only_provider_and_says_how_long() {
    let (bench, door) = before(1, [Model::single("large", "vendor", Some("m".into()))]);
    let taken = enter(&door, &wish(&target("m"), "other", 10)).expect("room");
    let mut answering = Box::pin(bench.run(request("large")));
    assert!(tokio::time::timeout(MOMENT, &mut answering).await.is_err(), "it waits");
    assert_eq!(door.waiting(Priority::Standard), 1);
    drop(taken);
    let answer = answering.await.expect("its turn has come");
    let waited = answer.head.timings.iter().find(|(stage, _)| *stage == Stage::Queue);
    assert!(waited.is_some_and(|(_, time)| time >= MOMENT), "{waited:?}");
    assert!(enter(&door, &wish(&target("m"), "other", 10)).is_none(), "the answer is still on its way");
    answer.deltas.collect::<Vec<_>>().await;
    assert!(enter(&door, &wish(&target("m"), "other", 10)).is_some());
}

#[tokio::test]
async fn a_full_provider_is_passed_over_without_an_attempt() {
    let model = Model {
        deployments: [at("vendor")].into(),
        fallbacks: ["small".into()].into(),
        ..Model::single("large", "", None)
    };
    let small = Model { deployments: [at("spare")].into(), ..Model::single("small", "", None) };
    let (bench, door) = before(1, [model, small]);
    let _taken = enter(&door, &wish(&target("m"), "other", 10)).expect("room");
    let answer = bench.run(request("large")).await.expect("the other one has room");
    assert_eq!((answer.head.provider.as_deref(), answer.head.attempts), (Some("spare"), 1));
    answer.deltas.collect::<Vec<_>>().await;
    let records = bench.kept.records.lock().expect("not poisoned");
    let full =
        records[0].considered.iter().find(|one| &*one.provider == "vendor").expect("it was considered");
    assert_eq!(full.verdict, "full");
    assert_eq!(records[0].tries[0].why, "first");
}

#[tokio::test]
async fn a_wait_that_nobody_waits_for_any_more_ends_in_one_record_and_an_empty_line() {
    let (bench, door) = before(1, [Model::single("large", "vendor", Some("m".into()))]);
    let _taken = enter(&door, &wish(&target("m"), "other", 10)).expect("room");
    assert!(tokio::time::timeout(MOMENT, bench.run(request("large"))).await.is_err());
    assert_eq!(door.waiting(Priority::Standard), 0);
    let codes: Vec<_> = {
        let records = bench.kept.records.lock().expect("not poisoned");
        records.iter().map(|record| record.outcome.code()).collect()
    };
    assert_eq!(codes, ["cancelled"]);
    assert_eq!(bench.admission.in_flight(&bench.key_id), 0);
    // The asker's own time ends it too.
    let soon = Request { deadline: Some(Instant::now() + MOMENT), ..request("large") };
    let refusal = bench.run(soon).await.err().expect("nobody makes room");
    assert_eq!(refusal.error.code(), Code::DeadlineExceeded);
}
