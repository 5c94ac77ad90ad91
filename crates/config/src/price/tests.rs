use std::path::Path;
use std::time::{Duration, SystemTime};

use penstock_domain::{Cost, Money, Usage};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{KindSchemas, Loaded, MapEnvironment, Problem, Registry, Settings, load, show};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Plain {}

impl Settings for Plain {
    const KIND: &'static str = "plain";
}

fn load_with(rest: &str) -> Result<Loaded, Vec<Problem>> {
    let mut registry: Registry<str, ()> = Registry::new();
    registry.register::<Plain>(|Plain {}, ()| Ok(std::sync::Arc::from("")));
    let kinds = KindSchemas { providers: registry.kinds().clone() };
    let text = format!("version: 1\nproviders: {{p: {{kind: plain}}}}\n{rest}");
    load(Path::new("penstock.yaml"), &MapEnvironment::default().with_file("penstock.yaml", &text), &kinds)
}

fn priced(price: &str) -> Result<Loaded, Vec<Problem>> {
    load_with(&format!("models: {{m: {{provider: p, model: x, price: {price}}}}}\n"))
}

fn problem(price: &str) -> String {
    let found = priced(price).expect_err(price);
    let found = found.iter().find(|problem| problem.is_error()).expect("an error");
    format!("{}: {}", found.path, found.message)
}

#[test]
fn a_price_is_taken_digit_by_digit() {
    let loaded = priced("{input: 1.25, cached_input: 0.125, cache_write: \"1.5625\", output: 10}").unwrap();
    let tariffs = loaded.config.models["m"].price.as_ref().unwrap().tariffs();
    let [(since, tariff)] = tariffs.as_slice() else { panic!("{tariffs:?}") };
    assert_eq!(*since, SystemTime::UNIX_EPOCH);
    let picos = |price: Option<penstock_domain::Price>| price.map(penstock_domain::Price::picos);
    assert_eq!(tariff.rates.input.picos(), 1_250_000);
    assert_eq!(picos(tariff.rates.cached_input), Some(125_000));
    assert_eq!(picos(tariff.rates.cache_write), Some(1_562_500));
    assert_eq!(picos(tariff.rates.output), Some(10_000_000));
    assert_eq!((tariff.rates.reasoning, tariff.long), (None, None));
    assert_eq!(show(&loaded)["models"]["m"]["price"]["input"], 1.25, "shown as the number that it is");
}

#[test]
fn what_is_no_price_is_refused_where_it_stands() {
    for (price, wanted) in [
        ("{input: -1, output: 2}", "models.m.price.input: must be at least 0"),
        ("{input: 2000000}", "models.m.price.input: must be at most 1000000"),
        ("{input: 1e3}", "models.m.price.input: expected a price such as 1.25"),
        ("{input: 0.0000001}", "models.m.price.input: expected a price such as 1.25"),
        ("{input: cheap}", "models.m.price.input: expected a price such as 1.25"),
        ("{output: 2}", "models.m.price.input: `input` is missing"),
        ("{input: 1, inptu: 2}", "models.m.price.inptu: unknown setting"),
        ("[]", "models.m.price: expected at least 1"),
        ("[{from: soon, input: 1}]", "models.m.price[0].from: expected a time"),
        ("[{input: 1}, {input: 2}]", "models.m.price[1]: price[0] already holds"),
        (
            "[{from: 2026-01-01, input: 1}, {from: \"2026-01-01T00:00:00Z\", input: 2}]",
            "models.m.price[1]: price[0] already holds",
        ),
        ("{input: 1, long: {input: 2}}", "models.m.price.long.over: `over` is missing"),
    ] {
        let found = problem(price);
        assert!(found.starts_with(wanted), "{price}: {found}");
    }
}

#[test]
fn dated_prices_come_sorted_whatever_their_order_in_the_file() {
    let loaded = priced("[{from: 2026-06-01, input: 2}, {from: 2026-01-01, input: 1}, {input: 3}]").unwrap();
    let tariffs = loaded.config.models["m"].price.as_ref().unwrap().tariffs();
    let cost = |(_, tariff): &(SystemTime, penstock_domain::Tariff)| {
        tariff.cost(&Usage { input: 1_000_000, ..Usage::default() })
    };
    let dollars = |n: u64| Cost::Known(Money::from_micros(n * 1_000_000));
    assert_eq!(tariffs.iter().map(cost).collect::<Vec<_>>(), [dollars(3), dollars(1), dollars(2)]);
    assert_eq!(tariffs[1].0, SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600));
}

#[test]
fn long_prompts_may_cost_more() {
    let loaded = priced("{input: 1.25, output: 10, long: {over: 200000, input: 2.5, output: 15}}").unwrap();
    let tariff = loaded.config.models["m"].price.as_ref().unwrap().tariffs()[0].1;
    let long = Usage { input: 200_001, ..Usage::default() };
    assert_eq!(tariff.cost(&long), Cost::Known(Money::from_micros(500_003)));
}

#[test]
fn capture_of_a_team_is_off_unless_told_and_what_nothing_acts_on_is_refused() {
    let loaded = load_with(
        "teams: {support: {capture: {content: true, retention: 2h}}, quiet: {}, half: {capture: {content: true}}}\n",
    )
    .unwrap();
    let capture = |team: &str| loaded.config.teams[team].capture;
    assert!(capture("support").content && capture("support").retention.0 == Duration::from_secs(7200));
    assert!(!capture("quiet").content);
    assert_eq!(capture("half").retention.0, Duration::from_secs(7 * 86_400));
    let found = load_with("teams: {support: {guardrails: [default]}}\n").unwrap_err();
    let later = |problem: &&Problem| problem.message.ends_with("is not available in this version");
    assert_eq!(found.iter().filter(later).count(), 1, "{found:?}");
}

#[test]
fn records_are_kept_thirty_days_unless_told_and_never_for_no_time() {
    let retention = |text: &str| load_with(text).unwrap().config.records.retention.0;
    assert_eq!(retention(""), Duration::from_secs(30 * 86_400));
    assert_eq!(retention("records: {retention: 12h}\n"), Duration::from_secs(12 * 3600));
    let found =
        load_with("records: {retention: 0s}\nteams: {a: {capture: {content: true, retention: 0d}}}\n");
    let paths: Vec<_> = found.unwrap_err().into_iter().filter(Problem::is_error).map(|p| p.path).collect();
    assert_eq!(paths, ["records.retention", "teams.a.capture.retention"]);
}
