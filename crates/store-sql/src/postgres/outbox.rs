//! The outbox of events, which several gateways deliver from.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_alert::{Added, Claim, Delivery, Notice, Outbox, Pending, Query, Reply};

use super::{ANSWERS, Postgres, within};
use crate::outbox::sql;

impl Outbox for Postgres {
    fn add<'a>(&'a self, notice: &'a Notice, endpoints: &'a [Arc<str>]) -> Pending<'a, Added> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::add(&mut *held, notice, endpoints)).await;
            self.done(held, outcome)
        })
    }

    fn claim<'a>(&'a self, endpoint: &'a str, now: SystemTime, lease: Duration) -> Pending<'a, Claim> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::claim(&mut *held, endpoint, now, lease)).await;
            self.done(held, outcome)
        })
    }

    fn settle<'a>(&'a self, id: &'a str, reply: &'a Reply) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::settle(&mut *held, id, reply)).await;
            self.done(held, outcome)
        })
    }

    fn list(&self, query: Query) -> Pending<'_, Vec<Delivery>> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::list(&mut *held, query)).await;
            self.done(held, outcome)
        })
    }

    fn again<'a>(&'a self, id: &'a str, now: SystemTime) -> Pending<'a, Option<Delivery>> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::again(&mut *held, id, now)).await;
            self.done(held, outcome)
        })
    }
}

impl Postgres {
    /// Deletes some entries of the ledger of requests that ended before a moment; says whether there may be more. What was
    /// spent by hour, and ever, stays.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn expire_entries(&self, before: SystemTime) -> Result<bool, penstock_domain::Error> {
        let mut held = self.writer().await?;
        let outcome = within(ANSWERS, crate::retention::expire(&mut *held, "ledger_entries", before)).await;
        self.done(held, outcome)
    }
}
