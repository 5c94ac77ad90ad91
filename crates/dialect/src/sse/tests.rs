use super::*;

fn frames(chunks: &[&[u8]]) -> Vec<String> {
    let mut decoder = SseDecoder::new(MAX_EVENT);
    let mut out = Vec::new();
    let show = |frame: Frame| match frame {
        Frame::Event(e) => format!("{}|{}", text(e.event.as_ref()), text(Some(&e.data))),
        Frame::Tail(e) => format!("tail {}|{}", text(e.event.as_ref()), text(Some(&e.data))),
        Frame::Comment => "comment".to_owned(),
    };
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk)).unwrap();
        while let Some(frame) = decoder.next() {
            out.push(show(frame));
        }
    }
    out.extend(decoder.finish().map(show));
    out
}

fn text(bytes: Option<&Bytes>) -> String {
    bytes.map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
}

/// Whole, and cut once at every byte, and byte by byte.
fn check(input: &[u8], expected: &[&str]) {
    assert_eq!(frames(&[input]), expected, "whole: {:?}", String::from_utf8_lossy(input));
    for cut in 0..=input.len() {
        assert_eq!(frames(&[&input[..cut], &input[cut..]]), expected, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(frames(&bytes), expected, "byte by byte");
}

#[test]
fn reads_the_examples_of_the_standard() {
    check(b"data: YHOO\ndata: +2\ndata: 10\n\n", &["|YHOO\n+2\n10"]);
    check(
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        &["comment", "|first event", "|second event", "| third event"],
    );
    check(b"data\n\ndata\ndata\n\ndata:", &["|", "|\n", "tail |"]);
    check(b"data:test\n\ndata: test\n\n", &["|test", "|test"]);
    check(b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n", &["add|73857293", "remove|2153"]);
}

#[test]
fn reads_every_line_end() {
    check(b"data: a\r\n\r\ndata: b\r\n\r\n", &["|a", "|b"]);
    check(b"data: a\r\rdata: b\r\r", &["|a", "|b"]);
    check(b"data: a\r\ndata: b\n\r\ndata: c\r\n\n", &["|a\nb", "|c"]);
    check(b"\r\n\r\n\n\rdata: a\n\n", &["|a"]);
}

#[test]
fn skips_a_byte_order_mark_only_at_the_start() {
    check(b"\xEF\xBB\xBFdata: a\n\n", &["|a"]);
    check(b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\n", &[]);
    check(b"\xEF\xBBdata: a\n\ndata: b\n\n", &["|b"]);
    check(b"data: a\n\n\xEF\xBB\xBFdata: b\n\n", &["|a"]);
}

#[test]
fn drops_blocks_without_data_and_reports_comments_within_them() {
    check(b"event: ping\n\n", &[]);
    check(b"event: ping\n: x\n\n", &["comment"]);
    check(b"data: a\n: mid\ndata: b\n\n", &["|a\nb"]);
    check(b": a\n: b\n", &["comment", "comment"]);
    check(b"event:\ndata: a\n\n", &["|a"]);
}

#[test]
fn hands_an_unfinished_event_out_as_a_tail_only() {
    check(b"data: a\n\ndata: b", &["|a", "tail |b"]);
    check(b"data: a\n\ndata: b\n", &["|a", "tail |b"]);
    check(b"data: a\r\n\r\ndata: b\r\n", &["|a", "tail |b"]);
    check(b"data: a\n\ndat", &["|a"]);
    check(b"data: a\n\n: comm", &["|a"]);
}

#[test]
fn an_event_inside_one_chunk_is_not_copied() {
    let chunk = Bytes::from_static(b"data: a\n\nevent: x\ndata: b\n\n");
    let inside = chunk.as_ptr_range();
    let mut decoder = SseDecoder::new(MAX_EVENT);
    decoder.push(chunk).unwrap();
    let mut seen = 0;
    while let Some(Frame::Event(event)) = decoder.next() {
        assert!(inside.contains(&event.raw.as_ptr()) && inside.contains(&event.data.as_ptr()));
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn an_event_above_the_bound_breaks_the_stream_in_every_chunking() {
    let mut exact = b"data: ".to_vec();
    exact.resize(30, b'x');
    exact.extend_from_slice(b"\n\n");
    for size in 1..=exact.len() {
        let mut fits = SseDecoder::new(32);
        assert!(exact.chunks(size).all(|c| fits.push(Bytes::copy_from_slice(c)).is_ok()));
        assert!(matches!(fits.next(), Some(Frame::Event(_))));
        let mut breaks = SseDecoder::new(31);
        let results: Vec<_> = exact.chunks(size).map(|c| breaks.push(Bytes::copy_from_slice(c))).collect();
        assert_eq!(results.last(), Some(&Err(SseError::TooLarge(31))));
        assert_eq!(breaks.next(), None);
        assert_eq!(breaks.push(Bytes::from_static(b"data: a\n\n")), Err(SseError::TooLarge(31)));
    }
}

#[test]
fn endless_comments_do_not_add_up_to_the_bound() {
    let mut decoder = SseDecoder::new(64);
    for _ in 0..1000 {
        decoder.push(Bytes::from_static(b": still here\n")).unwrap();
        assert_eq!(decoder.next(), Some(Frame::Comment));
    }
    decoder.push(Bytes::from_static(b"data: a\n\n")).unwrap();
    assert!(matches!(decoder.next(), Some(Frame::Event(_))));
}

#[test]
fn what_is_encoded_is_decoded_again() {
    for (name, data, back) in [
        (None, "a", "a"),
        (Some("x"), "", ""),
        (None, "a\nb\r\nc\rd", "a\nb\nc\nd"),
        (Some("x"), "a\n", "a\n"),
        (None, "\n\n", "\n\n"),
        (None, " a", " a"),
    ] {
        let mut out = BytesMut::new();
        encode_event(&mut out, name, data.as_bytes());
        assert_eq!(frames(&[&out]), [format!("{}|{back}", name.unwrap_or_default())]);
    }
    assert_eq!(frames(&[DONE, KEEP_ALIVE]), ["|[DONE]", "comment"]);
}
