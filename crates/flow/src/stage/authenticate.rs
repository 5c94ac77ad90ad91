//! Who is asking.

use std::sync::Arc;
use std::time::SystemTime;

use penstock_domain::{Credential, Error};
use penstock_identity::Caller;

use crate::Flow;
use crate::journey::Journey;

/// Turns a credential into a caller, without IO: the key ring is in memory.
pub(crate) fn authenticate(
    flow: &Flow,
    journey: &mut Journey,
    credential: &Credential,
) -> Result<Arc<Caller>, Error> {
    let caller = flow.parts.keys.authenticate(credential, SystemTime::now())?;
    journey.known(&caller);
    Ok(caller)
}
