//! Reads a request body: bounded in size, in time, and in what it reserves before bytes have come.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use penstock_domain::{Code, Error};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::EdgeSettings;
use crate::intake::{Charge, Entry};

/// What is reserved on the word of a `content-length` alone.
const RESERVE: usize = 256 << 10;
/// A body up to this size is copied out of the connection's read buffer: as a slice it would keep the whole buffer
/// alive for as long as the answer streams.
pub(crate) const COPY: usize = 4 << 10;
/// A refused body is read on for this long at most, so that the client can read the refusal before the reset.
const LINGER: Duration = Duration::from_secs(2);
/// A refused body is read on up to this many bytes.
const LINGER_BYTES: usize = 64 << 20;

/// Refuses what the headers already show to be unreadable.
///
/// # Errors
/// `unsupported_media_type`.
pub(crate) fn check_media(headers: &HeaderMap) -> Result<(), Error> {
    let found = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    if !found.is_some_and(is_json) {
        let say = match found.and_then(|value| std::str::from_utf8(value).ok()) {
            Some(found) => {
                let found: String = found.chars().filter(|c| !c.is_control()).take(100).collect();
                format!("content-type must be application/json, found {found}")
            }
            None => "content-type must be application/json, and none was sent".to_owned(),
        };
        return Err(Error::new(Code::UnsupportedMediaType, say));
    }
    check_coding(headers)
}

/// Refuses bodies that would have to be unpacked.
///
/// # Errors
/// `unsupported_media_type`.
pub(crate) fn check_coding(headers: &HeaderMap) -> Result<(), Error> {
    let coded = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if coded {
        let say = "compressed request bodies are not accepted; send the body without content-encoding";
        return Err(Error::new(Code::UnsupportedMediaType, say));
    }
    Ok(())
}

/// `application/json` and nothing like it; the one parameter allowed is a UTF-8 charset.
fn is_json(value: &[u8]) -> bool {
    if value == b"application/json" {
        return true;
    }
    let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    parts.next().is_some_and(|media| media.eq_ignore_ascii_case(b"application/json"))
        && parts.all(|parameter| {
            parameter.is_empty()
                || [&b"charset=utf-8"[..], b"charset=\"utf-8\"", b"charset=utf8"]
                    .iter()
                    .any(|known| parameter.eq_ignore_ascii_case(known))
        })
}

/// The announced length; the server has refused malformed ones already.
pub(crate) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a whole body.
///
/// # Errors
/// `request_too_large` (by the announced length before a byte is read, else when it grows too large),
/// `request_timeout`, `incomplete_body`, `invalid_request` for broken chunks, `overloaded` when it is more than there is room for.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Incoming,
    settings: &EdgeSettings,
    entry: Option<&mut Entry>,
) -> Result<Bytes, Error> {
    let announced = announced(headers);
    let mut upload = Upload { body, received: 0, start: Instant::now(), clock: None };
    if announced.is_some_and(|length| length > settings.max_body as u64) {
        tokio::spawn(upload.linger());
        return Err(too_large(settings));
    }
    let Some(first) = upload.data(settings).await? else { return Ok(Bytes::new()) };
    if first.len() > settings.max_body {
        tokio::spawn(upload.linger());
        return Err(too_large(settings));
    }
    // A small body is bounded by the number of seats.
    let small = announced == Some(first.len() as u64) && first.len() <= COPY;
    let mut charge = entry.filter(|_| !small).map(Entry::charge);
    if let Err(error) = grow(&mut charge, first.len()) {
        tokio::spawn(upload.linger());
        return Err(error);
    }
    if announced == Some(first.len() as u64) {
        // The usual case: one piece, taken as it is. The end is polled so that the connection can be used again.
        return match upload.data(settings).await? {
            None if first.len() <= COPY => Ok(Bytes::copy_from_slice(&first)),
            None => Ok(counted(charge, first)),
            Some(_) => Err(broken()),
        };
    }
    let reserve = usize::try_from(announced.unwrap_or(0)).unwrap_or(RESERVE).min(RESERVE);
    let mut whole = BytesMut::with_capacity(reserve.max(first.len()));
    whole.extend_from_slice(&first);
    drop(first);
    while let Some(piece) = upload.data(settings).await? {
        if whole.len() + piece.len() > settings.max_body {
            tokio::spawn(upload.linger());
            return Err(too_large(settings));
        }
        if let Err(error) = grow(&mut charge, piece.len()) {
            tokio::spawn(upload.linger());
            return Err(error);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(counted(charge, whole.freeze()))
}

fn grow(charge: &mut Option<Charge>, more: usize) -> Result<(), Error> {
    charge.as_mut().map_or(Ok(()), |charge| charge.grow(more))
}

fn counted(charge: Option<Charge>, bytes: Bytes) -> Bytes {
    match charge {
        Some(charge) => charge.of(bytes),
        None => bytes,
    }
}

/// Refuses a request whose body has not been read.
pub(crate) fn leave(body: Incoming, error: Error) -> Error {
    // A stranger's is not worth reading.
    if error.code() == Code::Overloaded && !body.is_end_stream() {
        tokio::spawn(Upload { body, received: 0, start: Instant::now(), clock: None }.linger());
    }
    error
}

struct Upload {
    body: Incoming,
    received: usize,
    start: Instant,
    clock: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// The next piece. The timer is made only when a piece is not there yet, and moved only when it fires.
    async fn data(&mut self, settings: &EdgeSettings) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = poll_fn(|context| {
                if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
                    return Poll::Ready(Ok(frame));
                }
                let earned =
                    Duration::from_secs_f64(self.received as f64 / f64::from(settings.body_rate.max(1)));
                let due = self.start + settings.body_timeout + earned;
                let clock = self.clock.get_or_insert_with(|| Box::pin(sleep_until(due)));
                loop {
                    ready!(clock.as_mut().poll(context));
                    if Instant::now() >= due {
                        return Poll::Ready(Err(late(settings)));
                    }
                    clock.as_mut().reset(due);
                }
            });
            match frame.await?.transpose().map_err(|error| unreadable(&error))?.map(Frame::into_data) {
                None => return Ok(None),
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    self.received += piece.len();
                    return Ok(Some(piece));
                }
                // Trailers carry nothing that we read.
                Some(Err(_)) => {}
            }
        }
    }

    /// Reads on and throws away, within bounds. Closing at once would reset the connection while the client still
    /// writes, and it would never see why it was refused (nginx calls this a lingering close).
    async fn linger(mut self) {
        let _ = tokio::time::timeout(LINGER, async {
            let mut left = LINGER_BYTES;
            while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await
            {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    break;
                }
            }
        })
        .await;
    }
}

fn too_large(settings: &EdgeSettings) -> Error {
    Error::new(
        Code::RequestTooLarge,
        format!("the body is larger than {} bytes, the most accepted here", settings.max_body),
    )
}

fn late(settings: &EdgeSettings) -> Error {
    let seconds = settings.body_timeout.as_secs_f64();
    Error::new(Code::RequestTimeout, format!("the body did not arrive within {seconds} s; send it faster"))
}

fn broken() -> Error {
    Error::new(Code::InvalidRequest, "the body's framing is broken")
}

fn unreadable(error: &hyper::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData)
        {
            return broken().with_source(io.to_string());
        }
        cause = inner.source();
    }
    Error::new(Code::IncompleteBody, "the body ended before its announced length")
        .with_source(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::is_json;

    #[test]
    fn only_json_in_utf_8_is_json() {
        for yes in
            ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=\"UTF-8\";"]
        {
            assert!(is_json(yes.as_bytes()), "{yes}");
        }
        for no in [
            "",
            "text/json",
            "application/jsonp",
            "application/json; charset=latin1",
            "application/json, text/html",
        ] {
            assert!(!is_json(no.as_bytes()), "{no}");
        }
    }
}
