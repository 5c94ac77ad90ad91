//! The bounds of an answer: clamped and told, per candidate.

use super::vendors::*;
use super::*;

#[tokio::test]
async fn more_tokens_than_the_model_gives_are_clamped_and_told() {
    let bench = bench(&["chat:*"], &["*"], gives(whole_answer()));
    let greedy = Request { max_output_tokens: Some(101), ..request("large") };
    let answer = bench.run(greedy).await.expect("an answer");
    assert_eq!(answer.head.clamped, Some(100));
    drop(answer);
    let modest = Request { max_output_tokens: Some(99), ..request("large") };
    assert_eq!(bench.run(modest).await.expect("an answer").head.clamped, None);
}

#[tokio::test]
async fn each_candidate_is_asked_within_its_own_bounds() {
    let layout = Layout {
        model: Some(|model| {
            model.max_output_tokens = Some(if &*model.name == "large" { 500 } else { 40 });
        }),
        ..Layout::default()
    };
    let refuse = Act::Refuse(Code::UpstreamError, None);
    let street = street(layout, vec![vec![refuse], vec![Act::Say(answer("Sea."))]]);
    let asked = Request { max_output_tokens: Some(300), ..asking() };
    let head = street.bench.run(asked).await.expect("an answer").head;
    assert_eq!(head.clamped, Some(40), "the bound of the one that answers");
    let bounds = [0, 1].map(|place| {
        let request = street.asked(place).request;
        (request.max_output_tokens, request.body.bound())
    });
    assert_eq!(bounds, [(Some(300), None), (Some(40), Some(40))]);
    let Ok(Content::Chat(chat)) = &street.asked(1).request.body.content().cloned() else { panic!("a chat") };
    assert_eq!(chat.sampling.max_output_tokens, Some(40), "a translation says the same");
}

#[tokio::test]
async fn who_names_no_bound_gets_the_models_usual_one_and_nothing_is_told_of_it() {
    let layout = Layout { model: Some(|model| model.default_output_tokens = Some(25)), ..Layout::default() };
    let street = street(layout, vec![vec![Act::Say(answer("Sea."))]]);
    let head = street.bench.run(asking()).await.expect("an answer").head;
    assert_eq!((street.asked(0).request.body.bound(), head.clamped), (Some(25), None));
}
