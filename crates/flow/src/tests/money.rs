//! What every way out of a request records of tokens, money, attempts, pauses and content.

use penstock_domain::{Cost, Money, Notes, Price, Rates, RawBody, RawEvents, Tariff};
use penstock_observe::{Captured, Form};
use penstock_routing::Prices;

use super::*;

/// A dollar per token of the prompt, ten per token of the answer.
fn priced() -> Pricing {
    since(SystemTime::UNIX_EPOCH)
}

fn since(start: SystemTime) -> Pricing {
    let price = |text| Price::per_million(text).expect("a price");
    let rates = Rates { input: price("1"), output: Some(price("10")), ..Rates::default() };
    Pricing::Own(Arc::new(Prices::new(vec![(start, Tariff { rates, long: None })])))
}

fn paying(pricing: Pricing, script: impl Fn() -> Result<Deltas, Error> + Send + Sync + 'static) -> Bench {
    bench_with((&["chat:*"], &["*"]), (pricing, Captures::default()), script)
}

/// A request with a prompt of some ten tokens.
fn asking() -> Request {
    let body = br#"{"model":"large","messages":[{"role":"user","content":"Where does the river end?"}]}"#;
    let decode = |_: &[u8], _| Ok(Content::Chat(Conversation::default()));
    let body = Body::new(Dialect::OpenAi, Task::Chat, Bytes::from_static(body), Members::default(), decode);
    Request { body, ..request("large") }
}

async fn whole(bench: &Bench, request: Request) -> Record {
    let answer = bench.run(request).await.expect("an answer");
    answer.deltas.collect::<Vec<_>>().await;
    bench.record()
}

fn tries(record: &Record) -> Vec<&str> {
    record.tries.iter().map(|attempt| attempt.code).collect()
}

#[tokio::test]
async fn an_answer_costs_what_its_tokens_cost_and_the_bill_tells_when_it_has_ended() {
    let bench = paying(priced(), gives(whole_answer()));
    let answer = bench.run(Request { stream: false, ..asking() }).await.expect("an answer");
    let bill = answer.bill.clone().expect("a whole answer has a bill");
    assert_eq!(bill.cost(), Cost::None, "not known yet");
    answer.deltas.collect::<Vec<_>>().await;
    let record = bench.record();
    assert_eq!(record.cost, Cost::Known(Money::from_micros(5 + 10)));
    assert_eq!((bill.cost(), record.estimated), (record.cost, false));
    assert_eq!(tries(&record), ["ok"]);
}

#[tokio::test]
async fn an_unknown_price_is_unknown_and_never_zero() {
    let record = whole(&paying(Pricing::Unknown, gives(whole_answer())), asking()).await;
    assert_eq!((record.cost, record.usage.is_some()), (Cost::Unknown, true));
}

#[tokio::test]
async fn a_price_holds_from_its_date_on() {
    let hour = Duration::from_secs(3600);
    for (start, cost) in [
        (SystemTime::now() + hour, Cost::Unknown),
        (SystemTime::now() - hour, Cost::Known(Money::from_micros(15))),
    ] {
        assert_eq!(whole(&paying(since(start), gives(whole_answer())), asking()).await.cost, cost);
    }
}

#[tokio::test]
async fn a_request_that_is_refused_here_uses_and_costs_nothing() {
    let stages = |record: &Record| record.timings.iter().map(|(stage, _)| stage).collect::<Vec<_>>();
    let known = [Stage::Authenticate, Stage::Admit, Stage::Prepare];
    for (scopes, model, credential, until) in [
        (&["chat:*"][..], "large", Credential::Missing, 1),
        (&["embeddings:*"], "large", Credential::Key(Secret::new(KEY)), 2),
        (&["chat:*"], "nobody", Credential::Key(Secret::new(KEY)), 3),
    ] {
        let bench = bench_with((scopes, &["*"]), (priced(), Captures::default()), || unreachable!("no call"));
        let asked = Request { model: model.into(), ..asking() };
        bench.flow.run(asked, credential, CHAT).await.err().expect("a refusal");
        let record = bench.record();
        assert_eq!((record.usage, record.cost, record.attempts), (None, Cost::None, 0));
        assert!(record.tries.is_empty() && !record.estimated);
        assert_eq!(record.asked.as_deref(), Some(model), "what was asked stays known");
        assert_eq!(stages(&record), known[..until], "the stage that refused has its time too");
    }
}

#[tokio::test]
async fn a_provider_that_refuses_bills_nothing() {
    let bench = paying(priced(), || Err(Error::new(Code::UpstreamAuth, "who are you")));
    bench.run(asking()).await.err().expect("a refusal");
    let record = bench.record();
    assert_eq!((record.usage, record.cost), (None, Cost::Known(Money::ZERO)));
    assert_eq!(tries(&record), ["upstream_auth"]);
    assert!(record.timings.iter().any(|(stage, _)| stage == Stage::Call));
}

#[tokio::test]
async fn usage_that_the_provider_did_not_tell_is_estimated_and_paid() {
    let silent = vec![
        text("It ends in the sea."),
        Delta::Finished { choice: 0, reason: FinishReason::Stop, stop: None },
    ];
    let record = whole(&paying(priced(), gives(silent)), asking()).await;
    let usage = record.usage.expect("an estimate");
    assert!(record.estimated);
    assert!((8..=16).contains(&usage.input) && (5..=8).contains(&usage.output), "{usage:?}");
    assert_eq!(record.cost, Cost::Known(Money::from_micros(usage.input + 10 * usage.output)));
}

#[tokio::test]
async fn usage_that_contradicts_itself_is_estimated() {
    let wrong = Usage { input: 5, output: 1, cached_input: Some(900), ..Usage::default() };
    let record =
        whole(&paying(priced(), gives(vec![text("In the sea."), Delta::Usage(wrong)])), asking()).await;
    assert!(record.estimated && record.usage.is_some_and(|usage| usage.cached_input.is_none()));
    let nothing = Usage { input: 5, output: 0, ..Usage::default() };
    let record =
        whole(&paying(priced(), gives(vec![text("In the sea."), Delta::Usage(nothing)])), asking()).await;
    assert!(record.estimated && record.usage.is_some_and(|usage| usage.input == 5 && usage.output > 1));
}

#[tokio::test]
async fn an_asker_who_leaves_pays_for_what_came() {
    let bench = paying(priced(), || {
        Ok(stream::iter([text("It ends in "), text("the sea, and the sea is wide.")])
            .chain(stream::pending())
            .boxed())
    });
    let mut answer = bench.run(asking()).await.expect("an answer");
    answer.deltas.next().await.expect("a first delta");
    drop(answer);
    let record = bench.record();
    assert!(matches!(record.outcome, Outcome::Cancelled) && record.estimated);
    let usage = record.usage.expect("an estimate");
    assert!(usage.input > 5 && (2..=4).contains(&usage.output), "only what came: {usage:?}");
    assert!(matches!(record.cost, Cost::Known(money) if money > Money::ZERO));
    assert_eq!(tries(&record), ["ok"]);
}

#[tokio::test]
async fn an_asker_who_leaves_before_the_first_content_may_be_billed_for_the_prompt() {
    let bench = paying(priced(), || Ok(stream::pending().boxed()));
    let run = bench.run(asking());
    assert!(tokio::time::timeout(Duration::from_millis(20), run).await.is_err(), "nothing comes");
    let record = bench.record();
    assert_eq!(tries(&record), ["cancelled"]);
    assert!(record.estimated && record.usage.is_some_and(|usage| usage.input > 5 && usage.output == 0));
    assert!(record.timings.iter().any(|(stage, time)| stage == Stage::Call && time.as_millis() >= 10));
}

#[tokio::test]
async fn a_cut_stream_counts_what_the_provider_told_and_what_came() {
    let raw =
        |notes| Delta::Raw(RawEvents { dialect: Dialect::Anthropic, bytes: Bytes::from_static(b"x"), notes });
    let opening = Usage { input: 40, output: 1, cached_input: Some(30), ..Usage::default() };
    let cut = Error::new(Code::UpstreamStreamCut, "cut");
    let deltas = vec![
        raw(Notes {
            usage: Some(opening),
            events: 1,
            version: Some("claude-x-1".into()),
            ..Notes::default()
        }),
        raw(Notes { content: true, events: 20, text: 430, ..Notes::default() }),
        Delta::Failed(cut),
    ];
    let record = whole(&paying(priced(), gives(deltas)), asking()).await;
    let expected = Usage { output: 100, ..opening };
    assert_eq!((record.usage, record.estimated), (Some(expected), true));
    assert_eq!(record.version.as_deref(), Some("claude-x-1"));
    assert_eq!(record.outcome.code(), "upstream_stream_cut");
}

#[tokio::test]
async fn who_asked_for_what_and_who_answered_is_on_record() {
    let started = Delta::Started(penstock_domain::Started { id: "1".into(), model: "vendor-large-2".into() });
    let tags: Tags = [("app", "shop")].into_iter().collect();
    let arrived = Instant::now();
    let asked = Request { tags: tags.clone(), arrived: Some(arrived), ..asking() };
    let record = whole(&bench(&["chat:*"], &["*"], gives(vec![started, text("Sea.")])), asked).await;
    assert_eq!((record.dialect, record.asked.as_deref()), (Some(Dialect::OpenAi), Some("large")));
    assert_eq!((record.tags, record.version.as_deref()), (tags, Some("vendor-large-2")));
    assert!(
        record.timings.iter().any(|(stage, _)| stage == Stage::Decode),
        "decoding counts from the arrival"
    );
    assert!(record.duration <= arrived.elapsed() && record.at <= SystemTime::now());
}

#[tokio::test]
async fn pauses_are_counted_between_the_pieces_of_a_stream_alone() {
    let pieces = || vec![Delta::Started(Default::default()), text("a"), text("b"), text("c")];
    let record = whole(&bench(&["chat:*"], &["*"], gives(pieces())), asking()).await;
    assert_eq!(record.gaps.map(|gaps| gaps.count()), Some(2));
    let record =
        whole(&bench(&["chat:*"], &["*"], gives(pieces())), Request { stream: false, ..asking() }).await;
    assert_eq!(record.gaps, None);
}

fn capturing(team: &str, deltas: Vec<Delta>) -> Bench {
    let captures = Captures::new([(team.into(), Duration::from_secs(60))]);
    bench_with((&["chat:*"], &["*"]), (Pricing::Unknown, captures), gives(deltas))
}

#[tokio::test]
async fn content_is_kept_for_teams_that_want_it_and_for_nobody_else() {
    let record = whole(&capturing("support", vec![text("In "), text("the sea.")]), asking()).await;
    let kept = record.content.expect("content");
    assert_eq!((&kept.answer[..], kept.form), (&b"In the sea."[..], Form::Text));
    assert!(kept.request.starts_with(b"{\"model\"") && !kept.request_cut && !kept.answer_cut);
    assert_eq!(kept.retention, Duration::from_secs(60));
    assert!(whole(&capturing("sales", vec![text("In")]), asking()).await.content.is_none());
}

#[tokio::test]
async fn kept_content_is_bounded_and_says_where_it_was_cut() {
    let long = Bytes::from(vec![b'x'; Captured::MAX + 1]);
    let whole_body =
        Delta::Whole(RawBody { dialect: Dialect::OpenAi, bytes: long.clone(), notes: Notes::default() });
    let decode = |_: &[u8], _| Ok(Content::Chat(Conversation::default()));
    let body = Body::new(Dialect::OpenAi, Task::Chat, long, Members::default(), decode);
    let record = whole(&capturing("support", vec![whole_body]), Request { body, ..asking() }).await;
    let kept = record.content.expect("content");
    assert_eq!((kept.request.len(), kept.answer.len()), (Captured::MAX, Captured::MAX));
    assert_eq!((kept.request_cut, kept.answer_cut, kept.form), (true, true, Form::Body(Dialect::OpenAi)));
}

#[tokio::test]
async fn a_refused_request_of_a_captured_team_keeps_what_was_asked() {
    let bench = capturing("support", Vec::new());
    bench.run(Request { model: "nobody".into(), ..asking() }).await.err().expect("a refusal");
    let kept = bench.record().content.expect("content");
    assert!(!kept.request.is_empty() && kept.answer.is_empty());
}
