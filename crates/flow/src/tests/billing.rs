//! Every call that may be billed is on the bill, each with its own tokens and cost.

use penstock_domain::{Cost, Money};

use super::vendors::*;
use super::*;

fn costs(record: &Record) -> Vec<Option<u64>> {
    record.tries.iter().map(|one| one.cost.known().map(Money::micros)).collect()
}

#[tokio::test]
async fn a_refused_call_costs_nothing_beside_the_one_that_answered() {
    let refuse = Act::Refuse(Code::UpstreamError, None);
    let street = street(Layout::default(), vec![vec![refuse], vec![Act::Say(answer("Sea."))]]);
    let (_, record) = street.ask(asking()).await;
    assert_eq!(costs(&record), [Some(0), Some(15)]);
    assert_eq!((record.cost, record.estimated), (Cost::Known(Money::from_micros(15)), false));
    assert_eq!(record.usage, Some(Usage { input: 5, output: 1, ..Usage::default() }));
    assert_eq!(record.tries[0].usage, None);
}

#[tokio::test]
async fn a_call_that_failed_while_it_worked_is_estimated_beside_the_one_that_answered() {
    let silent = Act::Say(vec![Delta::Started(Default::default())]);
    let street = street(Layout::default(), vec![vec![silent], vec![Act::Say(answer("Sea."))]]);
    let (_, record) = street.ask(asking()).await;
    let [first, second] = &record.tries[..] else { panic!("two calls") };
    let prompt = first.usage.expect("may be billed").input;
    assert!((8..=16).contains(&prompt) && first.estimated && !second.estimated);
    assert_eq!(costs(&record), [Some(prompt), Some(15)]);
    assert_eq!(record.cost, Cost::Known(Money::from_micros(prompt + 15)));
    assert_eq!(record.usage, Some(Usage { input: prompt + 5, output: 1, ..Usage::default() }));
    assert!(record.estimated, "a sum with an estimate in it is an estimate");
}

#[tokio::test]
async fn a_price_that_is_missing_in_part_makes_the_sum_unknown() {
    let layout = Layout {
        model: Some(|model| {
            if &*model.name == "large" {
                model.deployments[0].pricing = Pricing::Unknown;
            }
        }),
        ..Layout::default()
    };
    let silent = Act::Say(vec![Delta::Started(Default::default())]);
    let street = street(layout, vec![vec![silent], vec![Act::Say(answer("Sea."))]]);
    let (_, record) = street.ask(asking()).await;
    assert_eq!((costs(&record), record.cost), (vec![None, Some(15)], Cost::Unknown));
}

#[tokio::test]
async fn what_was_thought_of_the_candidates_is_on_record_only_where_there_was_a_choice() {
    let alone = street(Layout::default(), vec![vec![Act::Say(answer("Sea."))]]);
    let (_, record) = alone.ask(asking()).await;
    assert!(record.considered.is_empty());
    assert_eq!((record.tries[0].why, record.tries[0].credential), ("first", 0));
}
