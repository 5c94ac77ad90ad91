//! A request that may not leave its regions never does: not by failover, not by a hedge, not by a continuation.

use penstock_routing::Policy;

use super::vendors::*;
use super::*;

fn eu() -> HashMap<Arc<str>, Bounds> {
    let bounds = Bounds { regions: Box::new(["eu".into()]), internal_only: false };
    HashMap::from([("support".into(), bounds)])
}

#[tokio::test]
async fn with_only_foreign_candidates_nobody_is_called_and_the_sentence_says_why() {
    for (bounds, residency) in [(eu(), None), (HashMap::new(), Some(Arc::from([Arc::from("eu")])))] {
        let layout = Layout { bounds, regions: &["us", "us-east"], ..Layout::default() };
        let street = street(layout, vec![Vec::new(), Vec::new()]);
        let (refusal, record) = street.ask(Request { residency, ..asking() }).await;
        let error = refusal.err().expect("a refusal").error;
        assert_eq!(error.code(), Code::DataResidencyMismatch);
        assert!(error.say().contains("'large'") && error.say().contains("only eu"), "{}", error.say());
        assert_eq!((street.who(), record.attempts), (String::new(), 0));
    }
}

#[tokio::test]
async fn a_failover_stays_inside_even_if_only_a_foreign_candidate_is_left() {
    let layout = Layout { bounds: eu(), regions: &["eu", "us", "eu-west"], ..Layout::default() };
    let refuse = || vec![Act::Refuse(Code::UpstreamError, None)];
    let street = street(layout, vec![refuse(), Vec::new(), refuse()]);
    let (refusal, _) = street.ask(asking()).await;
    assert_eq!(refusal.err().expect("a refusal").error.code(), Code::UpstreamError);
    assert_eq!(street.who(), "ac");
}

#[tokio::test]
async fn a_continuation_stays_inside() {
    let policy = Policy { resume: true, ..Policy::default() };
    let layout = Layout { policy, bounds: eu(), regions: &["eu", "us"], ..Layout::default() };
    let said = "A text that is longer than what is held back at its end, so that a part of it was shown.";
    let street = street(layout, vec![vec![Act::Cut(vec![text(said)])], Vec::new()]);
    let (deltas, _) = street.ask(asking()).await;
    let deltas = deltas.expect("an answer");
    assert!(matches!(deltas.last(), Some(Delta::Failed(_))));
    assert_eq!((street.who(), seen(&deltas)), ("a".to_owned(), said.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_stays_inside() {
    let policy = Policy { hedge: true, ..Policy::default() };
    let layout = Layout { policy, bounds: eu(), regions: &["eu", "us"], ..Layout::default() };
    let slow = Act::Late(Duration::from_secs(50), answer("Sea."));
    let street = street(layout, vec![vec![slow], Vec::new()]);
    let (deltas, _) = street.ask(asking()).await;
    assert_eq!((seen(&deltas.expect("an answer")), street.who()), ("Sea.".to_owned(), "a".to_owned()));
}
