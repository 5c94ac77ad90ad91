//! Events delivered by signed webhooks, as Standard Webhooks 1.0.0 has them.
//!
//! What it is: [`WebhookSender`], which carries one delivery; [`render`], an event as its JSON; [`endpoints`], what the
//! configuration says of those who are told; and the signature.
//!
//! What it promises: `webhook-id` stays the same over all attempts and `webhook-timestamp` is the attempt's; what is signed is
//! what is sent; an attempt ends within 15 seconds; only the guard of `penstock-egress` connects, so that no redirect is followed
//! and no address reached that is not public or allowed; no error or log line holds a secret, a path or an answer's body.
//!
//! What it refuses to know: when to try again, what was delivered before.

mod body;
mod sender;
mod sign;

use penstock_alert::Endpoint;
use penstock_config::{Config, Problem};
use penstock_egress::Target;

pub use body::render;
pub use sender::WebhookSender;
pub use sign::Signer;

/// The endpoints of a configuration.
///
/// # Errors
/// Every address and secret that cannot be used.
pub fn endpoints(config: &Config) -> Result<Vec<Endpoint>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (index, webhook) in config.webhooks.iter().enumerate() {
        let path = |member: &str| format!("webhooks[{index}].{member}");
        match Target::parse(&webhook.url) {
            Ok(target) => endpoints.push(Endpoint::new(webhook, target.to_string())),
            Err(say) => problems.push(Problem::error(path("url"), say)),
        }
        let secrets =
            [("secret", Some(&webhook.secret)), ("previous_secret", webhook.previous_secret.as_ref())];
        for (member, secret) in secrets {
            if let Some(Err(say)) = secret.map(|secret| Signer::new(secret.expose())) {
                let hint = "make one with: echo \"whsec_$(openssl rand -base64 32)\"";
                problems.push(Problem::error(path(member), say).with_hint(hint));
            }
        }
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        if endpoints[..index].iter().any(|other| other.id == endpoint.id) {
            let say = "another webhook has the same address: put all events into one";
            problems.push(Problem::error(format!("webhooks[{index}].url"), say));
        }
    }
    if problems.is_empty() { Ok(endpoints) } else { Err(problems) }
}
