//! What the integration tests share: fixtures, and streams told in one text.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use penstock_dialect::Lane as _;
use penstock_dialect::openai::raw_lane::RawLane;
use penstock_dialect::openai::request::decode;
use penstock_dialect::openai::stream::ChunkReader;
use penstock_dialect::{DecodeLimits, anthropic};
use penstock_domain::{Delta, Error, Notes, Origin, Request, RequestId, Task};

/// Names and bytes of the fixtures of a folder, sorted.
pub(crate) fn fixtures(folder: &str, ending: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    paths.sort();
    assert!(paths.len() > 4, "the fixtures are gone");
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// The task that a fixture's name tells.
pub(crate) fn task(name: &str) -> Task {
    match name {
        name if name.contains("completion") => Task::Completion,
        name if name.contains("embedding") => Task::Embedding,
        _ => Task::Chat,
    }
}

pub(crate) fn choices(name: &str) -> u32 {
    if name.contains("two_choices") { 2 } else { 1 }
}

/// Decodes a request as the edge does.
pub(crate) fn request(name: &str, body: &[u8]) -> Result<Request, Error> {
    let bytes = Bytes::copy_from_slice(body);
    let limits = DecodeLimits::default();
    let decoded = if name.contains("anthropic") {
        anthropic::request::decode(task(name), bytes, &limits)?
    } else {
        decode(task(name), bytes, &limits)?
    };
    Ok(decoded.into_request(RequestId::new("req_test"), Origin::Http, None))
}

/// What a stream amounts to, however it was cut: bytes, notes, what came besides, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) bytes: String,
    pub(crate) notes: Notes,
    pub(crate) usage: Option<penstock_domain::Usage>,
    pub(crate) failed: Option<String>,
}

/// Runs the fast lane over chunks.
pub(crate) fn lane<'a>(lane: RawLane, chunks: impl IntoIterator<Item = &'a [u8]>) -> Told {
    let mut lane = lane;
    let mut told = Told { bytes: String::new(), notes: Notes::default(), usage: None, failed: None };
    for chunk in chunks {
        if let Err(error) = lane.push(Bytes::copy_from_slice(chunk)) {
            tell(&mut told, &mut lane, RawLane::next);
            told.failed = Some(error.to_string());
            assert!(lane.finish().is_none(), "an error is told once");
            return told;
        }
        tell(&mut told, &mut lane, RawLane::next);
    }
    tell(&mut told, &mut lane, RawLane::finish);
    told
}

fn tell(told: &mut Told, lane: &mut RawLane, next: fn(&mut RawLane) -> Option<Delta>) {
    while let Some(delta) = next(lane) {
        assert_eq!(told.failed, None, "nothing follows a failure");
        match delta {
            Delta::Raw(raw) => {
                assert!(raw.notes.events > 0 && raw.bytes.ends_with(b"\n\n"), "whole events only");
                told.bytes.push_str(std::str::from_utf8(&raw.bytes).unwrap());
                told.notes.content |= raw.notes.content;
                told.notes.events += raw.notes.events;
                told.notes.usage = raw.notes.usage.or(told.notes.usage);
                told.notes.finish = raw.notes.finish.or(told.notes.finish);
                told.notes.text += raw.notes.text;
                told.notes.version = told.notes.version.take().or(raw.notes.version);
            }
            Delta::Usage(usage) => told.usage = Some(usage),
            Delta::Failed(error) => told.failed = Some(error.to_string()),
            other => panic!("the lane gave {other:?}"),
        }
    }
}

/// The semantic deltas of a stream, as text.
pub(crate) fn semantic<'a>(
    mut reader: ChunkReader,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Delta>, Vec<String>) {
    let mut deltas = Vec::new();
    let mut broken = None;
    for chunk in chunks {
        broken = reader.push(Bytes::copy_from_slice(chunk)).err();
        deltas.extend(std::iter::from_fn(|| reader.next()));
        if broken.is_some() {
            break;
        }
    }
    deltas.extend(std::iter::from_fn(|| reader.finish()));
    deltas.extend(broken.map(Delta::Failed));
    let shown = deltas.iter().map(show).collect();
    (deltas, shown)
}

fn show(delta: &Delta) -> String {
    match delta {
        // A source is vendor text cut to size: its exact words are not the promise.
        Delta::Failed(error) => format!("Failed({error})"),
        other => format!("{other:?}"),
    }
}
