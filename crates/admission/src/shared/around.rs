//! How all gateways together see the accounts that one of them knows, for those who ask to be shown.

use std::time::Duration;

use super::link::Standing;
use super::{Place, Share};
use crate::admission::Admission;

/// Accounts looked at in one call.
const MANY: usize = 128;
/// The longest time for all of them.
const LOOKING: Duration = Duration::from_millis(500);

impl Admission {
    /// Looks how all gateways together see every account that is known here, for [`Admission::standings`]. Where they cannot be
    /// asked, or there are none, accounts are shown as this gateway sees them.
    pub async fn look_around(&self) {
        let Some(link) = self.link() else { return };
        let accounts = self.all();
        let shares: Vec<Share> = accounts
            .iter()
            .map(|(level, account)| {
                let place = Place { level: *level, name: account.name.clone() };
                Share { place, allowance: account.allowance(), names: None }
            })
            .collect();
        let looking = async {
            let mut all = Vec::with_capacity(shares.len());
            for some in shares.chunks(MANY) {
                all.extend(link.store.look(some).await.ok()?);
            }
            Some(all)
        };
        let here = link.standing() == Standing::Here;
        let seen = if here { tokio::time::timeout(LOOKING, looking).await.ok().flatten() } else { None };
        let mut seen = seen.unwrap_or_default().into_iter();
        for (_, account) in accounts {
            account.look_like(seen.next().flatten());
        }
    }
}
