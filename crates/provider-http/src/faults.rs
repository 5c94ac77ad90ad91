//! What can go wrong between us and a vendor, in sentences that anybody may read.
//!
//! What it promises: no host, no header, no vendor text in a sentence; the cause stays in `source`, for the log.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use penstock_domain::{Code, Error};

use crate::connector::ConnectLate;
use crate::pool::Failed;

/// Longest wait that a vendor can impose, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

pub(crate) fn connect_late(limit: Duration) -> Error {
    let say = format!("no connection to the provider could be opened within {} ms", limit.as_millis());
    Error::new(Code::UpstreamUnreachable, say)
}

pub(crate) fn first_token_late(limit: Duration) -> Error {
    let say = format!(
        "the provider accepted the request and did not begin its answer within {} ms",
        limit.as_millis()
    );
    Error::new(Code::UpstreamTimeout, say)
}

pub(crate) fn idle_late(limit: Duration) -> Error {
    let say = format!("the provider's answer fell silent for {} ms", limit.as_millis());
    Error::new(Code::UpstreamIdleTimeout, say)
}

pub(crate) fn total_late(limit: Duration) -> Error {
    let say = format!("the provider did not complete its answer within {} ms", limit.as_millis());
    Error::new(Code::UpstreamTimeout, say)
}

pub(crate) fn deadline() -> Error {
    Error::new(Code::DeadlineExceeded, "the deadline of the request passed before the answer was complete")
}

pub(crate) fn cut(cause: hyper::Error) -> Error {
    Error::new(Code::UpstreamStreamCut, "the provider's answer broke off before it was complete")
        .with_source(cause)
}

pub(crate) fn bad(say: impl Into<String>) -> Error {
    Error::new(Code::UpstreamBadResponse, say)
}

pub(crate) fn redirect(status: u16) -> Error {
    // The location may carry a token, and following it could carry ours away.
    bad(format!(
        "the provider answered with a redirect, status {status}, which is never followed: set base_url to its final address"
    ))
}

/// A request that got no answer.
pub(crate) fn unanswered(error: Failed, connect: Duration) -> Error {
    if caused_by::<ConnectLate>(&error) {
        return connect_late(connect);
    }
    let (code, say) = if error.is_connect() {
        let tls = caused_by::<rustls::Error>(&error);
        let say = if tls {
            "no secure connection to the provider could be opened: check its certificate, its name and the trusted authorities"
        } else {
            "no connection to the provider could be opened: check that it runs and that base_url is right"
        };
        (Code::UpstreamUnreachable, say)
    } else if parse_failed(&error) {
        (Code::UpstreamBadResponse, "the provider's answer is not HTTP as expected")
    } else {
        (Code::UpstreamUnreachable, "the provider closed the connection before it answered")
    };
    Error::new(code, say).with_source(error)
}

type Cause<'a> = &'a (dyn StdError + 'static);

fn causes<'a>(error: Cause<'a>) -> impl Iterator<Item = Cause<'a>> {
    std::iter::successors(Some(error), |&error: &Cause<'a>| {
        // An io::Error hides the error that it wraps behind that error's own source.
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as Cause<'a>),
            None => error.source(),
        }
    })
}

fn caused_by<E: StdError + 'static>(error: &Failed) -> bool {
    causes(error).any(|cause| cause.is::<E>())
}

fn parse_failed(error: &Failed) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse))
}

/// How long the vendor asks us to wait: `retry-after-ms`, else `retry-after` in seconds or as an HTTP date
/// (RFC 9110, 10.2.3), which is read against the vendor's own clock where it sends one.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |text: &str, unit: f64| {
        let count: f64 = text.parse().ok()?;
        // Too large a number is a long wait, not none; NaN and negative ones are nonsense.
        (count >= 0.0).then(|| Duration::try_from_secs_f64(count * unit).unwrap_or(LONGEST_WAIT))
    };
    let wait = text("retry-after-ms").and_then(|ms| number(ms, 0.001)).or_else(|| {
        let value = text(header::RETRY_AFTER.as_str())?;
        number(value, 1.0).or_else(|| {
            let until = httpdate::parse_http_date(value).ok()?;
            let now = text(header::DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok());
            Some(until.duration_since(now.unwrap_or_else(SystemTime::now)).unwrap_or_default())
        })
    })?;
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[(&'static str, &str)]) -> Option<Duration> {
        let map = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).expect("value"))
        });
        retry_after(&map.collect())
    }

    #[test]
    fn a_wait_is_read_in_all_its_spellings() {
        let date = "Wed, 21 Oct 2026 07:28:00 GMT";
        let later = "Wed, 21 Oct 2026 07:28:30 GMT";
        let cases = [
            (vec![("retry-after", "20")], Some(20_000)),
            (vec![("retry-after", " 1.5 ")], Some(1_500)),
            (vec![("retry-after-ms", "250"), ("retry-after", "20")], Some(250)),
            (vec![("retry-after-ms", "soon"), ("retry-after", "2")], Some(2_000)),
            (vec![("retry-after", later), ("date", date)], Some(30_000)),
            (vec![("retry-after", date), ("date", later)], Some(0)),
            (vec![("retry-after", "1e300")], Some(86_400_000)),
            (vec![("retry-after", "inf")], Some(86_400_000)),
            (vec![("retry-after", "-1")], None),
            (vec![("retry-after", "NaN")], None),
            (vec![("retry-after", "tomorrow")], None),
            (Vec::new(), None),
        ];
        for (headers, expected) in cases {
            assert_eq!(wait(&headers).map(|w| w.as_millis() as u64), expected, "{headers:?}");
        }
    }
}
