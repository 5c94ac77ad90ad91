//! Golden files: request JSON to content, transcripts to deltas, deltas to transcripts.
//!
//! To accept a change, look at it and run the tests once with `INSTA_UPDATE=always`.

use crate::support::{choices, fixtures, lane, request, semantic, task};
use bytes::BytesMut;
use penstock_dialect::openai::raw_lane::RawLane;
use penstock_dialect::openai::response::Folder;
use penstock_dialect::openai::stream::{ChunkReader, StreamEncoder};
use penstock_dialect::{Encode as _, Fold as _, Lane as _};
use penstock_domain::{Delta, Request};

fn settled(folder: &str) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../fixtures/{folder}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

#[test]
fn requests_become_the_reviewed_content() {
    settled("requests").bind(|| {
        for (name, body) in fixtures("requests", "json") {
            let told = match request(&name, &body) {
                Ok(request) => format!("{request:#?}\n{:#?}", request.body.content()),
                Err(error) => format!("{error:#?}"),
            };
            insta::assert_snapshot!(name.as_str(), told);
        }
    });
}

/// The request to which a fixture's stream is the answer.
fn asked(name: &str) -> Request {
    let body = format!(
        r#"{{"model":"m","prompt":"p","messages":[1],"n":{},"stream":true,"stream_options":{{"include_usage":true}}}}"#,
        choices(name)
    );
    request(name, body.as_bytes()).unwrap()
}

fn written(name: &str, deltas: Vec<Delta>) -> String {
    let mut encoder = StreamEncoder::new(&asked(name), 7);
    let mut out = BytesMut::new();
    deltas.into_iter().for_each(|delta| encoder.encode(delta, &mut out));
    encoder.finish(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn folded(name: &str, deltas: Vec<Delta>) -> String {
    let mut folder = Folder::new(&asked(name), 7);
    match deltas.into_iter().try_for_each(|delta| folder.push(delta)).and_then(|()| Box::new(folder).finish())
    {
        Ok(body) => String::from_utf8(body.to_vec()).unwrap(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn transcripts_become_the_reviewed_deltas_and_answers() {
    settled("streams").bind(|| {
        for (name, bytes) in fixtures("streams", "sse") {
            let stripped = lane(RawLane::new(task(&name), true).expecting(choices(&name)), [&bytes[..]]);
            let reader = ChunkReader::new(task(&name), choices(&name));
            let (deltas, shown) = semantic(reader, [&bytes[..]]);
            let told = format!(
                "forwarded {:?} {:?} {:?}\n{}\nmeaning\n{}\n\nwritten again\n{}\nfolded\n{}",
                stripped.notes,
                stripped.usage,
                stripped.failed,
                stripped.bytes,
                shown.join("\n"),
                written(&name, deltas.clone()),
                folded(&name, deltas),
            );
            insta::assert_snapshot!(name.as_str(), told);
        }
    });
}

#[test]
fn what_is_written_again_means_the_same() {
    for (name, bytes) in fixtures("streams", "sse") {
        let read = |bytes: &[u8]| semantic(ChunkReader::new(task(&name), choices(&name)), [bytes]);
        let (deltas, shown) = read(&bytes);
        if matches!(deltas.last(), Some(Delta::Failed(_))) {
            continue;
        }
        let again = read(written(&name, deltas).as_bytes()).1;
        assert_eq!(again, shown, "{name}");
    }
}

#[test]
fn raw_events_fold_into_the_same_answer_as_their_meaning() {
    for (name, bytes) in fixtures("streams", "sse") {
        let mut raw_lane = RawLane::new(task(&name), false).expecting(choices(&name));
        raw_lane.push(bytes.clone().into()).unwrap();
        let mut raw: Vec<Delta> = std::iter::from_fn(|| raw_lane.next()).collect();
        raw.extend(std::iter::from_fn(|| raw_lane.finish()));
        let (deltas, _) = semantic(ChunkReader::new(task(&name), choices(&name)), [&bytes[..]]);
        assert_eq!(folded(&name, raw), folded(&name, deltas), "{name}");
    }
}
