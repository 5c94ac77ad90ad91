//! Who is asking.

use std::sync::Arc;
use std::time::SystemTime;

use penstock_domain::{Code, Credential, Error};
use penstock_identity::Caller;

use crate::Flow;
use crate::journey::Journey;

/// Turns a credential into a caller, without IO: the key ring is in memory.
pub(crate) fn authenticate(
    flow: &Flow,
    journey: &mut Journey,
    credential: &Credential,
) -> Result<Arc<Caller>, Error> {
    let keys = &flow.parts.keys;
    let caller = keys.authenticate(credential, SystemTime::now()).inspect_err(|error| {
        // The record names a key that is good and may not be used: its owner will ask.
        if matches!(error.code(), Code::ExpiredApiKey | Code::IpNotAllowed)
            && let Some(owner) = keys.owner(credential)
        {
            journey.known(&owner);
        }
    })?;
    journey.known(&caller);
    Ok(caller)
}
