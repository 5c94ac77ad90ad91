//! The promises of the port, against a real server and beside a model that is simple enough to be believed.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which the lint takes for the program"
)]

use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use penstock_admission::ledger::{GatewayId, Sums};
use penstock_admission::shared::{Changes, Hold, Phase, Place, Put, Reply, Seed, Seen, Share, Shared};
use penstock_admission::{Allowance, Budget, Level, Limits, Need};
use penstock_config::{Per, Usd};
use penstock_domain::{Money, Secret};
use penstock_store_redis::RedisShared;

/// A server of the test's own, which ends with it.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed; `./test` does so");
        Self { child, port }
    }

    async fn gateway(&self, name: &str) -> (RedisShared, GatewayId) {
        let id = GatewayId::new(name);
        let address = Secret::new(format!("redis://127.0.0.1:{}", self.port));
        let shared = RedisShared::new(&address, id.clone()).expect("an address");
        for _ in 0..500 {
            if shared.greet(false).await.is_ok() {
                let complete = Changes { complete: true, ..Changes::default() };
                shared.put(&complete).await.expect("known from now on");
                return (shared, id);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("Redis does not answer");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shares(limits: Limits, micros: u64) -> Arc<[Share]> {
    let budget = Some(Budget::new(Usd(Money::from_micros(micros)), Per::Lifetime));
    let share = |level, name: &str| Share {
        place: Place { level, name: name.into() },
        allowance: Allowance { limits, budget },
        names: None,
    };
    [share(Level::Key, "key_a"), share(Level::Organisation, "")].into()
}

fn seeds(shares: &[Share], lifetime: u64) -> Changes {
    let sums = Sums { day: 0, month: 0, lifetime };
    let seed = |share: &Share| Seed {
        place: share.place.clone(),
        names: vec![(Arc::clone(&share.place.name), sums)],
        period: (1, 1),
    };
    Changes { seeds: shares.iter().map(seed).collect(), ..Changes::default() }
}

fn put(number: u64, phase: Phase, amount: Need, shares: &Arc<[Share]>) -> Put {
    Put { number, phase, amount, shares: Arc::clone(shares) }
}

async fn look(gateway: &RedisShared, shares: &Arc<[Share]>) -> Vec<Seen> {
    let seen = gateway.look(shares).await.expect("readable");
    seen.into_iter().map(|seen| seen.expect("known")).collect()
}

/// What one request is in the model.
#[derive(Clone, Copy)]
enum State {
    Holds(Need),
    Ended(u64),
}

/// Marsaglia's xorshift, so that a failure can be repeated.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The model: what three gateways have open, and what the ledger says.
struct Model {
    open: HashMap<(usize, u64), State>,
    ledger: u64,
    budget: u64,
}

impl Model {
    fn held(&self) -> (u32, Need) {
        let holds = self.open.values().filter_map(|state| match state {
            State::Holds(need) => Some(*need),
            State::Ended(_) => None,
        });
        holds.fold((0, Need::default()), |(count, sum), need| {
            let micros = sum.micros + need.micros;
            (count + 1, Need { input: sum.input + need.input, output: sum.output + need.output, micros })
        })
    }

    fn unwritten(&self) -> u64 {
        let ended = self.open.values().map(|state| if let State::Ended(cost) = state { *cost } else { 0 });
        ended.sum()
    }

    fn fits(&self, ask: u64) -> bool {
        ask <= self.budget.saturating_sub(self.ledger + self.unwritten() + self.held().1.micros)
    }

    /// One of what the gateway has open, if anything.
    fn any_of(&self, at: usize, dice: u64) -> Option<(u64, State)> {
        let mine = self.open.iter().filter(|((gateway, _), _)| *gateway == at);
        let mine: BTreeMap<u64, State> = mine.map(|((_, number), state)| (*number, *state)).collect();
        let place = dice as usize % mine.len().max(1);
        mine.into_iter().nth(place)
    }

    /// A gateway dies, and the ledger settles what it held at something; says whether there was anything.
    fn die(&mut self, at: usize) -> bool {
        let before = self.open.len();
        for (_, state) in self.open.extract_if(|(gateway, _), _| *gateway == at) {
            self.ledger += match state {
                State::Holds(need) => need.micros / 2,
                State::Ended(cost) => cost,
            };
        }
        self.open.len() < before
    }

    /// Follows a change; says what a gateway would tell of it.
    fn change(&mut self, place: (usize, u64), before: State, put: Put) -> Changes {
        let mut changes = Changes::default();
        match put.phase {
            Phase::Held => drop(self.open.insert(place, State::Holds(put.amount))),
            Phase::Ended => drop(self.open.insert(place, State::Ended(put.amount.micros))),
            Phase::Gone => {
                self.open.remove(&place);
                if let State::Ended(cost) = before {
                    self.ledger += cost;
                }
                let total = |share: &Share| (share.place.clone(), Arc::clone(&share.place.name), self.ledger);
                changes.totals = put.shares.iter().map(total).collect();
            }
        }
        changes.puts = vec![put];
        changes
    }
}

#[tokio::test]
async fn no_interleaving_of_three_gateways_loses_or_invents_a_micro_dollar() {
    let server = Server::start();
    let mut dice = 88_172_645_463_325_252;
    let mut gateways = Vec::new();
    for name in ["one", "two", "three"] {
        gateways.push(server.gateway(name).await);
    }
    let mut model = Model { open: HashMap::new(), ledger: 1_000, budget: 800_000 };
    let shares = shares(Limits { concurrent_requests: Some(40), ..Limits::default() }, model.budget);
    gateways[0].0.put(&seeds(&shares, model.ledger)).await.expect("seeded");
    let (mut next, mut refused, mut held, mut buried) = (0_u64, 0, 0, 0);
    for step in 0..4_000 {
        let at = (random(&mut dice) % 3) as usize;
        let some = model.any_of(at, random(&mut dice));
        let gateway = &gateways[at].0;
        match (random(&mut dice) % 100, some) {
            // Reserve; now and then the question is asked twice.
            (0..45, _) | (_, None) => {
                next += 1;
                let ask = random(&mut dice) % 3_000;
                let need = Need { input: ask / 3, output: ask / 2, micros: ask };
                let hold = Hold { number: next, shares: Arc::clone(&shares), need };
                let fits = model.fits(ask) && model.held().0 < 40;
                let twice = if random(&mut dice).is_multiple_of(8) { 2 } else { 1 };
                for _ in 0..twice {
                    match gateway.reserve(&hold).await.expect("an answer") {
                        Reply::Held(_) => assert!(fits, "step {step}: held what does not fit"),
                        Reply::Refused(_) => assert!(!fits, "step {step}: refused what fits"),
                        other => panic!("{other:?}"),
                    }
                }
                (held, refused) = (held + u32::from(fits), refused + u32::from(!fits));
                if fits {
                    model.open.insert((at, next), State::Holds(need));
                }
            }
            // Top up, end, refund, be written; each said once or twice.
            (roll, Some((number, state))) if roll < 97 => {
                let (phase, amount) = match state {
                    State::Holds(need) if roll < 55 => {
                        let more = random(&mut dice) % 500;
                        (Phase::Held, Need { output: need.output + more, micros: need.micros + more, ..need })
                    }
                    State::Holds(_) if roll < 62 => (Phase::Gone, Need::default()),
                    State::Holds(need) => {
                        let cost = random(&mut dice) % (need.micros + 1);
                        (Phase::Ended, Need { input: 1, output: 1, micros: cost })
                    }
                    State::Ended(cost) => (Phase::Gone, Need { input: 1, output: 1, micros: cost }),
                };
                let place = (at, number);
                let changes = model.change(place, state, put(number, phase, amount, &shares));
                for _ in 0..1 + random(&mut dice) % 2 {
                    gateway.put(&changes).await.expect("brought");
                }
            }
            // Die: the ledger settles what it held at something, and another gateway buries it.
            _ => {
                buried += 1;
                let had = model.die(at);
                let (other, id) = (&gateways[(at + 1) % 3].0, &gateways[at].1);
                let places = other.bury(id, false).await.expect("names accounts");
                assert!(places.len() == 2 || !had);
                other.put(&seeds(&shares, model.ledger)).await.expect("brought");
                other.bury(id, true).await.expect("given back");
                gateways[at] = server.gateway(&format!("again-{step}")).await;
            }
        }
        let seen = look(&gateways[(at + 2) % 3].0, &shares).await;
        let (in_flight, held) = model.held();
        for one in seen {
            assert_eq!((one.in_flight, one.held), (in_flight, held), "step {step}");
            assert_eq!(one.spent.lifetime, model.ledger + model.unwritten(), "step {step}");
        }
    }
    assert!(held > 500 && refused > 100 && buried > 20, "{held} held, {refused} refused, {buried} buried");
}

#[tokio::test]
async fn a_rate_fills_as_the_local_bucket_does_and_says_the_same() {
    let server = Server::start();
    let (gateway, _) = server.gateway("one").await;
    let limits = Limits { requests_per_day: Some(3), tokens_per_day: Some(1_000), ..Limits::default() };
    let shares = shares(limits, 1_000_000);
    let need = Need { input: 100, output: 200, micros: 1 };
    let hold = |number| Hold { number, shares: Arc::clone(&shares), need };
    assert!(matches!(gateway.reserve(&hold(1)).await, Ok(Reply::Unknown(which)) if which == [0, 1]));
    gateway.put(&seeds(&shares, 0)).await.expect("seeded");
    for number in 1..=3 {
        assert!(matches!(gateway.reserve(&hold(number)).await, Ok(Reply::Held(_))), "{number}");
    }
    assert!(matches!(gateway.reserve(&hold(4)).await, Ok(Reply::Refused(_))), "three requests a day");
    let used = Need { input: 50, output: 50, micros: 1 };
    let puts = (1..=3).map(|number| put(number, Phase::Ended, used, &shares)).collect();
    gateway.put(&Changes { puts, ..Changes::default() }).await.expect("brought");
    // What leaks in the seconds that this takes: a token of a thousand a day takes 86 of them.
    let day = 86_400 * 1_000_000_000_u128;
    for seen in look(&gateway, &shares).await {
        let tokens = seen.rates.iter().map(|level| level.div_ceil(day)).collect::<Vec<_>>();
        assert_eq!((seen.held, seen.in_flight, tokens), (Need::default(), 0, vec![3, 300]));
    }
}

#[tokio::test]
async fn a_flushed_server_knows_nobody_until_all_is_brought_again() {
    let server = Server::start();
    let (gateway, _) = server.gateway("one").await;
    let shares = shares(Limits::default(), 1_000);
    gateway.put(&seeds(&shares, 100)).await.expect("seeded");
    let need = Need { input: 0, output: 0, micros: 400 };
    let hold = |number| Hold { number, shares: Arc::clone(&shares), need };
    assert!(matches!(gateway.reserve(&hold(1)).await, Ok(Reply::Held(_))));
    let flushed = Command::new("redis-cli").args(["-p", &server.port.to_string(), "FLUSHALL"]).output();
    assert!(flushed.is_ok_and(|done| done.status.success()));
    assert!(matches!(gateway.reserve(&hold(2)).await, Ok(Reply::Stranger)));
    let puts = vec![put(1, Phase::Held, need, &shares)];
    let refused = gateway.put(&Changes { puts: puts.clone(), ..Changes::default() }).await;
    assert!(refused.is_err(), "a stranger brings nothing");
    assert!(!gateway.greet(true).await.expect("an answer").known);
    let all = Changes { puts, complete: true, ..seeds(&shares, 100) };
    gateway.put(&all).await.expect("brought");
    let present = gateway.greet(true).await.expect("an answer");
    assert!(present.known && present.numbers == [1]);
    let seen = look(&gateway, &shares).await;
    assert_eq!((seen[0].held.micros, seen[0].spent.lifetime), (400, 100));
    assert!(matches!(gateway.reserve(&hold(2)).await, Ok(Reply::Held(_))));
    assert!(matches!(gateway.reserve(&hold(3)).await, Ok(Reply::Refused(_))), "100 are left");
}
