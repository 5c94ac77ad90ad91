//! Open answers of tokens that an issuer vouched for: it is asked again whenever its last word has grown old, for as long as
//! somebody hangs on it.
//!
//! What it promises: a token that its issuer withdrew ends its open answers with the first word that says so; an issuer that
//! cannot be asked lets them go on for one more period and no longer; a token whose own time is over ends nothing, as with
//! tokens that a signature proves; a token without open answers is not asked about.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use penstock_domain::Secret;
use penstock_identity::Claims;
use tokio::sync::OwnedSemaphorePermit;

use super::{Answer, Standing};
use crate::issuer::Issuer;

/// Between two questions that nobody answered.
const AGAIN: Duration = Duration::from_secs(1);

/// A good word that is new, and the room to watch it.
pub(crate) struct New {
    pub(super) answer: Arc<Answer>,
    pub(super) _room: OwnedSemaphorePermit,
}

/// Begins to watch; must run inside a Tokio runtime. `signed` are the claims of a token whose signature was proved here.
pub(crate) fn begin(issuer: Arc<Issuer>, token: Secret, signed: Option<Claims>, new: New) {
    tokio::spawn(async move {
        let mut until = new.answer.until;
        while let Some(next) = again(&issuer, &token, signed.as_ref(), (&new.answer, until)).await {
            until = next;
        }
    });
}

/// Waits until a word is old, and asks again where somebody hangs on it. Until when the next word holds.
async fn again(
    issuer: &Arc<Issuer>,
    token: &Secret,
    signed: Option<&Claims>,
    (answer, until): (&Answer, Instant),
) -> Option<Instant> {
    tokio::time::sleep_until(until.into()).await;
    let period = issuer.settings().introspection.as_ref()?.cache.0;
    let inquirer = issuer.inquirer.as_ref()?;
    let leash = answer.leash()?;
    let over =
        || answer.claims.as_ref().and_then(|claims| claims.expires).is_some_and(|end| end <= seconds());
    loop {
        if !leash.holds_anybody() || over() {
            return None;
        }
        if let Some(new) = inquirer.ask(issuer.settings(), token, signed.cloned()).await {
            begin(Arc::clone(issuer), token.clone(), signed.cloned(), new);
        }
        match inquirer.known(token.expose()) {
            (Standing::Good(_), until) => return until,
            (Standing::Unknown, _) if until.elapsed() < period => tokio::time::sleep(AGAIN.min(period)).await,
            (standing, _) => {
                let withdrawn = matches!(standing, Standing::Bad);
                leash.cut();
                tracing::info!(
                    issuer = issuer.settings().issuer,
                    withdrawn,
                    "the open answers of a token end: its issuer no longer vouches for it"
                );
                return None;
            }
        }
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
