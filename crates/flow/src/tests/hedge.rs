//! A second call beside a slow one.

use penstock_routing::Policy;

use super::vendors::*;
use super::*;

/// Enough answers for routing to know how long the first content usually takes.
const USUAL: usize = 60;

/// A street whose first vendor has answered quickly so far, and does this next.
async fn used_to(quick: Act, beside: Vec<Act>) -> Street {
    let policy = Policy { hedge: true, ..Policy::default() };
    let mut first: Vec<Act> =
        (0..USUAL).map(|_| Act::Late(Duration::from_millis(10), answer("Sea."))).collect();
    first.push(quick);
    let street = street(Layout { policy, ..Layout::default() }, vec![first, beside]);
    for _ in 0..USUAL {
        street.ask(asking()).await.0.expect("an answer");
        street.bench.kept.begun.store(0, Ordering::SeqCst);
    }
    street
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_gets_one_beside_it_and_the_loser_is_dropped_and_billed_as_an_estimate() {
    let slow = Act::Late(Duration::from_secs(30), answer("Late."));
    let street = used_to(slow, vec![Act::Say(answer("Quick."))]).await;
    let (deltas, record) = street.ask(asking()).await;
    assert_eq!(seen(&deltas.expect("an answer")), "Quick.");
    assert!(street.was_dropped(USUAL), "the slow one is left at once");
    let [main, beside] = &record.tries[..] else { panic!("two calls: {:?}", tries(&record)) };
    assert_eq!((main.code, beside.why, beside.code), ("cancelled", "hedge", "ok"));
    assert!(main.estimated && main.usage.is_some_and(|usage| usage.input > 5), "it may be billed");
    assert_eq!(record.provider.as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_effects_is_never_asked_twice() {
    let acting = |change: fn(&mut Conversation)| {
        let mut chat = Conversation::default();
        change(&mut chat);
        Request { body: asking().body.rewritten(Content::Chat(chat)), ..asking() }
    };
    let tool = acting(|chat| {
        chat.tools.push(penstock_domain::Tool {
            name: "pay".into(),
            description: None,
            parameters: None,
            strict: None,
            cache_mark: None,
        });
    });
    let stored = acting(|chat| chat.unsaid.push("store".into()));
    for request in [tool, stored, Request { choices: 2, ..asking() }] {
        let slow = Act::Late(Duration::from_secs(30), answer("Late."));
        let street = used_to(slow, vec![Act::Say(answer("Quick."))]).await;
        let (deltas, _) = street.ask(request).await;
        assert_eq!(seen(&deltas.expect("an answer")), "Late.");
        assert!(!street.who().contains('b'));
    }
}
