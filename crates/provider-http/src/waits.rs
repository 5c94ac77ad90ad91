//! Waits that a vendor's headers name.
//!
//! What it promises: no wait is longer than a day, whatever a vendor asks for; nonsense is no wait.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use penstock_dialect::wait_of;

/// Longest wait that a vendor can impose, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// What time it is by the vendor's own clock, where it sends one.
fn now(headers: &HeaderMap) -> SystemTime {
    let date = text(headers, header::DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok());
    date.unwrap_or_else(SystemTime::now)
}

/// How long the vendor asks us to wait: `retry-after-ms`, else `retry-after` in seconds or as an HTTP date
/// (RFC 9110, 10.2.3), which is read against the vendor's own clock where it sends one.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |text: &str, unit: f64| {
        let count: f64 = text.parse().ok()?;
        // Too large a number is a long wait, not none; NaN and negative ones are nonsense.
        (count >= 0.0).then(|| Duration::try_from_secs_f64(count * unit).unwrap_or(LONGEST_WAIT))
    };
    let wait = text(headers, "retry-after-ms").and_then(|ms| number(ms, 0.001)).or_else(|| {
        let value = text(headers, header::RETRY_AFTER.as_str())?;
        number(value, 1.0).or_else(|| {
            let until = httpdate::parse_http_date(value).ok()?;
            Some(until.duration_since(now(headers)).unwrap_or_default())
        })
    })?;
    Some(wait.min(LONGEST_WAIT))
}

/// When everything that is used up is there again, by the families `x-ratelimit-*` (durations, or seconds or milliseconds
/// since 1970) and `anthropic-ratelimit-*` (RFC 3339). A limit of which something remains is not what stopped us.
pub(crate) fn reset(headers: &HeaderMap) -> Option<Duration> {
    let resets = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str();
        if !name.starts_with("x-ratelimit-") && !name.starts_with("anthropic-ratelimit-") {
            return None;
        }
        let (before, after) = name.split_once("reset")?;
        let left: f64 = text(headers, &format!("{before}remaining{after}"))?.parse().ok()?;
        (left <= 0.0).then(|| until(headers, value.to_str().ok()?.trim())).flatten()
    });
    resets.max().map(|wait| wait.min(LONGEST_WAIT))
}

/// One moment or span, as a wait.
fn until(headers: &HeaderMap, text: &str) -> Option<Duration> {
    let at = match text.parse::<f64>() {
        // No span is this long: it is a moment, in milliseconds or in seconds.
        Ok(moment) if moment >= 1e12 => Duration::try_from_secs_f64(moment / 1000.0).ok()?,
        Ok(moment) if moment >= 1e9 => Duration::try_from_secs_f64(moment).ok()?,
        Ok(_) => return wait_of(text),
        Err(_) => match text.parse::<jiff::Timestamp>() {
            Ok(moment) => SystemTime::from(moment).duration_since(SystemTime::UNIX_EPOCH).ok()?,
            Err(_) => return wait_of(text),
        },
    };
    let now = now(headers).duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).expect("value"))
        });
        pairs.collect()
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
            assert_eq!(retry_after(&map(&headers)).map(|w| w.as_millis() as u64), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_reset_counts_where_nothing_remains() {
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        let cases = [
            (vec![("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "12ms")], Some(12)),
            (
                vec![
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                Some(360_000),
            ),
            (
                vec![
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1s"),
                    ("x-ratelimit-remaining-tokens", "7"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                Some(1_000),
            ),
            (
                vec![
                    date,
                    ("anthropic-ratelimit-input-tokens-remaining", "0"),
                    ("anthropic-ratelimit-input-tokens-reset", "2026-10-21T07:28:40Z"),
                ],
                Some(40_000),
            ),
            (
                vec![
                    date,
                    ("anthropic-ratelimit-requests-remaining", "0"),
                    ("anthropic-ratelimit-requests-reset", "2026-10-21T07:27:00Z"),
                ],
                Some(0),
            ),
            (vec![date, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1792567690")], Some(10_000)),
            (
                vec![date, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1792567690500")],
                Some(10_500),
            ),
            (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1.5")], Some(1_500)),
            (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "inf")], None),
            (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "soon")], None),
            (vec![("x-ratelimit-reset-requests", "1s")], None),
        ];
        for (headers, expected) in cases {
            assert_eq!(reset(&map(&headers)).map(|w| w.as_millis() as u64), expected, "{headers:?}");
        }
    }
}
