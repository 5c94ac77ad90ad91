//! Quotas of providers over several gateways, against a real server and a ledger in memory.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

use std::collections::HashMap;
use std::future::ready;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use penstock_admission::ledger::{
    Batch, Called, GatewayId, LedgerStore, Pending, Recovered, Sums, Tended, Written,
};
use penstock_admission::shared::{Failure, Keeper, Standing, Terms};
use penstock_admission::{
    Admission, Allowance, Budget, Claim, Level, Limits, Need, Now, Output, Permit, Quota, Rules, Short,
    Stake, Truth,
};
use penstock_config::{Per, Usd};
use penstock_domain::{Code, Cost, Money, RequestId, Secret, Tags, Usage};
use penstock_store_redis::RedisShared;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server of the test's own, which ends with it.
struct Server(Child, u16);

impl Server {
    fn start() -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed; `./test` does so");
        Self(child, port)
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What all gateways write to.
#[derive(Default)]
struct Ledger {
    totals: Mutex<HashMap<Box<str>, u64>>,
}

const GATEWAYS: [&str; 2] = ["one", "two"];

impl Ledger {
    fn paid(&self, provider: &str) -> u64 {
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.get(provider).copied().unwrap_or_default()
    }
}

impl LedgerStore for Ledger {
    fn write<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Written> {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let mut written = Written::default();
        for call in batch.closed.iter().flat_map(|entry| entry.calls.iter()) {
            let total = totals.entry((&*call.provider).into()).or_default();
            *total += call.micros;
            written.totals.push((Level::Provider, (&*call.provider).into(), *total));
        }
        Box::pin(ready(Ok(written)))
    }

    fn recover(&self, _: SystemTime) -> Pending<'_, Recovered> {
        Box::pin(ready(Ok(Recovered::default())))
    }

    fn tend(&self, _: SystemTime) -> Pending<'_, Tended> {
        let living = GATEWAYS.map(GatewayId::new).to_vec();
        Box::pin(ready(Ok(Tended { living, ..Tended::default() })))
    }

    fn spent<'a>(&'a self, accounts: &'a [(Level, Arc<str>)], _: SystemTime) -> Pending<'a, Vec<Sums>> {
        let sums = |(level, name): &(Level, Arc<str>)| {
            let lifetime = if *level == Level::Provider { self.paid(name) } else { 0 };
            Sums { lifetime, month: lifetime, day: lifetime }
        };
        Box::pin(ready(Ok(accounts.iter().map(sums).collect())))
    }
}

struct Gateway {
    admission: Arc<Admission>,
    quota: Arc<Quota>,
}

impl Gateway {
    async fn start(name: &str, server: &Server, ledger: &Arc<Ledger>, allowance: Allowance) -> Self {
        Self::with(name, (server, ledger), (allowance, Failure::Local)).await
    }

    async fn with(
        name: &str,
        (server, ledger): (&Server, &Arc<Ledger>),
        (allowance, failure): (Allowance, Failure),
    ) -> Self {
        let id = GatewayId::new(name);
        let address = Secret::new(format!("redis://127.0.0.1:{}", server.1));
        let shared = RedisShared::new(&address, id.clone()).expect("an address");
        let terms = Terms { timeout: Duration::from_secs(5), failure };
        let store = Arc::clone(ledger) as Arc<dyn LedgerStore>;
        let (keeper, link) = Keeper::new(id, Arc::clone(&store)).sharing(Arc::new(shared), terms);
        let (admission, mut writer) = Admission::with_ledger(Instant::now(), store);
        writer.tell(&link);
        tokio::spawn(writer.run());
        tokio::spawn(keeper.run());
        let admission = Arc::new(admission.share(Arc::clone(&link)));
        let quota = Arc::new(Quota::of(&admission, &"vendor".into()));
        quota.adopt(&allowance, Instant::now());
        Self { admission, quota }
    }

    async fn stands(&self, standing: Standing) {
        let link = self.admission.link().expect("they share");
        until(async || link.standing() == standing).await;
    }

    /// A call that begins, as a door lets it in.
    async fn begin(&self, need: Need) -> Result<Stake, Short> {
        let now = Now::read();
        if let Some(short) = self.quota.shut(&need, false, now) {
            return Err(short);
        }
        let mut stake = self.quota.take(need, now);
        let question = stake.question().expect("there are others");
        match question.ask().await {
            Ok(()) => Ok(stake),
            Err(short) => {
                stake.end(Need::default(), Now::read());
                Err(short)
            }
        }
    }

    fn permit(&self) -> Permit {
        let key = Arc::from("key_a");
        let claim = Claim {
            id: &RequestId::new("req_1"),
            tags: &Tags::default(),
            key: &key,
            own: Allowance::default(),
            team: None,
            model: None,
            input: 1,
            output: Output::Bound(1),
            tariff: None,
        };
        self.admission.reserve(&Rules::default(), claim, Now::read(), || 1).1.expect("no limits")
    }

    /// A request with one call that costs so much, from its beginning to its end.
    async fn pay(&self, stake: Stake, micros: u64) {
        let mut permit = self.permit();
        permit.confirm().await.1.expect("no limits");
        let stake = stake.end(Need { micros, ..Need::default() }, Now::read());
        permit.called(vec![Called { provider: "vendor".into(), micros, stake: Some(stake) }]);
        let cost = Cost::Known(Money::from_micros(micros));
        let usage = Some(Usage { input: 1, output: 1, ..Usage::default() });
        let truth = Truth { usage, cost, ..Truth::default() };
        permit.settle(truth, SystemTime::now(), Now::read());
    }

    /// How all gateways see it: in flight, held money, spent.
    async fn seen(&self) -> (u32, u64, u64) {
        self.admission.look_around().await;
        let standing = self.quota.standing(Now::read());
        (standing.in_flight, standing.held.micros, standing.spent.lifetime)
    }
}

async fn until(mut what: impl AsyncFnMut() -> bool) {
    let look = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("in time");
}

async fn two(server: &Server, allowance: Allowance) -> (Arc<Ledger>, [Gateway; 2]) {
    let ledger = Arc::new(Ledger::default());
    let [one, two] = GATEWAYS;
    let pair = [
        Gateway::start(one, server, &ledger, allowance).await,
        Gateway::start(two, server, &ledger, allowance).await,
    ];
    for gateway in &pair {
        gateway.stands(Standing::Here).await;
    }
    (ledger, pair)
}

fn costs(micros: u64) -> Need {
    Need { input: 10, output: 10, micros }
}

fn budget(micros: u64) -> Allowance {
    let budget = Some(Budget::new(Usd(Money::from_micros(micros)), Per::Month));
    Allowance { limits: Limits::default(), budget }
}

#[tokio::test]
async fn a_providers_rate_holds_for_two_gateways_together() {
    let server = Server::start();
    let limits = Limits { requests_per_day: Some(10), ..Limits::default() };
    let (_, gateways) = two(&server, Allowance { limits, budget: None }).await;
    let mut stakes = Vec::new();
    let mut refused = 0;
    for turn in 0..20 {
        match gateways[turn % 2].begin(costs(0)).await {
            Ok(stake) => stakes.push((turn % 2, stake)),
            Err(short) => {
                refused += 1;
                assert!(short.error.say().contains("the provider vendor may make 10 requests per day"));
                assert!(short.wait.is_some_and(|wait| wait > Duration::from_secs(60)), "{short:?}");
            }
        }
    }
    assert_eq!((stakes.len(), refused), (10, 10));
    for (_, stake) in stakes {
        stake.end(costs(0), Now::read());
    }
    until(async || gateways[0].seen().await.0 == 0 && gateways[1].seen().await.0 == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_calls_at_once_never_spend_more_than_the_budget_and_the_ledger_says_the_same() {
    let server = Server::start();
    let (ledger, gateways) = two(&server, budget(1_000)).await;
    let gateways = gateways.map(Arc::new);
    let mut calls = tokio::task::JoinSet::new();
    for call in 0..500 {
        let gateway = Arc::clone(&gateways[call % 2]);
        calls.spawn(async move {
            let Ok(stake) = gateway.begin(costs(100)).await else { return 0 };
            tokio::task::yield_now().await;
            // It was foreseen to cost more than it did.
            gateway.pay(stake, 70).await;
            70
        });
    }
    let mut spent = 0;
    while let Some(paid) = calls.join_next().await {
        spent += paid.expect("no call is wrong");
    }
    assert!((700..=1_000).contains(&spent), "{spent}");
    until(async || ledger.paid("vendor") == spent).await;
    for gateway in &gateways {
        until(async || gateway.seen().await == (0, 0, spent)).await;
    }
    let left = 1_000 - spent;
    assert!(gateways[0].begin(costs(left + 1)).await.is_err(), "that much is not left");
    let stake = gateways[1].begin(costs(left)).await.expect("so much is");
    stake.end(Need::default(), Now::read());
}

#[tokio::test]
async fn what_was_asked_for_and_not_awaited_is_given_back() {
    let server = Server::start();
    let (_, gateways) = two(&server, budget(1_000)).await;
    let mut stake = gateways[0].quota.take(costs(900), Now::read());
    let question = stake.question().expect("there are others");
    let asked = tokio::time::timeout(Duration::ZERO, question.ask()).await;
    assert!(asked.is_err(), "there is no answer in no time");
    stake.end(Need::default(), Now::read());
    until(async || gateways[1].begin(costs(1_000)).await.is_ok()).await;
}

#[tokio::test]
async fn without_redis_each_gateway_goes_by_its_part_or_admits_nothing_as_the_policy_says() {
    let mut server = Server::start();
    let limits = Limits { requests_per_day: Some(10), ..Limits::default() };
    let allowance = Allowance { limits, budget: None };
    let ledger = Arc::new(Ledger::default());
    let local = Gateway::start(GATEWAYS[0], &server, &ledger, allowance).await;
    let strict = Gateway::with(GATEWAYS[1], (&server, &ledger), (allowance, Failure::Refuse)).await;
    for gateway in [&local, &strict] {
        gateway.stands(Standing::Here).await;
    }
    let link = local.admission.link().expect("they share");
    until(async || link.gateways() == 2).await;
    server.kill();
    for gateway in [&local, &strict] {
        gateway.stands(Standing::Away).await;
    }
    let mut stakes = Vec::new();
    while let Ok(stake) = local.begin(costs(0)).await {
        stakes.push(stake);
    }
    assert_eq!(stakes.len(), 5, "half of ten");
    let short = strict.begin(costs(0)).await.expect_err("nothing runs without asking");
    assert_eq!((short.error.code(), short.wait), (Code::StoreUnavailable, None));
    for stake in stakes {
        stake.end(costs(0), Now::read());
    }
}
