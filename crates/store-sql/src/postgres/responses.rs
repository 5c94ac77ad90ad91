//! The response store.

use std::time::SystemTime;

use penstock_conversation::{Chain, Owner, Pending, Reach, ResponseStore, Turn};

use super::{ANSWERS, Postgres, trouble, within};
use crate::responses::sql::{self, Put};
use crate::responses::{full, there_already};

impl ResponseStore for Postgres {
    fn put(&self, turn: Turn, most: u64) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::put(&mut *held, &turn, most)).await;
            if outcome.as_ref().err().and_then(trouble::taken).is_some() {
                return Err(self.done(held, outcome).map_or_else(there_already, |_| full()));
            }
            match self.done(held, outcome)? {
                Put::Done => Ok(()),
                Put::Full => Err(full()),
            }
        })
    }

    fn chain<'a>(
        &'a self,
        owner: &'a Owner,
        id: &'a str,
        reach: Reach,
        now: SystemTime,
    ) -> Pending<'a, Chain> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::chain(&mut *held, (owner, id), reach, now)).await;
            self.done(held, outcome)
        })
    }

    fn holding<'a>(
        &'a self,
        owner: &'a Owner,
        items: &'a [String],
        reach: Reach,
        now: SystemTime,
    ) -> Pending<'a, Vec<Turn>> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::holding(&mut *held, (owner, items), reach, now)).await;
            self.done(held, outcome)
        })
    }

    fn delete<'a>(&'a self, owner: &'a Owner, id: &'a str, now: SystemTime) -> Pending<'a, bool> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::delete(&mut *held, (owner, id), now)).await;
            self.done(held, outcome)
        })
    }

    fn expire(&self, now: SystemTime) -> Pending<'_, bool> {
        Box::pin(async move {
            let mut held = self.writer().await?;
            let outcome = within(ANSWERS, sql::expire(&mut *held, now)).await;
            self.done(held, outcome)
        })
    }
}
