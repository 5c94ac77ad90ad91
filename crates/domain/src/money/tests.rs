use proptest::prelude::*;

use super::*;

fn price(text: &str) -> Price {
    Price::per_million(text).unwrap()
}

fn micros(cost: Cost) -> u64 {
    cost.known().expect("a known cost").micros()
}

#[test]
fn prices_are_read_exactly_or_not_at_all() {
    for (text, picos) in [
        ("1.25", 1_250_000),
        ("0.125", 125_000),
        ("10", 10_000_000),
        ("0.000001", 1),
        ("0", 0),
        ("1000000", 1_000_000_000_000),
    ] {
        assert_eq!(Price::per_million(text).map(Price::picos), Some(picos), "{text}");
        assert_eq!(price(text).to_string(), text);
    }
    for bad in [
        "",
        ".",
        "1.",
        ".5",
        "-1",
        "+1",
        "1e3",
        "1,5",
        " 1",
        "0.0000001",
        "1000000.1",
        "99999999",
        "NaN",
        "١",
    ] {
        assert_eq!(Price::per_million(bad), None, "{bad}");
    }
}

#[test]
fn a_cost_is_rounded_once_and_half_up() {
    let tariff = Tariff { rates: Rates { input: price("0.5"), ..Rates::default() }, long: None };
    let cost = |input| micros(tariff.cost(&Usage { input, ..Usage::default() }));
    assert_eq!([0, 1, 2, 3, 4].map(cost), [0, 1, 1, 2, 2]);
    // Three parts of 0.4 micro-dollars are 1.2, not three times nothing.
    let parts = Rates {
        input: price("0.4"),
        cached_input: Some(price("0.4")),
        output: Some(price("0.4")),
        ..Rates::default()
    };
    let usage = Usage { input: 2, cached_input: Some(1), output: 1, ..Usage::default() };
    assert_eq!(micros(Tariff { rates: parts, long: None }.cost(&usage)), 1);
}

#[test]
fn every_kind_has_its_own_price_and_falls_back_as_vendors_bill() {
    let usage = Usage {
        input: 1_000_000,
        output: 1_000_000,
        cached_input: Some(100_000),
        cache_write: Some(200_000),
        cache_write_hour: Some(50_000),
        reasoning: Some(400_000),
        doubtful: false,
    };
    let bare = Rates { input: price("3"), output: Some(price("15")), ..Rates::default() };
    let cost = |rates| micros(Tariff { rates, long: None }.cost(&usage));
    assert_eq!(cost(bare), 18_000_000);
    assert_eq!(cost(Rates { cached_input: Some(price("0.3")), ..bare }), 18_000_000 - 270_000);
    let writes = Rates { cache_write: Some(price("3.75")), ..bare };
    assert_eq!(cost(writes), 18_000_000 + 150_000);
    assert_eq!(cost(Rates { cache_write_hour: Some(price("6")), ..writes }), 18_000_000 + 112_500 + 150_000);
    assert_eq!(cost(Rates { reasoning: Some(price("5")), ..bare }), 14_000_000);
}

#[test]
fn an_answer_without_a_price_for_it_is_unknown_and_an_embedding_is_not() {
    let tariff = Tariff { rates: Rates { input: price("0.02"), ..Rates::default() }, long: None };
    assert_eq!(tariff.cost(&Usage { input: 1_000_000, ..Usage::default() }), Cost::Known(Money(20_000)));
    assert_eq!(tariff.cost(&Usage { input: 1, output: 1, ..Usage::default() }), Cost::Unknown);
}

#[test]
fn a_long_prompt_is_billed_as_a_whole_at_the_long_rates() {
    let rates = |input| Rates { input: price(input), output: Some(price("1")), ..Rates::default() };
    let tariff = Tariff { rates: rates("1"), long: Some((200_000, rates("2"))) };
    let cost = |input| micros(tariff.cost(&Usage { input, ..Usage::default() }));
    assert_eq!((cost(200_000), cost(200_001)), (200_000, 400_002));
}

#[test]
fn money_reads_as_dollars_and_saturates() {
    assert_eq!(Money::from_micros(1_234).to_string(), "0.001234");
    assert_eq!(Money::from_micros(12_000_000).to_string(), "12.000000");
    assert_eq!(Money::MAX.plus(Money::from_micros(1)), Money::MAX);
    assert_eq!(Money::from_micros(u64::MAX), Money::MAX);
}

/// The decimal text of a price, and the same price as a fraction.
fn decimal() -> impl Strategy<Value = (String, u128, u128)> {
    (0u32..=999_999, 0usize..=6, 0u32..=999_999).prop_map(|(whole, places, part)| {
        if places == 0 {
            return (whole.to_string(), u128::from(whole), 1);
        }
        let scale = 10u128.pow(places as u32);
        let part = u128::from(part) % scale;
        (format!("{whole}.{part:0places$}"), u128::from(whole) * scale + part, scale)
    })
}

proptest! {
    /// The cost is what exact fractions give, rounded half up; independent of how prices are kept.
    #[test]
    fn costs_agree_with_rational_arithmetic(
        (text, numerator, denominator) in decimal(),
        tokens in 0u64..1 << 40,
    ) {
        let tariff = Tariff { rates: Rates { input: price(&text), ..Rates::default() }, long: None };
        let cost = tariff.cost(&Usage { input: tokens, ..Usage::default() });
        // USD per million tokens times tokens is micro-dollars; adding a half before the division rounds.
        let exact = (2 * numerator * u128::from(tokens) + denominator) / (2 * denominator);
        prop_assert_eq!(u128::from(micros(cost)), exact.min(u128::from(Money::MAX.micros())));
    }

    /// No price and no count overflows, and what cannot be counted any more is the largest amount.
    #[test]
    fn nothing_overflows(usage in any_usage(), rates in any_rates(), over in any::<u64>()) {
        let tariff = Tariff { rates, long: Some((over, rates)) };
        prop_assert!(micros(tariff.cost(&usage)) <= Money::MAX.micros());
    }

    /// More tokens of any kind never cost less, while their whole grows with them; contradictions are cut, not counted.
    #[test]
    fn more_tokens_never_cost_less(usage in any_usage(), rates in any_rates(), more in any::<u32>()) {
        let tariff = Tariff { rates, long: None };
        let before = micros(tariff.cost(&usage));
        let more = u64::from(more);
        let plus = |whole: u64| whole.saturating_add(more);
        for grown in [
            Usage { input: plus(usage.input), ..usage },
            Usage { output: plus(usage.output), ..usage },
            Usage { input: plus(usage.input), cached_input: usage.cached_input.map(plus), ..usage },
            Usage { output: plus(usage.output), reasoning: usage.reasoning.map(plus), ..usage },
        ] {
            prop_assert!(micros(tariff.cost(&grown)) >= before, "{:?} {:?}", usage, grown);
        }
    }
}

fn any_price() -> impl Strategy<Value = Price> {
    (0..=Price::MAX.picos()).prop_map(Price)
}

fn any_rates() -> impl Strategy<Value = Rates> {
    let part = || proptest::option::of(any_price());
    (any_price(), any_price(), part(), part(), part(), part()).prop_map(
        |(input, output, cached_input, cache_write, cache_write_hour, reasoning)| Rates {
            input,
            output: Some(output),
            cached_input,
            cache_write,
            cache_write_hour,
            reasoning,
        },
    )
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let count = || prop_oneof![0u64..1 << 20, any::<u64>()];
    let part = || proptest::option::of(prop_oneof![0u64..1 << 18, any::<u64>()]);
    (count(), count(), part(), part(), part(), part()).prop_map(
        |(input, output, cached_input, cache_write, cache_write_hour, reasoning)| Usage {
            input,
            output,
            cached_input,
            cache_write,
            cache_write_hour,
            reasoning,
            doubtful: false,
        },
    )
}
