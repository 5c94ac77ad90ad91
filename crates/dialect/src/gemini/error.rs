//! Google's errors as we understand them: `google.rpc.Status`, alone or as the first item of a list
//! (<https://cloud.google.com/apis/design/errors>).

use std::time::Duration;

use penstock_domain::Error;
use serde::Deserialize;

use crate::openai::error::vendor_error_as;

/// Most bytes of an error body that are read.
const MAX_BODY: usize = 64 * 1024;
/// Longest wait that is believed.
const MAX_WAIT: f64 = 86_400.0;

#[derive(Deserialize)]
struct Body {
    error: Status,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Either {
    One(Body),
    Several(Vec<Body>),
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: Option<u16>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    details: Vec<Detail>,
}

/// One detail of any type: `ErrorInfo`, `RetryInfo`, `QuotaFailure`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    retry_delay: Option<String>,
    #[serde(default)]
    violations: Vec<Violation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Violation {
    #[serde(default)]
    quota_id: Option<String>,
}

/// What an error status of the vendor means; `retry_after` is the wait that its headers ask for.
pub fn vendor_error(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Error {
    match read(body) {
        Some(said) => said.meaning(status, retry_after, body),
        None => crate::openai::error::vendor_error(status, retry_after, body),
    }
}

/// The error inside a 200: a body or an event that has an `error` member.
pub(super) fn in_band(body: &[u8]) -> Option<Error> {
    let said = read(body)?;
    let status = said.code.filter(|status| (400..600).contains(status)).unwrap_or(500);
    Some(said.meaning(status, None, body))
}

fn read(body: &[u8]) -> Option<Status> {
    match serde_json::from_slice(body.get(..MAX_BODY).unwrap_or(body)).ok()? {
        Either::One(body) => Some(body.error),
        Either::Several(bodies) => bodies.into_iter().next().map(|body| body.error),
    }
}

impl Status {
    fn meaning(&self, status: u16, retry_after: Option<Duration>, body: &[u8]) -> Error {
        let spent = status == 429 && self.is_spent();
        let wait = retry_after.or_else(|| self.wait()).filter(|_| !spent);
        let code = match () {
            () if spent => "insufficient_quota",
            () if self.refuses_us() => "API_KEY_INVALID",
            () if self.exceeds_context() => "context_length_exceeded",
            () => &self.status,
        };
        vendor_error_as(status, wait, code, body)
    }

    /// A refused key comes as a 400; so does an account that may not use the API at all (billing, country).
    fn refuses_us(&self) -> bool {
        let reason = |detail: &Detail| matches!(detail.reason.as_deref(), Some("API_KEY_INVALID"));
        self.status == "FAILED_PRECONDITION"
            || self.details.iter().any(reason)
            || self.message.starts_with("API key ")
    }

    fn exceeds_context(&self) -> bool {
        self.message.contains("exceeds the maximum number of tokens")
    }

    /// No wait of a request helps: the quota of the day, a model without any quota, a prepaid account that is empty.
    fn is_spent(&self) -> bool {
        let daily = |v: &Violation| v.quota_id.as_deref().is_some_and(|id| id.contains("PerDay"));
        self.details.iter().flat_map(|detail| &detail.violations).any(daily)
            || self.message.contains("limit: 0,")
            || self.message.contains("credits are depleted")
    }

    /// `RetryInfo.retryDelay`, such as `34.07s`.
    fn wait(&self) -> Option<Duration> {
        let text = self.details.iter().find_map(|detail| detail.retry_delay.as_deref())?;
        let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
        (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(MAX_WAIT)))
    }
}
