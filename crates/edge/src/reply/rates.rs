//! The headers that tell what is left of a rate, as OpenAI and Anthropic spell them.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use penstock_flow::{Gauge, Rate};

/// The names of one gauge: limit, remaining, reset.
type Names = [HeaderName; 3];

const REQUESTS: Names = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: Names = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
const ANTHROPIC_REQUESTS: Names = [
    HeaderName::from_static("anthropic-ratelimit-requests-limit"),
    HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
    HeaderName::from_static("anthropic-ratelimit-requests-reset"),
];
const ANTHROPIC_TOKENS: Names = [
    HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
];
const ANTHROPIC_INPUT: Names = [
    HeaderName::from_static("anthropic-ratelimit-input-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-input-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-input-tokens-reset"),
];
const ANTHROPIC_OUTPUT: Names = [
    HeaderName::from_static("anthropic-ratelimit-output-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-output-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-output-tokens-reset"),
];

/// OpenAI knows one rate of tokens: the one that binds most.
pub(super) fn openai(headers: &mut HeaderMap, rate: &Rate) {
    let tokens = [rate.tokens, rate.input, rate.output].into_iter().flatten();
    let tokens = tokens.min_by_key(|gauge| gauge.remaining);
    for (names, gauge) in [(REQUESTS, rate.requests), (TOKENS, tokens)] {
        if let Some(gauge) = gauge {
            insert(headers, names, &gauge, reset(gauge.reset));
        }
    }
}

/// Anthropic knows a rate of each kind, and says when it is full again as a time of day.
pub(super) fn anthropic(headers: &mut HeaderMap, rate: &Rate, now: SystemTime) {
    let rows = [
        (ANTHROPIC_REQUESTS, rate.requests),
        (ANTHROPIC_TOKENS, rate.tokens),
        (ANTHROPIC_INPUT, rate.input),
        (ANTHROPIC_OUTPUT, rate.output),
    ];
    for (names, gauge) in rows {
        if let Some(gauge) = gauge {
            let full = HeaderValue::from_str(&gauge.full_at(now)).unwrap_or(HeaderValue::from_static(""));
            insert(headers, names, &gauge, full);
        }
    }
}

fn insert(headers: &mut HeaderMap, [limit, remaining, reset]: Names, gauge: &Gauge, when: HeaderValue) {
    headers.insert(limit, HeaderValue::from(gauge.limit));
    headers.insert(remaining, HeaderValue::from(gauge.remaining));
    headers.insert(reset, when);
}

/// A wait as OpenAI writes it: `0s`, `12ms`, `1.5s`, `6m0s`.
fn reset(wait: Duration) -> HeaderValue {
    let (seconds, millis) = (wait.as_secs(), wait.subsec_millis());
    let text = match (seconds, millis) {
        (0, 0) => return HeaderValue::from_static("0s"),
        (0, millis) => format!("{millis}ms"),
        (1..60, 0) => format!("{seconds}s"),
        (1..60, millis) => format!("{}s", seconds as f64 + f64::from(millis) / 1_000.0),
        _ => format!("{}m{}s", seconds / 60, seconds % 60),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("0s"))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn gauge(remaining: u64) -> Option<Gauge> {
        Some(Gauge { limit: 100, remaining, reset: Duration::from_millis(1_500) })
    }

    #[test]
    fn openai_is_told_of_the_rate_of_tokens_that_binds_most() {
        let mut headers = HeaderMap::new();
        openai(&mut headers, &Rate { requests: gauge(9), tokens: gauge(50), output: gauge(7), input: None });
        assert_eq!(headers["x-ratelimit-remaining-requests"], "9");
        assert_eq!(headers["x-ratelimit-limit-tokens"], "100");
        assert_eq!(headers["x-ratelimit-remaining-tokens"], "7");
        assert_eq!(headers["x-ratelimit-reset-tokens"], "1.5s");
    }

    #[test]
    fn anthropic_is_told_of_each_rate_and_of_the_time_of_day() {
        let mut headers = HeaderMap::new();
        let now = UNIX_EPOCH + Duration::from_secs(1_795_453_199);
        anthropic(&mut headers, &Rate { input: gauge(3), ..Rate::default() }, now);
        assert_eq!(headers["anthropic-ratelimit-input-tokens-remaining"], "3");
        assert_eq!(headers["anthropic-ratelimit-input-tokens-reset"], "2026-11-23T17:00:01Z");
        assert_eq!(headers.len(), 3, "what is not limited is not told");
    }

    #[test]
    fn waits_read_like_those_of_openai() {
        for (millis, text) in
            [(0, "0s"), (12, "12ms"), (1_000, "1s"), (1_500, "1.5s"), (360_000, "6m0s"), (61_200, "1m1s")]
        {
            assert_eq!(reset(Duration::from_millis(millis)), text);
        }
    }
}
