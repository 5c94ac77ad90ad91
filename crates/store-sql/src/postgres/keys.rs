//! The key store, and that of teams under the same revision.

use std::sync::Arc;
use std::time::SystemTime;

use penstock_identity::{KeyRecord, KeyStore, Listing, Pending, TeamListing, TeamRecord, TeamStore, in_use};

use super::{ANSWERS, Postgres, trouble, within};
use crate::keys::{self, Changed};
use crate::teams::{self, Outcome};

impl KeyStore for Postgres {
    fn list(&self) -> Pending<'_, Listing> {
        Box::pin(async {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, keys::read_all(&mut *held)).await;
            let (revision, rows) = self.done(held, outcome)?;
            let place = self.place();
            Ok(Listing {
                revision,
                keys: rows.iter().filter_map(|row| keys::readable(&place, row)).collect(),
            })
        })
    }

    fn insert(&self, record: KeyRecord) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, keys::add(&mut *held, &record)).await;
            let taken = outcome.as_ref().err().and_then(trouble::taken).map(str::to_owned);
            let done = self.done(held, outcome);
            taken.map_or(done, |what| Err(keys::conflict(&what, &record)))
        })
    }

    fn update(&self, mut record: KeyRecord) -> Pending<'_, KeyRecord> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, keys::change(&mut *held, &record)).await;
            let taken = outcome.as_ref().err().and_then(trouble::taken).map(str::to_owned);
            let done = self.done(held, outcome);
            if let Some(what) = taken {
                return Err(keys::conflict(&what, &record));
            }
            match done? {
                Changed::Done => {
                    record.version += 1;
                    Ok(record)
                }
                Changed::Newer => Err(keys::newer()),
                Changed::Gone => Err(keys::gone()),
            }
        })
    }

    fn revision(&self) -> Pending<'_, u64> {
        Box::pin(async {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, keys::revision(&mut *held)).await;
            self.done(held, outcome)
        })
    }
}

impl TeamStore for Postgres {
    fn list(&self) -> Pending<'_, TeamListing> {
        Box::pin(async {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, teams::read_all(&mut *held)).await;
            let (revision, rows) = self.done(held, outcome)?;
            teams::listing(revision, &rows)
        })
    }

    fn insert(&self, record: TeamRecord) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, teams::add(&mut *held, &record)).await;
            let taken = outcome.as_ref().err().and_then(trouble::taken).is_some();
            let done = self.done(held, outcome);
            if taken { Err(teams::there_already(&record)) } else { done }
        })
    }

    fn update(&self, mut record: TeamRecord) -> Pending<'_, TeamRecord> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, teams::change(&mut *held, &record)).await;
            match self.done(held, outcome)? {
                Outcome::Done => {
                    record.version += 1;
                    Ok(record)
                }
                Outcome::Refused => Err(teams::newer()),
                Outcome::Gone => Err(teams::gone()),
            }
        })
    }

    fn delete(&self, name: Arc<str>, now: SystemTime) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, teams::remove(&mut *held, &name, now)).await;
            match self.done(held, outcome)? {
                Outcome::Done => Ok(()),
                Outcome::Refused => Err(in_use()),
                Outcome::Gone => Err(teams::gone()),
            }
        })
    }

    fn revision(&self) -> Pending<'_, u64> {
        KeyStore::revision(self)
    }
}
