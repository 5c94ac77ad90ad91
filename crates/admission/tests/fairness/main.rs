//! What the fair queue promises, over whole runs of a simulated engine.

mod sim;

use std::sync::Arc;

use penstock_admission::fair::OUTPUT_WEIGHT;
use penstock_domain::Priority;
use sim::{Arrival, Order, simulate};

const SECOND: u64 = 1_000_000_000;

/// A small generator (Marsaglia's xorshift), so that a failure can be repeated.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most.max(1)
    }

    /// A time until the next arrival, with this mean (exponential).
    fn gap(&mut self, mean: f64) -> u64 {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        (-(1.0 - unit).ln() * mean) as u64
    }
}

fn arrival(tenant: &str, at: u64, (input, output): (u64, u64)) -> Arrival {
    Arrival { at, tenant: tenant.into(), class: Priority::Standard, weight: 1, input, output, patience: None }
}

/// The bound of theorem 4.4 of the paper on the service gap of two clients that always wait: 2 max(w_in L_in, w_out M), with M
/// the most tokens that a running batch can hold.
fn bound(places: u64, longest: (u64, u64)) -> u64 {
    2 * longest.0.max(OUTPUT_WEIGHT * places * (longest.0 + longest.1))
}

/// Two tenants that have all their requests in the line from the beginning.
fn backlog(chance: &mut Chance, (most_in, most_out): (u64, u64), each: usize) -> Vec<Arrival> {
    // One asks briefly and often, the other at length: what is fair among requests is not among tokens.
    let short = (0..each).map(|_| ("short", 1 + most_in / 8, 1 + most_out / 8));
    let long = (0..each).map(|_| ("long", most_in, most_out));
    short
        .chain(long)
        .map(|(name, input, output)| arrival(name, 0, (1 + chance.below(input), 1 + chance.below(output))))
        .collect()
}

#[test]
fn two_that_always_wait_are_served_alike_within_the_bound_of_the_paper() {
    let mut worst = 0.0_f64;
    for seed in 1..=40 {
        let mut chance = Chance(seed * 0x9e37_79b9);
        let places = 1 + chance.below(8);
        let longest = (1 + chance.below(4_000), 1 + chance.below(800));
        let arrivals = backlog(&mut chance, longest, 150);
        let run = simulate(&arrivals, (places as usize, 1_000), Order::Fair, Some(("short", "long")));
        let bound = bound(places, longest);
        assert!(run.gap <= bound, "seed {seed}: {} of {bound}", run.gap);
        worst = worst.max(run.gap as f64 / bound as f64);
        // In the order of their coming, the one that asks at length gets several times as much.
        let unfair = simulate(&arrivals, (places as usize, 1_000), Order::FirstCome, None);
        let tokens = |name: &str| unfair.told[name].tokens;
        assert!(tokens("long") > 3 * tokens("short"));
    }
    assert!(worst > 0.05, "a test that never comes near its bound proves little: {worst}");
}

#[test]
fn a_share_is_as_large_as_its_weight_while_both_wait() {
    let of = |name: &str, weight| Arrival { weight, ..arrival(name, 0, (80, 40)) };
    let arrivals: Vec<_> = (0..400).flat_map(|_| [of("short", 1), of("long", 3)]).collect();
    let run = simulate(&arrivals, (2, 2_000), Order::Fair, Some(("short", "long")));
    assert!(run.gap <= bound(2, (80, 40)), "{}", run.gap);
    // As long as both wait: the first half of what was served.
    let half = &run.order[..run.order.len() / 2];
    let long = half.iter().filter(|name| &***name == "long").count() as f64 / half.len() as f64;
    assert!((0.74..0.76).contains(&long), "{long}");
}

#[test]
fn no_place_is_free_while_anybody_waits() {
    for seed in 1..=20 {
        let mut chance = Chance(seed * 7_919);
        let mut now = 0;
        let arrivals: Vec<_> = (0..400)
            .map(|n| {
                now += chance.gap(5e7);
                let class = Priority::ALL[chance.below(3) as usize];
                let patience = (chance.below(3) == 0).then(|| chance.below(SECOND));
                let size = (chance.below(500), 1 + chance.below(100));
                Arrival { class, patience, ..arrival(&format!("t{}", n % 7), now, size) }
            })
            .collect();
        let run = simulate(&arrivals, (3, 64), Order::Fair, None);
        assert_eq!(run.wasted, 0, "seed {seed}");
        let told = run.told.values();
        let ends: usize = told.map(|told| told.waits.len() + told.left + told.refused).sum();
        assert_eq!(ends, arrivals.len(), "every request ends in exactly one way");
    }
}

/// A tenant that asks every two seconds or so, at random, and mostly has its answer before it asks again.
fn quiet(chance: &mut Chance, seconds: u64) -> Vec<Arrival> {
    let mut now = 0;
    let mut all = Vec::new();
    loop {
        now += SECOND + chance.gap(SECOND as f64);
        if now > seconds * SECOND {
            return all;
        }
        all.push(arrival("quiet", now, (200 + chance.below(400), 10 + chance.below(40))));
    }
}

/// The longest that one request keeps a place, in seconds: what nobody can be spared who finds all places taken.
fn service(arrivals: &[Arrival]) -> f64 {
    let each = arrivals.iter().map(|one| one.input as f64 / 5_000.0 + one.output as f64 / 50.0);
    each.fold(0.0, f64::max)
}

#[test]
fn a_flood_costs_a_quiet_tenant_at_most_one_service_time() {
    let (mut chance, places) = (Chance(4_242), 4);
    let calm = quiet(&mut chance, 600);
    let alone = simulate(&calm, (places, 256), Order::Fair, None);
    let flood: Vec<_> = (0..20_000)
        .map(|n| arrival("flood", n * SECOND / 40, (200 + chance.below(400), 10 + chance.below(40))))
        .collect();
    let mut all = calm.clone();
    all.extend(flood);
    let fair = simulate(&all, (places, 256), Order::Fair, None);
    let first_come = simulate(&all, (places, 256), Order::FirstCome, None);
    let p99 = |run: &sim::Run| run.told["quiet"].quantile(990);
    assert!(p99(&fair) <= p99(&alone) + service(&all), "{} after {}", p99(&fair), p99(&alone));
    assert!(p99(&first_come) > 60.0, "the flood is one: {}", p99(&first_come));
    assert_eq!(fair.told["quiet"].refused, 0, "the flood makes room, not the quiet");
    assert!(fair.told["flood"].refused > 0);
}

#[test]
fn a_flood_beside_many_small_tenants_and_giant_prompts_costs_no_more() {
    let (mut chance, places) = (Chance(99), 4);
    let calm = quiet(&mut chance, 300);
    let size = |n: u64| (200 + n * 7 % 400, 10 + n * 3 % 40);
    // Fifty that together ask for half of what the engine can do.
    let many = (0..600).map(|n| arrival(&format!("many{}", n * 17 % 50), n * SECOND / 2, size(n)));
    let usual: Vec<_> = calm.into_iter().chain(many).collect();
    let flood = (0..9_000).map(|n| arrival("flood", n * SECOND / 30, size(n)));
    let giants = (0..60).map(|n| arrival("giant", n * 5 * SECOND, (20_000, 20)));
    let all: Vec<_> = usual.iter().cloned().chain(flood).chain(giants).collect();
    let p99 = |arrivals: &[Arrival], order| {
        simulate(arrivals, (places, 256), order, None).told["quiet"].quantile(990)
    };
    let (with, without) = (p99(&all, Order::Fair), p99(&usual, Order::Fair));
    assert!(with <= without + service(&usual), "{with} after {without}");
    assert!(p99(&all, Order::FirstCome) > 60.0);
}

#[test]
fn who_was_away_has_saved_up_nothing() {
    // `old` is served alone for a long time; when `new` comes, both wait from then on.
    let early = (0..500).map(|n| arrival("old", n * SECOND / 4, (100, 20)));
    let late = (0..300).flat_map(|_| ["old", "new"].map(|name| arrival(name, 200 * SECOND, (100, 20))));
    let arrivals: Vec<_> = early.chain(late).collect();
    let run = simulate(&arrivals, (2, 2_000), Order::Fair, Some(("old", "new")));
    let after = &run.order[500..700];
    let new = after.iter().filter(|name| &***name == "new").count();
    assert!((95..=106).contains(&new), "{new} of 200 turns");
    assert!(run.gap <= bound(2, (100, 20)));
}

#[test]
fn batch_waits_behind_interactive_and_still_gets_its_eighth() {
    let mut chance = Chance(5);
    let urgent = (0..4_000).map(|n| Arrival {
        class: Priority::Interactive,
        // More than the engine can do, for ever.
        ..arrival("people", n * SECOND / 10, (100, 25))
    });
    let batch = (0..100)
        .map(|_| Arrival { class: Priority::Batch, ..arrival("night", 0, (100 + chance.below(10), 25)) });
    let arrivals: Vec<_> = urgent.chain(batch).collect();
    let run = simulate(&arrivals, (2, 4_000), Order::Fair, None);
    let night: Vec<usize> =
        run.order.iter().enumerate().filter(|(_, name)| &***name == "night").map(|(at, _)| at).collect();
    assert_eq!(night.len(), 100, "all of it was served");
    // Two places were free before anybody waited; then nothing before a quarter of the longest wait, then every eighth turn.
    let waited: Vec<usize> = night.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waited[5..90].iter().all(|turns| (7..=9).contains(turns)), "{waited:?}");
}

#[test]
fn names_of_tenants_are_forgotten() {
    let arrivals: Vec<Arrival> =
        (0..5_000u64).map(|n| arrival(&format!("t{n}"), n * SECOND, (10, 1))).collect();
    let run = simulate(&arrivals, (1, 10), Order::Fair, None);
    assert_eq!(run.told.len(), 5_000);
    let mut fair = penstock_admission::fair::Fair::<()>::new(penstock_admission::fair::Bounds {
        max_waiting: 10,
        max_wait: std::time::Duration::from_secs(1),
    });
    for (n, one) in arrivals.iter().enumerate() {
        let ask = penstock_admission::fair::Ask {
            tenant: Arc::clone(&one.tenant),
            weight: 1,
            class: one.class,
            lane: 0,
            input: 10,
            output: 1,
        };
        let charge = fair.serve(&ask, n as u64);
        fair.end(charge, Some((10, 1)), n as u64 + 1);
    }
    assert!(fair.remembered() < 200, "{}", fair.remembered());
}
