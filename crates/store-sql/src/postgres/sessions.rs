//! The session store.

use std::time::SystemTime;

use penstock_identity::{Digest, Ending, Pending, Session, SessionStore};

use super::{ANSWERS, Postgres, within};
use crate::sessions;

impl SessionStore for Postgres {
    fn insert(&self, session: Session) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sessions::add(&mut *held, &session)).await;
            if self.done(held, outcome)? { Ok(()) } else { Err(sessions::full()) }
        })
    }

    fn find(&self, digest: Digest) -> Pending<'_, Option<Session>> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sessions::find(&mut *held, &digest)).await;
            self.done(held, outcome)
        })
    }

    fn touch(&self, digest: Digest, now: SystemTime) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sessions::touch(&mut *held, &digest, now)).await;
            self.done(held, outcome)
        })
    }

    fn list(&self) -> Pending<'_, Vec<Session>> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sessions::list(&mut *held)).await;
            self.done(held, outcome)
        })
    }

    fn end(&self, which: Ending) -> Pending<'_, Vec<Session>> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, sessions::end(&mut *held, &which)).await;
            self.done(held, outcome)
        })
    }
}
