//! OpenAI's chunks read for askers of other dialects: no panic, the same meaning for every way of cutting the stream, and
//! one that can be told on, mixed calls included.
#![no_main]

mod shared;

use libfuzzer_sys::fuzz_target;
use penstock_dialect::openai::stream::ChunkReader;
use penstock_domain::Task;

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let (a, b) = rest.split_at(usize::from(first).min(rest.len()));
    let read = shared::deltas(&mut ChunkReader::new(Task::Chat, 1), &[rest]);
    assert_eq!(
        shared::told(&shared::deltas(&mut ChunkReader::new(Task::Chat, 1), &[a, b])),
        shared::told(&read)
    );
    shared::retell(&read.0);
});
