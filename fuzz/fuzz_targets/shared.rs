//! What the targets share: a lane told in full, and told on to every asker.

use bytes::{Bytes, BytesMut};
use penstock_dialect::{DecodeLimits, Lane, asker};
use penstock_domain::{Delta, Dialect, Origin, Request, RequestId, Task};

const ASKS: [(Dialect, &[u8]); 3] = [
    (Dialect::OpenAi, br#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}"#),
    (
        Dialect::Anthropic,
        br#"{"model":"m","max_tokens":9,"stop_sequences":["END"],"messages":[{"role":"user","content":"x"}],"stream":true}"#,
    ),
    (Dialect::Responses, br#"{"model":"m","input":"x","stream":true}"#),
];

/// A request of an asker of this dialect.
pub fn request(dialect: Dialect) -> Request {
    let (_, body) = ASKS.into_iter().find(|(asks, _)| *asks == dialect).expect("an asker");
    let asker = asker(dialect).expect("an asker");
    let decoded = asker.decode(Task::Chat, Bytes::from_static(body), &DecodeLimits::default()).expect("a request");
    decoded.into_request(RequestId::new("req_fuzz"), Origin::Http, None)
}

/// Everything that a lane gives for these chunks, and the error with which it gave up.
pub fn deltas(lane: &mut dyn Lane, chunks: &[&[u8]]) -> (Vec<Delta>, Option<String>) {
    let mut all = Vec::new();
    for chunk in chunks {
        let pushed = lane.push(Bytes::copy_from_slice(chunk));
        all.extend(std::iter::from_fn(|| lane.next()));
        if let Err(error) = pushed {
            return (all, Some(error.to_string()));
        }
    }
    all.extend(std::iter::from_fn(|| lane.finish()));
    (all, None)
}

/// What deltas say, however bytes are grouped.
pub fn told((deltas, failed): &(Vec<Delta>, Option<String>)) -> String {
    let show = |delta: &Delta| match delta {
        Delta::Failed(error) => error.to_string(),
        Delta::Raw(raw) => String::from_utf8_lossy(&raw.bytes).into_owned(),
        other => format!("{other:?}"),
    };
    deltas.iter().map(show).chain(failed.clone()).collect()
}

/// Tells the meaning of an answer to askers of every dialect: no panic, and after a failure nothing.
pub fn retell(deltas: &[Delta]) {
    for (dialect, _) in ASKS {
        let request = request(dialect);
        let asker = asker(dialect).expect("an asker");
        let mut encoder = asker.encoder(&request, 7);
        let mut out = BytesMut::new();
        deltas.iter().for_each(|delta| encoder.encode(delta.clone(), &mut out));
        encoder.finish(&mut out);
        assert!(out.is_empty() || out.ends_with(b"\n\n"), "half an event is written");
        if dialect == Dialect::Anthropic {
            alternate(&out);
        }
        let mut folder = asker.folder(&request, 7);
        if deltas.iter().try_for_each(|delta| folder.push(delta.clone())).is_ok() {
            let _ = folder.finish();
        }
    }
}

/// Anthropic's blocks open and close in turn, and nothing follows an error.
fn alternate(events: &[u8]) {
    let text = String::from_utf8_lossy(events);
    let (mut open, mut failed) = (false, false);
    for event in text.split("\n\n").filter(|event| !event.is_empty()) {
        assert!(!failed, "an event follows the error");
        match event.lines().next() {
            Some("event: content_block_start") => assert!(!std::mem::replace(&mut open, true), "blocks overlap"),
            Some("event: content_block_stop") => assert!(std::mem::take(&mut open), "nothing was open"),
            Some("event: error") => failed = true,
            _ => {}
        }
    }
}
