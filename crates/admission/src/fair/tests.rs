use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn bounds(max_waiting: usize) -> Bounds {
    Bounds { max_waiting, max_wait: Duration::from_secs(40) }
}

fn ask(tenant: &str, class: Priority) -> Ask {
    Ask { tenant: tenant.into(), weight: 1, class, lane: 0, input: 100, output: 100 }
}

fn go<T>(next: Next<T>) -> Option<T> {
    match next {
        Next::Go(who, _) => Some(who),
        Next::Never(_) | Next::Wait(_) => None,
    }
}

#[test]
fn the_more_urgent_goes_first_and_the_patient_gets_every_eighth_turn() {
    let mut fair = Fair::new(bounds(1_000));
    for n in 0..40 {
        fair.arrive(ask("people", Priority::Interactive), "people", n).unwrap();
        fair.arrive(ask("night", Priority::Batch), "night", n).unwrap();
    }
    let early: Vec<_> = (0..8).filter_map(|_| go(fair.next(SECOND, |_, _| Fit::Now))).collect();
    assert_eq!(early, ["people"; 8], "nobody has waited for long");
    let late: Vec<_> = (0..24).filter_map(|_| go(fair.next(11 * SECOND, |_, _| Fit::Now))).collect();
    let turns: Vec<_> =
        late.iter().enumerate().filter(|(_, who)| **who == "night").map(|(at, _)| at).collect();
    assert_eq!(turns, [7, 15, 23]);
}

#[test]
fn two_patient_classes_take_turns() {
    let mut fair = Fair::new(bounds(1_000));
    for class in Priority::ALL {
        for _ in 0..60 {
            fair.arrive(ask(class.name(), class), class, 0).unwrap();
        }
    }
    let order: Vec<_> = (0..32).filter_map(|_| go(fair.next(11 * SECOND, |_, _| Fit::Now))).collect();
    let late: Vec<_> = order.into_iter().filter(|class| *class != Priority::Interactive).collect();
    assert_eq!(late, [Priority::Standard, Priority::Batch, Priority::Standard, Priority::Batch]);
}

#[test]
fn a_full_lane_holds_up_nobody_in_another_and_a_full_provider_everybody() {
    let mut fair = Fair::new(bounds(10));
    fair.arrive(Ask { lane: 1, ..ask("a", Priority::Standard) }, 1, 0).unwrap();
    fair.arrive(Ask { lane: 1, ..ask("b", Priority::Standard) }, 2, 0).unwrap();
    fair.arrive(Ask { lane: 2, ..ask("a", Priority::Standard) }, 3, 0).unwrap();
    let wait = Some(Duration::from_secs(1));
    assert!(matches!(fair.next(1, |_, _| Fit::Later(wait)), Next::Wait(one) if one == wait));
    let lane = |ask: &Ask, _: &i32| if ask.lane == 1 { Fit::Lane } else { Fit::Now };
    assert_eq!(go(fair.next(1, lane)), Some(3));
    assert!(matches!(fair.next(1, lane), Next::Wait(None)));
    assert!(matches!(fair.next(1, |_, _| Fit::Never), Next::Never(2)), "it is taken out");
    assert_eq!(fair.waiting(), 1);
}

#[test]
fn a_full_line_takes_from_whoever_has_most_of_it_or_is_less_urgent() {
    let mut fair = Fair::new(bounds(6));
    for n in 0..3 {
        fair.arrive(ask("flood", Priority::Standard), n, 0).unwrap();
    }
    assert_eq!(fair.arrive(ask("flood", Priority::Standard), 9, 0).unwrap_err(), Full::Tenant);
    fair.arrive(ask("b", Priority::Standard), 3, 0).unwrap();
    fair.arrive(ask("c", Priority::Batch), 4, 0).unwrap();
    fair.arrive(ask("c", Priority::Batch), 5, 0).unwrap();
    let (_, left) = fair.arrive(ask("b", Priority::Standard), 6, 0).unwrap();
    assert_eq!(left, Some(5), "the newest of the less urgent");
    let (_, left) = fair.arrive(ask("d", Priority::Standard), 7, 0).unwrap();
    assert_eq!(left, Some(4));
    let (_, left) = fair.arrive(ask("e", Priority::Standard), 8, 0).unwrap();
    assert_eq!(left, Some(2), "the newest of the largest");
    // Nobody has two more than one of these would have.
    assert_eq!(fair.arrive(ask("b", Priority::Standard), 9, 0).unwrap_err(), Full::Line);
    assert_eq!(fair.arrive(ask("z", Priority::Batch), 9, 0).unwrap_err(), Full::Line);
    assert_eq!(fair.waiting(), 6);
    let mut none = Fair::new(bounds(0));
    assert_eq!(none.arrive(ask("a", Priority::Standard), 1, 0).unwrap_err(), Full::Line);
}

#[test]
fn what_is_charged_becomes_what_was_used() {
    let mut fair = Fair::<()>::new(bounds(10));
    let of = |fair: &Fair<()>| fair.counter(Priority::Standard, "a").unwrap();
    let mut charge = fair.serve(&ask("a", Priority::Standard), 0);
    assert_eq!(of(&fair), 100 + 2 * 100, "the whole bound, which is less than answers usually are");
    fair.progress(&mut charge, 90);
    assert_eq!(of(&fair), 300);
    fair.progress(&mut charge, 150);
    assert_eq!(of(&fair), 400);
    fair.end(charge, Some((80, 200)), 5);
    assert_eq!(of(&fair), 80 + 2 * 200);
    let charge = fair.serve(&ask("a", Priority::Standard), 5);
    fair.end(charge, None, 9);
    assert_eq!(of(&fair), 481, "whoever is not answered pays one token");
    assert_eq!(fair.service(), Some(Duration::from_nanos(5)));
}

#[test]
fn a_prediction_that_was_far_too_high_keeps_nobody_waiting() {
    let mut fair = Fair::new(bounds(100));
    let long = |tenant| Ask { output: 4_096, ..ask(tenant, Priority::Standard) };
    for _ in 0..20 {
        fair.arrive(long("flood"), "flood", 0).unwrap();
    }
    let inside: Vec<_> = (0..2)
        .filter_map(|_| match fair.next(1, |_, _| Fit::Now) {
            Next::Go(_, charge) => Some(charge),
            Next::Never(_) | Next::Wait(_) => None,
        })
        .collect();
    fair.arrive(long("quiet"), "quiet", 2).unwrap();
    for charge in inside {
        fair.end(charge, Some((3, 1)), 3);
    }
    assert_eq!(go(fair.next(3, |_, _| Fit::Now)), Some("quiet"));
}

/// What may happen to the line.
#[derive(Debug, Clone)]
enum Step {
    Arrive {
        tenant: u8,
        class: u8,
        lane: u8,
    },
    Leave(prop::sample::Index),
    /// There is room in these lanes for so many.
    Room {
        lanes: u8,
        places: u8,
    },
    End(prop::sample::Index, bool),
    Direct {
        tenant: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5u8, 0..3u8, 0..3u8).prop_map(|(tenant, class, lane)| Step::Arrive { tenant, class, lane }),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        2 => (0..8u8, 0..4u8).prop_map(|(lanes, places)| Step::Room { lanes, places }),
        2 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, answered)| Step::End(at, answered)),
        1 => (0..5u8).prop_map(|tenant| Step::Direct { tenant }),
    ]
}

proptest! {
    /// Whatever happens in whatever order: everybody who waits is served once, leaves, or makes room, and is then gone; of one
    /// tenant and lane the first comes first; what is free is given away; nothing is left behind.
    #[test]
    fn nobody_is_lost_doubled_or_overtaken_by_their_own(steps in prop::collection::vec(step(), 1..200)) {
        let mut fair = Fair::new(bounds(12));
        let mut waiting: BTreeMap<u32, Ticket> = BTreeMap::new();
        let mut lines: BTreeMap<(String, u8, u64), VecDeque<u32>> = BTreeMap::new();
        let mut inside: Vec<Charge> = Vec::new();
        let (mut next, mut now) = (0, 0);
        let forget = |lines: &mut BTreeMap<_, VecDeque<u32>>, who: u32| {
            lines.values_mut().for_each(|line| line.retain(|one| *one != who));
        };
        for step in steps {
            now += SECOND / 3;
            match step {
                Step::Arrive { tenant, class, lane } => {
                    next += 1;
                    let tenant = format!("t{tenant}");
                    let one = Ask { lane: u64::from(lane), ..ask(&tenant, Priority::ALL[usize::from(class)]) };
                    if let Ok((ticket, left)) = fair.arrive(one, next, now) {
                        waiting.insert(next, ticket);
                        lines.entry((tenant, class, u64::from(lane))).or_default().push_back(next);
                        if let Some(left) = left {
                            prop_assert!(waiting.remove(&left).is_some());
                            forget(&mut lines, left);
                        }
                    }
                }
                Step::Leave(at) if !waiting.is_empty() => {
                    let who = *at.get(&waiting.keys().copied().collect::<Vec<_>>());
                    let ticket = waiting.remove(&who).unwrap();
                    prop_assert!(fair.leave(&ticket));
                    prop_assert!(!fair.leave(&ticket), "nobody leaves twice");
                    forget(&mut lines, who);
                }
                Step::Leave(_) => {}
                Step::Room { lanes, places } => {
                    for _ in 0..places {
                        let open = |lane: u64| lanes & (1 << lane) != 0;
                        let fits = |ask: &Ask, _: &u32| if open(ask.lane) { Fit::Now } else { Fit::Lane };
                        match fair.next(now, fits) {
                            Next::Go(who, charge) => {
                                prop_assert!(waiting.remove(&who).is_some(), "served once");
                                let line = lines.iter_mut().find(|(_, line)| line.contains(&who));
                                let (name, line) = line.unwrap();
                                prop_assert!(open(name.2));
                                prop_assert_eq!(line.pop_front(), Some(who), "the first comes first");
                                inside.push(charge);
                            }
                            Next::Wait(_) => {
                                let some = lines.iter().any(|(name, line)| open(name.2) && !line.is_empty());
                                prop_assert!(!some, "a place was free and somebody fitted");
                            }
                            Next::Never(_) => prop_assert!(false),
                        }
                    }
                }
                Step::End(at, answered) if !inside.is_empty() => {
                    let charge = inside.swap_remove(at.index(inside.len()));
                    fair.end(charge, answered.then_some((90, 70)), now);
                }
                Step::End(..) => {}
                Step::Direct { tenant } => {
                    inside.push(fair.serve(&ask(&format!("t{tenant}"), Priority::Standard), now));
                }
            }
            prop_assert_eq!(fair.waiting(), waiting.len());
            prop_assert!(fair.waiting() <= 12);
        }
        for ticket in waiting.values() {
            prop_assert!(fair.leave(ticket));
        }
        for charge in inside {
            fair.end(charge, None, now);
        }
        prop_assert_eq!(fair.waiting(), 0);
        prop_assert_eq!(fair.tokens(), (0, 0));
    }
}
