//! Open answers of keys that end.

use futures_util::{StreamExt, stream};
use penstock_domain::{Code, Delta, Stage};
use penstock_identity::Limits;
use penstock_observe::Outcome;

use super::*;

fn ends_as_revoked(last: Option<&Delta>) {
    let Some(Delta::Failed(error)) = last else { panic!("no error at the end: {last:?}") };
    assert_eq!((error.code(), error.stage()), (Code::InvalidApiKey, Some(Stage::Reply)));
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_of_a_revoked_key_ends_within_five_seconds() {
    let bench =
        bench(&["chat:*"], &["*"], || Ok(stream::iter([text("Par")]).chain(stream::pending()).boxed()));
    let mut answer = bench.run(request("large")).await.expect("an answer");
    assert!(matches!(answer.deltas.next().await, Some(Delta::Text { .. })));
    let long = Duration::from_secs(600);
    assert!(tokio::time::timeout(long, answer.deltas.next()).await.is_err(), "a key that holds waits on");
    bench.keys.use_file(&[], Limits::default()).expect("no keys");
    let revoked = tokio::time::Instant::now();
    ends_as_revoked(answer.deltas.next().await.as_ref());
    assert!(revoked.elapsed() <= Duration::from_secs(5));
    assert!(answer.deltas.next().await.is_none(), "nothing follows");
    let outcome = bench.record().outcome;
    assert!(matches!(outcome, Outcome::Failed(error) if error.code() == Code::InvalidApiKey));
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test]
async fn a_stream_that_speaks_ends_at_its_next_piece() {
    let bench = bench(&["chat:*"], &["*"], || Ok(stream::repeat_with(|| text("a")).boxed()));
    let mut answer = bench.run(request("large")).await.expect("an answer");
    for _ in 0..100 {
        assert!(matches!(answer.deltas.next().await, Some(Delta::Text { .. })));
    }
    bench.keys.use_file(&[], Limits::default()).expect("no keys");
    ends_as_revoked(answer.deltas.next().await.as_ref());
    assert!(answer.deltas.next().await.is_none(), "nothing follows");
}

#[tokio::test]
async fn an_answer_that_has_ended_is_not_ended_again() {
    let bench = bench(&["chat:*"], &["*"], gives(whole_answer()));
    let mut answer = bench.run(request("large")).await.expect("an answer");
    while answer.deltas.next().await.is_some() {}
    bench.keys.use_file(&[], Limits::default()).expect("no keys");
    assert!(answer.deltas.next().await.is_none());
    assert!(matches!(bench.record().outcome, Outcome::Complete));
}
