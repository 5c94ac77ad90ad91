//! The first stage: bytes and headers become a request and a credential.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use hyper::body::Incoming;
use penstock_dialect::asker;
use penstock_domain::{
    Code, Credential, Dialect, Error, Hints, Origin, Request, RequestId, Resume, Stage, Task,
};
use penstock_flow::Flow;

use crate::edge::Inner;
use crate::intake::Seat;
use crate::upload;

/// The longest wait that a client may ask for; more is cut, so that arithmetic on clocks cannot overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The header with which an asker refuses that another candidate continues a broken stream: `off`.
const RESUME: HeaderName = HeaderName::from_static("penstock-resume");
/// Our own time-out, and those of the SDKs.
const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
const SDK_TIMEOUTS: [HeaderName; 2] =
    [HeaderName::from_static("x-stainless-timeout"), HeaderName::from_static("x-stainless-read-timeout")];

/// The credential of a request, by the one extractor.
pub(crate) fn credential(headers: &HeaderMap, from: Option<IpAddr>) -> Credential {
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    penstock_identity::credential(headers, from)
}

/// What a request brings besides its body.
pub(crate) struct Arriving<'a> {
    pub(crate) id: &'a RequestId,
    pub(crate) arrived: Instant,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) task: Task,
    pub(crate) dialect: Dialect,
    /// Where it comes from.
    pub(crate) from: Option<IpAddr>,
    /// Gets the body of a request that may have to be passed on after all.
    pub(crate) kept: &'a OnceLock<Bytes>,
}

/// Reads and decodes one inference request.
///
/// # Errors
/// Everything that is wrong with a request before anybody asked what it means: media type, size, time, JSON, members,
/// time-out headers; the credential errors when the body is too large to be read for a stranger; and `overloaded`.
pub(crate) async fn decode(
    arriving: Arriving<'_>,
    body: Incoming,
    flow: &Flow,
    edge: &Inner,
) -> Result<(Request, Credential, Seat), Error> {
    let Arriving { id, arrived, headers, task, dialect, from, kept } = arriving;
    let settings = &edge.settings;
    upload::check_media(headers)?;
    let credential = credential(headers, from);
    let mut entry = match edge.intake.enter(flow, (headers, &credential), (settings.max_body, false)) {
        Ok(entry) => entry,
        Err(error) => return Err(upload::leave(body, error)),
    };
    let bytes: Bytes = upload::read(headers, body, settings, Some(&mut entry)).await?;
    if dialect == Dialect::Responses {
        let _ = kept.set(bytes.clone());
    }
    let asker = asker(dialect).ok_or_else(nobody_asks)?;
    let decoded = asker.decode(task, bytes, &settings.decode)?;
    let own = decoded.penstock.as_ref().and_then(|options| options.timeout);
    let wait = wait(headers, own, decoded.stream)?;
    let deadline = wait.map(|wait| arrived + wait);
    let mut request = decoded.into_request(id.clone(), Origin::Http, deadline);
    entry.asks(request.priority)?;
    request.arrived = Some(arrived);
    request.hints = hints(headers, dialect);
    if headers.get(RESUME).is_some_and(|wish| wish.as_bytes().eq_ignore_ascii_case(b"off")) {
        request.resume = Resume::Off;
    }
    Ok((request, credential, entry.seat))
}

const ANTHROPIC_HINTS: [(HeaderName, &str); 2] = [
    (HeaderName::from_static("anthropic-beta"), "anthropic-beta"),
    (HeaderName::from_static("anthropic-version"), "anthropic-version"),
];
const OPENAI_HINTS: [(HeaderName, &str); 1] = [(HeaderName::from_static("openai-beta"), "openai-beta")];

/// The headers of the asker that reach a vendor of its dialect: these and no others.
fn hints(headers: &HeaderMap, dialect: Dialect) -> Hints {
    let names: &[(HeaderName, &'static str)] = match dialect {
        Dialect::Anthropic => &ANTHROPIC_HINTS,
        Dialect::OpenAi | Dialect::Responses => &OPENAI_HINTS,
        Dialect::Gemini | Dialect::Bedrock => &[],
    };
    let found = |(header, name): &(HeaderName, &'static str)| {
        // A header that stands several times means its values together (RFC 9110, 5.3).
        let values: Vec<&str> =
            headers.get_all(header).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| (*name, values.join(",").into()))
    };
    Hints::new(names.iter().filter_map(found))
}

/// A route in a dialect that only vendors speak: a mistake in the table, found by the route matrix test.
pub(crate) fn nobody_asks() -> Error {
    Error::new(Code::InternalError, "this route speaks a dialect that no client asks in")
}

/// How long the asker waits: the shortest of what they say. Ours (`penstock.timeout_ms`, `x-request-timeout`) bounds
/// the whole answer. The SDKs' own headers tell how long they wait for *bytes*: for a whole answer that is the same,
/// for a stream it is not, and a stream that keeps talking must not be cut by it.
pub(crate) fn wait(
    headers: &HeaderMap,
    own: Option<Duration>,
    stream: bool,
) -> Result<Option<Duration>, Error> {
    let mut shortest = own;
    let mut take = |wait: Duration| shortest = Some(shortest.map_or(wait, |shortest| shortest.min(wait)));
    if let Some(value) = headers.get(&TIMEOUT) {
        take(value.to_str().ok().and_then(duration).ok_or_else(bad_timeout)?);
    }
    if !stream {
        for name in &SDK_TIMEOUTS {
            // What an SDK writes there when it has no time-out is its own business.
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .and_then(duration)
                .into_iter()
                .for_each(&mut take);
        }
    }
    Ok(shortest.map(|wait| wait.min(LONGEST_WAIT)))
}

fn bad_timeout() -> Error {
    let say =
        "x-request-timeout must be a positive time in seconds or with a unit, such as 30, 30s, 1500ms or 2m";
    Error::new(Code::InvalidValue, say).with_param("x-request-timeout").at(Stage::Decode)
}

/// `30`, `0.5`, `30s`, `1500ms`, `2m`; positive.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = match text {
        _ if text.ends_with("ms") => (&text[..text.len() - 2], 0.001),
        _ if text.ends_with('s') => (&text[..text.len() - 1], 1.0),
        _ if text.ends_with('m') => (&text[..text.len() - 1], 60.0),
        _ => (text, 1.0),
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let seconds = number.parse::<f64>().ok()? * unit;
    (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn times_are_read_with_and_without_unit() {
        for (text, millis) in
            [("30", 30_000), ("30s", 30_000), ("1500ms", 1_500), ("2m", 120_000), ("0.5", 500)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "0", "-1", "1e9", "inf", "NaN", "30 s s", "None", "1h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(duration("999999999999999999999999"), Some(LONGEST_WAIT));
    }

    #[test]
    fn the_shortest_wait_counts_and_sdk_headers_do_not_cut_streams() {
        let both = headers(&[("x-request-timeout", "20"), ("x-stainless-read-timeout", "5")]);
        assert_eq!(wait(&both, None, false).unwrap(), Some(Duration::from_secs(5)));
        assert_eq!(wait(&both, None, true).unwrap(), Some(Duration::from_secs(20)));
        assert_eq!(wait(&both, Some(Duration::from_secs(1)), true).unwrap(), Some(Duration::from_secs(1)));
        assert_eq!(wait(&headers(&[("x-stainless-timeout", "NOT_GIVEN")]), None, false).unwrap(), None);
    }

    #[test]
    fn only_the_hints_of_a_dialect_are_kept() {
        let all = headers(&[
            ("anthropic-beta", "a-2025-01-01"),
            ("anthropic-beta", "b-2025-01-01"),
            ("anthropic-version", "2023-06-01"),
            ("openai-beta", "x=v1"),
            ("x-api-key", "secret"),
            ("authorization", "Bearer secret"),
            ("cookie", "secret"),
        ]);
        let kept =
            |dialect| hints(&all, dialect).iter().map(|(n, v)| format!("{n}: {v}")).collect::<Vec<_>>();
        let anthropic = ["anthropic-beta: a-2025-01-01,b-2025-01-01", "anthropic-version: 2023-06-01"];
        assert_eq!(kept(Dialect::Anthropic), anthropic);
        assert_eq!(kept(Dialect::OpenAi), ["openai-beta: x=v1"]);
        assert!(kept(Dialect::Gemini).is_empty());
        let long = "a".repeat(3000);
        let long = [("anthropic-beta", long.as_str())];
        let long = long.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        assert_eq!(hints(&long, Dialect::Anthropic), Hints::default(), "bounded");
    }

    #[test]
    fn our_own_header_is_refused_when_it_is_not_a_time() {
        let error = wait(&headers(&[("x-request-timeout", "soon")]), None, true).unwrap_err();
        assert_eq!((error.code(), error.param()), (Code::InvalidValue, Some("x-request-timeout")));
    }
}
