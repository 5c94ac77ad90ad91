//! One attempt: a signed POST.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use penstock_alert::{Answer, Deliver, Delivering, Endpoint, Parcel};
use penstock_egress::{Bounds, Egress, Reach, Target};

use crate::sign::Signer;

/// Whole attempts: the specification asks for 15 to 30 seconds. Bodies of answers are not read for what they say.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(15), body: 64 * 1_024 };

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("penstock/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Sends deliveries as webhooks.
#[derive(Debug, Default)]
pub struct WebhookSender {
    egress: Egress,
}

impl WebhookSender {
    /// Sends through a guard.
    pub fn new(egress: Egress) -> Self {
        Self { egress }
    }

    async fn attempt(&self, endpoint: &Endpoint, parcel: &Parcel) -> Result<Answer, String> {
        let target = Target::parse(&endpoint.settings.url)?;
        let reach = Reach::with(&endpoint.settings.allow_private);
        let request = request(endpoint, parcel, SystemTime::now())?;
        let answer = match self.egress.send(&target, &reach, request, BOUNDS).await {
            Ok(answer) => answer,
            // The status came before what was too large; nobody reads what follows it.
            Err(fault) => return Err(fault.to_string()),
        };
        let status = answer.status.as_u16();
        let trouble = (!answer.status.is_success()).then(|| format!("the endpoint answered {status}").into());
        Ok(Answer {
            status: Some(status),
            retry_after: retry_after(&answer.headers, SystemTime::now()),
            trouble,
        })
    }
}

impl Deliver for WebhookSender {
    fn deliver<'a>(&'a self, endpoint: &'a Endpoint, parcel: &'a Parcel) -> Delivering<'a> {
        Box::pin(async move {
            let attempt = self.attempt(endpoint, parcel).await;
            attempt.unwrap_or_else(|why| Answer { trouble: Some(why.into()), ..Answer::default() })
        })
    }
}

fn request(endpoint: &Endpoint, parcel: &Parcel, now: SystemTime) -> Result<Request<Bytes>, String> {
    let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let secrets = std::iter::once(&endpoint.settings.secret).chain(&endpoint.settings.previous_secret);
    let mut signatures = Vec::new();
    for secret in secrets {
        signatures.push(Signer::new(secret.expose())?.sign(&parcel.event, timestamp, parcel.body.as_bytes()));
    }
    Request::post("/")
        .header(CONTENT_TYPE, JSON)
        .header(USER_AGENT, AGENT)
        .header(ID, &*parcel.event)
        .header(TIMESTAMP, timestamp)
        .header(SIGNATURE, signatures.join(" "))
        .body(Bytes::from(parcel.body.to_string()))
        .map_err(|_| "the delivery makes no request: this is a defect, please report it".to_owned())
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use penstock_config::{SecretText, Webhook};

    use super::*;

    fn endpoint(previous_secret: Option<SecretText>) -> Endpoint {
        let settings = Webhook {
            url: "https://app.example/hooks/s3cret".to_owned(),
            events: Vec::new(),
            secret: SecretText::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            previous_secret,
            allow_private: Vec::new(),
        };
        Endpoint::new(&settings, "https://app.example")
    }

    fn parcel() -> Parcel {
        Parcel { id: "dlv_1".into(), event: "evt_1".into(), body: "{}".into(), attempts: 0 }
    }

    #[test]
    fn during_a_change_of_secrets_both_sign() {
        let now = UNIX_EPOCH + Duration::from_secs(17);
        let header = |endpoint: &Endpoint, name: HeaderName| {
            let request = request(endpoint, &parcel(), now).expect("a request");
            request.headers()[name].to_str().expect("text").to_owned()
        };
        let one = header(&endpoint(None), SIGNATURE);
        let old = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQt";
        let two = header(&endpoint(Some(SecretText::new(old))), SIGNATURE);
        assert_eq!(two, format!("{one} {}", Signer::new(old).expect("a secret").sign("evt_1", 17, b"{}")));
        assert_eq!(header(&endpoint(None), ID), "evt_1");
        assert_eq!(header(&endpoint(None), TIMESTAMP), "17");
    }

    #[test]
    fn an_endpoint_says_when_to_come_back_in_seconds_or_as_a_date() {
        let asked = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, UNIX_EPOCH + Duration::from_secs(784_111_777))
        };
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT"), None);
        assert_eq!(asked("soon"), None);
    }
}
