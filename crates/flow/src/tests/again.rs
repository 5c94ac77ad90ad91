//! The only target asked once more.

use std::collections::VecDeque;

use penstock_domain::Retry;

use super::vendors::*;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A model that one vendor serves, with what it does with its calls.
fn alone(acts: Vec<Act>) -> Street {
    street(Layout::default(), vec![acts])
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_passes_is_not_seen_and_each_call_is_on_the_record() {
    for failing in [
        Act::Refuse(Code::UpstreamError, None),
        Act::Refuse(Code::UpstreamUnreachable, None),
        Act::Refuse(Code::Overloaded, Some(SECOND)),
        Act::Refuse(Code::UpstreamRateLimited, Some(SECOND * 2)),
        Act::Cut(vec![Delta::Started(Default::default())]),
    ] {
        let street = alone(vec![failing, Act::Say(answer("Sea."))]);
        let (deltas, record) = street.ask(asking()).await;
        assert_eq!((seen(&deltas.expect("an answer")), record.attempts), ("Sea.".to_owned(), 2));
        assert_eq!(tries(&record)[1], "retry a ok");
    }
}

#[tokio::test(start_paused = true)]
async fn after_three_attempts_the_fault_is_told_with_the_advice_not_to_repeat_what_was_done() {
    let acts = VecDeque::from([(); 3].map(|()| Act::Refuse(Code::UpstreamError, None)));
    let street = alone(acts.into());
    let began = tokio::time::Instant::now();
    let (refusal, record) = street.ask(asking()).await;
    let error = refusal.expect_err("a refusal").error;
    assert_eq!((error.code(), error.retry(), record.attempts), (Code::UpstreamError, Retry::Never, 3));
    assert!(began.elapsed() <= SECOND * 3 / 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_would_come_too_late_is_not_begun() {
    let street = alone(vec![Act::Refuse(Code::UpstreamRateLimited, Some(SECOND * 2))]);
    let deadline = Some(tokio::time::Instant::now().into_std() + SECOND);
    let (refusal, _) = street.ask(Request { deadline, ..asking() }).await;
    let error = refusal.expect_err("a refusal").error;
    assert_eq!((error.code(), street.who()), (Code::UpstreamRateLimited, "a".to_owned()));
    assert!(matches!(error.retry(), Retry::After(wait) if wait <= SECOND * 2), "{:?}", error.retry());
}

#[tokio::test(start_paused = true)]
async fn a_text_that_broke_off_is_not_continued_by_whoever_broke_it() {
    let policy = penstock_routing::Policy { resume: true, ..Default::default() };
    let broken = Act::Cut(vec![text(&"word ".repeat(40))]);
    let street = street(Layout { policy, ..Layout::default() }, vec![vec![broken]]);
    let (deltas, _) = street.ask(asking()).await;
    assert!(matches!(deltas.expect("an answer").last(), Some(Delta::Failed(_))));
    assert_eq!(street.who(), "a");
}
