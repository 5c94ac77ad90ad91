//! A broken text answer goes on with another candidate, seamlessly or not at all.

use penstock_domain::{Cost, Money, Part, Resume, Role};
use penstock_routing::Policy;

use super::vendors::*;
use super::*;

const SAID: &str =
    "The river rises in the hills, runs through seven towns and three lakes, and then it widens ";
const REST: &str = "until nobody can see across, and ends in the sea.";

fn resuming(vendors: Vec<Vec<Act>>) -> Street {
    let policy = Policy { resume: true, ..Policy::default() };
    street(Layout { policy, ..Layout::default() }, vendors)
}

/// What the second candidate says: what was held back, then the rest.
fn continuation() -> Vec<Delta> {
    let held: String = SAID.chars().skip(SAID.chars().count() - 60).collect();
    let words = format!("{}{REST}", held.trim_start());
    let mut deltas =
        vec![Delta::Started(Default::default()), Delta::Reasoning { choice: 0, text: "hm".into() }];
    deltas.extend(words.split_inclusive(' ').map(text));
    deltas.push(Delta::Finished { choice: 0, reason: FinishReason::Stop, stop: None });
    deltas.push(Delta::Usage(Usage { input: 40, output: 30, ..Usage::default() }));
    deltas
}

fn pieces(said: &str) -> Vec<Delta> {
    let opening = [Delta::Started(Default::default())];
    opening.into_iter().chain(said.split_inclusive(' ').map(text)).collect()
}

#[tokio::test]
async fn a_text_that_breaks_off_is_continued_without_a_seam_and_both_calls_are_on_the_bill() {
    let street = resuming(vec![vec![Act::Cut(pieces(SAID))], vec![Act::Say(continuation())]]);
    let (deltas, record) = street.ask(asking()).await;
    let deltas = deltas.expect("an answer");
    assert_eq!(seen(&deltas).replace('|', ""), format!("{SAID}{REST}"));
    assert_eq!(deltas.iter().filter(|delta| matches!(delta, Delta::Resumed)).count(), 1, "it is visible");
    assert_eq!(deltas.iter().filter(|delta| matches!(delta, Delta::Started(_))).count(), 1);
    assert!(!deltas.iter().any(|delta| matches!(delta, Delta::Failed(_) | Delta::Reasoning { .. })));
    assert_eq!(tries(&record), ["first a upstream_stream_cut", "resume b ok"]);
    let [first, second] = &record.tries[..] else { panic!("two calls") };
    let broken = first.usage.expect("the broken part may be billed");
    assert!(first.estimated && broken.input > 5 && broken.output > 10, "{broken:?}");
    assert_eq!(second.usage, Some(Usage { input: 40, output: 30, ..Usage::default() }));
    let sum = broken.input + 10 * broken.output + 40 + 300;
    assert_eq!(record.cost, Cost::Known(Money::from_micros(sum)));
    let told = deltas.iter().find_map(|delta| match delta {
        Delta::Usage(usage) => Some(*usage),
        _ => None,
    });
    assert_eq!(told, record.usage, "the asker is told of both parts");
    assert!(matches!(record.outcome, Outcome::Complete));
}

#[tokio::test]
async fn whoever_continues_reads_what_was_said_and_is_told_how_to_go_on() {
    let street = resuming(vec![vec![Act::Cut(pieces(SAID))], vec![Act::Say(continuation())]]);
    street.ask(Request { max_output_tokens: Some(100), ..asking() }).await.0.expect("an answer");
    let call = street.asked(1);
    assert!(!call.request.body.is_wire(Dialect::OpenAi), "the bytes no longer say what is asked");
    let Ok(Content::Chat(chat)) = call.request.body.content() else { panic!("a chat") };
    let [.., said, go_on] = &chat.messages[..] else { panic!("two turns more") };
    assert_eq!((said.role, &said.parts[..]), (Role::Assistant, &[Part::Text(SAID.into())][..]));
    assert_eq!(go_on.role, Role::User);
    let left = call.request.max_output_tokens.expect("a bound");
    assert!((80..100).contains(&left), "what was said counts: {left}");
    assert_eq!(chat.sampling.max_output_tokens, Some(left));
}

#[tokio::test]
async fn a_continuation_that_does_not_begin_where_the_text_ended_is_not_shown() {
    for wrong in ["Sure, here is the rest: it widens", "it widens ", "The river rises"] {
        let other = vec![Delta::Started(Default::default()), text(wrong), text(" and so on.")];
        let street = resuming(vec![vec![Act::Cut(pieces(SAID))], vec![Act::Say(other)], Vec::new()]);
        let (deltas, record) = street.ask(asking()).await;
        let deltas = deltas.expect("an answer");
        assert_eq!(seen(&deltas), SAID, "all that came is shown, and nothing else");
        assert!(
            matches!(deltas.last(), Some(Delta::Failed(error)) if error.code() == Code::UpstreamStreamCut),
            "the error that broke it"
        );
        assert_eq!((street.who(), record.outcome.code()), ("ab".to_owned(), "upstream_stream_cut"));
        assert!(record.tries.iter().all(|one| one.usage.is_some()), "both are on the bill");
    }
}

#[tokio::test]
async fn whoever_cannot_continue_is_followed_by_the_next_and_in_the_end_the_break_is_told() {
    let refuse = || vec![Act::Refuse(Code::UpstreamError, None)];
    let street = resuming(vec![vec![Act::Cut(pieces(SAID))], refuse(), vec![Act::Say(continuation())]]);
    let (deltas, record) = street.ask(asking()).await;
    assert_eq!(seen(&deltas.expect("an answer")).replace('|', ""), format!("{SAID}{REST}"));
    assert_eq!(tries(&record)[1..], ["resume b upstream_error", "resume c ok"]);

    let street = resuming(vec![vec![Act::Cut(pieces(SAID))], refuse()]);
    let (deltas, _) = street.ask(asking()).await;
    let deltas = deltas.expect("an answer");
    assert_eq!(seen(&deltas), SAID);
    assert!(matches!(deltas.last(), Some(Delta::Failed(error)) if error.code() == Code::UpstreamStreamCut));
}

#[tokio::test]
async fn an_answer_of_which_nothing_was_shown_is_asked_for_anew() {
    let street = resuming(vec![vec![Act::Cut(pieces("It ends in"))], vec![Act::Say(answer("In the sea."))]]);
    let (deltas, _) = street.ask(asking()).await;
    assert_eq!(seen(&deltas.expect("an answer")), "In the sea.");
    assert!(street.asked(1).request.body.is_wire(Dialect::OpenAi), "the same request");
}

#[tokio::test]
async fn tools_shapes_several_choices_whole_answers_and_askers_who_refuse_are_not_resumed() {
    let plain = asking;
    let with = |change: fn(&mut Conversation)| {
        let mut chat = Conversation::default();
        change(&mut chat);
        Request { body: asking().body.rewritten(Content::Chat(chat)), ..asking() }
    };
    let tool = with(|chat| {
        chat.tools.push(penstock_domain::Tool {
            name: "f".into(),
            description: None,
            parameters: None,
            strict: None,
            cache_mark: None,
        });
    });
    let shaped = with(|chat| chat.response_format = penstock_domain::ResponseFormat::JsonObject);
    let logged = with(|chat| chat.sampling.logprobs = penstock_domain::Logprobs::Top(0));
    for (request, why) in [
        (tool, "tools"),
        (shaped, "a shape"),
        (logged, "probabilities"),
        (Request { choices: 2, ..plain() }, "two choices"),
        (Request { stream: false, ..plain() }, "a whole answer"),
        (Request { resume: Resume::Off, ..plain() }, "the asker's wish"),
    ] {
        let street = resuming(vec![vec![Act::Cut(pieces(SAID))], Vec::new()]);
        let (deltas, _) = street.ask(request).await;
        let deltas = deltas.expect("an answer");
        assert!(matches!(deltas.last(), Some(Delta::Failed(_))), "{why}");
        assert_eq!((street.who(), seen(&deltas)), ("a".to_owned(), SAID.to_owned()), "{why}");
        assert_ne!(street.asked(0).request.resume, Resume::Armed, "{why}: its bytes may pass");
    }
}

#[tokio::test]
async fn what_is_not_resumed_is_held_back_nowhere() {
    let street = street(Layout::default(), vec![vec![Act::Stall(pieces("It ends"))]]);
    let mut answer = street.bench.run(asking()).await.expect("an answer");
    for _ in 0..3 {
        answer.deltas.next().now_or_never().flatten().expect("at once");
    }
}

#[tokio::test]
async fn a_tool_call_closes_an_answer_that_could_have_been_resumed() {
    let mut deltas = pieces(SAID);
    deltas.push(Delta::ToolCall {
        choice: 0,
        index: 0,
        id: Some("call_1".into()),
        name: Some("f".into()),
        arguments: "{\"a\":".into(),
    });
    let street = resuming(vec![vec![Act::Cut(deltas)], Vec::new()]);
    let (deltas, _) = street.ask(asking()).await;
    assert!(matches!(deltas.expect("an answer").last(), Some(Delta::Failed(_))));
    assert_eq!(street.who(), "a");
}

#[tokio::test]
async fn an_asker_who_leaves_while_somebody_goes_on_cancels_that_call() {
    let street = resuming(vec![vec![Act::Cut(pieces(SAID))], vec![Act::Stall(Vec::new())]]);
    let mut answer = street.bench.run(asking()).await.expect("an answer");
    while answer.deltas.next().now_or_never().flatten().is_some() {}
    assert_eq!(street.who(), "ab");
    drop(answer);
    let record = street.bench.record();
    assert!(street.was_dropped(1) && matches!(record.outcome, Outcome::Cancelled));
    assert_eq!(tries(&record), ["first a upstream_stream_cut", "resume b cancelled"]);
}
