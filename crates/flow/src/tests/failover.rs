//! Who is asked next, until which moment, and what is told when nobody answers.

use penstock_domain::Retry;

use super::vendors::*;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn whoever_fails_before_content_is_followed_by_the_next_and_the_asker_sees_one_answer() {
    let opening = || vec![Delta::Started(Default::default())];
    for failing in [
        Act::Refuse(Code::UpstreamUnreachable, None),
        Act::Refuse(Code::UpstreamError, None),
        Act::Refuse(Code::UpstreamAuth, None),
        Act::Refuse(Code::UpstreamQuotaExceeded, None),
        Act::Refuse(Code::UpstreamRateLimited, Some(SECOND)),
        Act::Refuse(Code::Overloaded, None),
        Act::Cut(opening()),
        Act::Say(opening()),
        Act::Say(Vec::new()),
    ] {
        let street = street(Layout::default(), vec![vec![failing], vec![Act::Say(answer("Sea."))]]);
        let (deltas, record) = street.ask(asking()).await;
        let deltas = deltas.expect("an answer");
        assert_eq!((seen(&deltas), street.who()), ("Sea.".to_owned(), "ab".to_owned()));
        assert_eq!(deltas.iter().filter(|delta| matches!(delta, Delta::Started(_))).count(), 1);
        assert_eq!((record.attempts, record.provider.as_deref()), (2, Some("b")));
        assert_eq!(tries(&record)[1], "failover b ok");
        assert!(matches!(record.outcome, Outcome::Complete));
    }
}

#[tokio::test]
async fn what_the_request_is_at_fault_for_is_asked_of_nobody_else() {
    for code in [Code::UpstreamRejected, Code::InvalidValue] {
        let street = street(Layout::default(), vec![vec![Act::Refuse(code, None)], Vec::new()]);
        let (refusal, _) = street.ask(asking()).await;
        assert_eq!(refusal.err().expect("a refusal").error.code(), code);
        assert_eq!(street.who(), "a");
    }
}

#[tokio::test]
async fn after_the_first_content_nobody_takes_over_and_the_stream_says_that_it_broke() {
    let street = street(Layout::default(), vec![vec![Act::Cut(vec![text("Par")])], Vec::new()]);
    let (deltas, record) = street.ask(asking()).await;
    let deltas = deltas.expect("an answer");
    assert!(matches!(deltas.last(), Some(Delta::Failed(error)) if error.code() == Code::UpstreamStreamCut));
    assert_eq!((street.who(), seen(&deltas)), ("a".to_owned(), "Par".to_owned()));
    assert_eq!(tries(&record), ["first a upstream_stream_cut"]);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_not_begun_anew_and_one_that_is_nearly_over_asks_nobody() {
    let soon = || Some(tokio::time::Instant::now().into_std() + Duration::from_millis(60));
    let street = street(Layout::default(), vec![vec![Act::Stall(Vec::new())], Vec::new()]);
    let (refusal, _) = street.ask(Request { deadline: soon(), ..asking() }).await;
    assert_eq!(refusal.err().expect("a refusal").error.code(), Code::DeadlineExceeded);
    assert_eq!(street.who(), "a");
}

#[tokio::test]
async fn with_hardly_any_time_left_the_failure_is_told_and_nobody_else_is_asked() {
    let street = street(Layout::default(), vec![vec![Act::Refuse(Code::UpstreamError, None)], Vec::new()]);
    let deadline = Some(Instant::now() + Duration::from_millis(15));
    let (refusal, _) = street.ask(Request { deadline, ..asking() }).await;
    assert_eq!(refusal.err().expect("a refusal").error.code(), Code::UpstreamError);
    assert_eq!(street.who(), "a");
}

#[tokio::test]
async fn an_opening_that_is_too_long_in_events_or_bytes_fails_over() {
    let raw = |events: u32, bytes: usize| {
        let notes = penstock_domain::Notes { events, ..Default::default() };
        let bytes = Bytes::from(vec![b' '; bytes]);
        Delta::Raw(penstock_domain::RawEvents { dialect: Dialect::OpenAi, bytes, notes })
    };
    for (opening, fits) in [
        (vec![raw(64, 10)], true),
        (vec![raw(65, 10)], false),
        (vec![raw(1, 10); 65], false),
        (vec![raw(1, 256 << 10)], true),
        (vec![raw(1, 128 << 10), raw(1, (128 << 10) + 1)], false),
    ] {
        let first = opening.into_iter().chain([text("Sea.")]).collect();
        let street = street(Layout::default(), vec![vec![Act::Say(first)], vec![Act::Say(answer("Sea."))]]);
        let (deltas, _) = street.ask(asking()).await;
        assert_eq!(seen(&deltas.expect("an answer")), "Sea.");
        assert_eq!(street.who(), if fits { "a" } else { "ab" });
    }
}

/// What the asker is told when these vendors refuse in this order.
async fn told(refusals: &[(Code, Option<Duration>)]) -> Error {
    let acts = refusals.iter().map(|(code, wait)| vec![Act::Refuse(*code, *wait)]).collect();
    let street = street(Layout::default(), acts);
    let (refusal, record) = street.ask(asking()).await;
    assert_eq!(record.tries.len(), refusals.len());
    refusal.err().expect("a refusal").error
}

#[tokio::test(start_paused = true)]
async fn when_all_limit_our_rate_the_smallest_wait_is_told() {
    let limited = |seconds| (Code::UpstreamRateLimited, Some(SECOND * seconds));
    let error = told(&[limited(30), limited(7), limited(20)]).await;
    assert_eq!((error.code(), error.retry()), (Code::UpstreamRateLimited, Retry::After(SECOND * 7)));
}

#[tokio::test]
async fn the_most_useful_error_is_told_and_never_that_our_credential_is_bad_if_time_may_mend_it() {
    use Code::{ContextLengthExceeded, UpstreamAuth, UpstreamError, UpstreamRateLimited, UpstreamTimeout};
    for (refusals, code) in [
        (&[UpstreamAuth, UpstreamError][..], UpstreamError),
        (&[UpstreamError, UpstreamAuth], UpstreamError),
        (&[UpstreamTimeout, UpstreamError], UpstreamTimeout),
        (&[UpstreamRateLimited, UpstreamAuth], UpstreamRateLimited),
        (&[UpstreamRateLimited, UpstreamError], UpstreamError),
        (&[UpstreamError, ContextLengthExceeded], ContextLengthExceeded),
        (&[UpstreamAuth, UpstreamAuth], UpstreamAuth),
    ] {
        let refusals: Vec<_> = refusals.iter().map(|code| (*code, None)).collect();
        assert_eq!(told(&refusals).await.code(), code, "{refusals:?}");
    }
    let ours = told(&[(UpstreamAuth, None), (UpstreamAuth, None)]).await;
    assert_eq!(ours.retry(), Retry::Never, "only the operator can mend it");
    assert_eq!(ours.kind(), penstock_domain::Kind::BadUpstream, "never a 401 of theirs");
}

#[tokio::test]
async fn once_the_budget_is_spent_the_asker_is_told_not_to_retry() {
    const REQUESTS: usize = 400;
    let failing = || (0..REQUESTS).map(|_| Act::Refuse(Code::UpstreamError, None)).collect();
    let street = street(Layout::default(), vec![failing(), failing()]);
    let mut spent = 0;
    for _ in 0..REQUESTS {
        let (refusal, record) = street.ask(asking()).await;
        street.bench.kept.begun.store(0, Ordering::SeqCst);
        let error = refusal.err().expect("a refusal").error;
        if record.attempts == 1 {
            spent += 1;
            assert_eq!(error.retry(), Retry::Never, "whoever retries makes it worse");
        } else {
            assert_eq!(error.retry(), Retry::Maybe);
        }
    }
    assert!(spent > REQUESTS / 2, "only {spent} of {REQUESTS} found the budget spent");
}
