//! Answers by idempotency key, for several gateways: of all that get the same request at once, one runs it.

use std::time::SystemTime;

use penstock_idempotency::{AnswerStore, Claim, Claimed, Pending, Room, Sealed, Slot, Stored, Ticket};

use super::{ANSWERS, Postgres, within};
use crate::idempotency::sql;

impl AnswerStore for Postgres {
    fn claim(&self, claim: Claim) -> Pending<'_, Claimed> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::claim(&mut *held, &claim)).await;
            self.done(held, outcome)
        })
    }

    fn renew<'a>(&'a self, leases: &'a [(Slot, Ticket)], until: SystemTime) -> Pending<'a, ()> {
        Box::pin(async move {
            if leases.is_empty() {
                return Ok(());
            }
            let mut held = self.writer().await?;
            let outcome = within(ANSWERS, sql::renew(&mut *held, leases, until)).await;
            self.done(held, outcome)
        })
    }

    fn keep(&self, sealed: Sealed, room: Room) -> Pending<'_, Stored> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::keep(&mut *held, &sealed, room)).await;
            self.done(held, outcome)
        })
    }

    fn release(&self, slot: Slot, ticket: Ticket) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sql::release(&mut *held, slot, ticket)).await;
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
