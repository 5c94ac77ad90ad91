//! Bedrock's frames: no panic, the same meaning for every way of cutting the stream, and one that can be told on.
//!
//! No fuzzer finds checksums, so the input is lines of a frame's name, a blank and its payload, from which right frames are
//! made; an input that begins with a zero byte is taken for frames as it is.
#![no_main]

mod shared;

use bytes::{BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use penstock_dialect::vendor;
use penstock_domain::Dialect;

fn frame(kind: &[u8], payload: &[u8], out: &mut BytesMut) {
    let exception = kind.ends_with(b"Exception");
    let named: &[u8] = if exception { b":exception-type" } else { b":event-type" };
    let message: &[u8] = if exception { b"exception" } else { b"event" };
    let mut head = BytesMut::new();
    for (name, value) in [(named, kind), (&b":message-type"[..], message)] {
        head.put_u8(name.len() as u8);
        head.put_slice(name);
        head.put_u8(7);
        head.put_u16(value.len() as u16);
        head.put_slice(value);
    }
    let mut frame = BytesMut::new();
    frame.put_u32((16 + head.len() + payload.len()) as u32);
    frame.put_u32(head.len() as u32);
    frame.put_u32(crc32fast::hash(&frame));
    frame.put_slice(&head);
    frame.put_slice(payload);
    frame.put_u32(crc32fast::hash(&frame));
    out.put_slice(&frame);
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let mut stream = BytesMut::new();
    if first == 0 {
        stream.put_slice(rest);
    } else {
        for line in rest.split(|byte| *byte == b'\n').filter(|line| line.len() < 1 << 15) {
            let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
            frame(&line[..end], line.get(end + 1..).unwrap_or_default(), &mut stream);
        }
    }
    let (a, b) = stream.split_at(usize::from(first).min(stream.len()));
    let (bedrock, request) = (vendor(Dialect::Bedrock).expect("a vendor"), shared::request(Dialect::Anthropic));
    let read = shared::deltas(&mut *bedrock.lane(&request), &[&stream]);
    assert_eq!(shared::told(&shared::deltas(&mut *bedrock.lane(&request), &[a, b])), shared::told(&read));
    shared::retell(&read.0);
    if let Ok(deltas) = bedrock.whole(&request, Bytes::copy_from_slice(rest)) {
        shared::retell(&deltas);
    }
});
