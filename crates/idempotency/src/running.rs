//! The one who runs.

use std::fmt::{self, Write};
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use crate::service::{Idempotency, Shared};
use crate::vault::Place;
use crate::{Kept, Policy, Sealed, Stored, Ticket};

/// The right to run a request, held until its answer is kept. Dropped before that, whoever comes next may run.
pub struct Running {
    shared: Arc<Shared>,
    place: Place,
    ticket: Ticket,
    policy: Policy,
    open: bool,
}

impl Running {
    pub(crate) fn new(of: &Idempotency, place: Place, ticket: Ticket, policy: Policy) -> Self {
        let shared = Arc::clone(&of.shared);
        shared.live.lock().insert(place.slot, ticket);
        Self { shared, place, ticket, policy, open: true }
    }

    /// The largest body that is kept, in bytes.
    pub fn max_body(&self) -> usize {
        self.policy.max_body
    }

    /// The key as others may see it: it differs by tenant, route and key, and tells none of them.
    pub fn pseudonym(&self) -> String {
        let mut text = String::with_capacity(42);
        text.push_str("penstock-");
        for byte in &self.place.slot.0[..16] {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Keeps the answer. The keeping goes on when the future is dropped: an asker that leaves before the last byte comes
    /// back for it.
    pub fn keep(mut self, kept: Kept) -> impl Future<Output = Stored> + Send + use<> {
        let large = kept.body.len() > self.policy.max_body;
        let task = (!large).then(|| {
            tokio::spawn(async move {
                let stored = self.store(kept).await;
                if stored == Stored::Stored {
                    self.close();
                }
                stored
            })
        });
        async move {
            match task {
                Some(task) => task.await.unwrap_or(Stored::Failed),
                None => Stored::Large,
            }
        }
    }

    async fn store(&self, kept: Kept) -> Stored {
        let bytes = match self.shared.vault.seal(&self.place, &kept) {
            Ok(bytes) => bytes,
            Err(error) => return failed(&error),
        };
        let Policy { retention, room, .. } = self.policy;
        let until = SystemTime::now() + retention;
        let sealed = Sealed { slot: self.place.slot, ticket: self.ticket, bytes, until };
        match self.shared.in_time(self.shared.store.keep(sealed, room)).await {
            Ok(stored) => {
                if stored != Stored::Stored {
                    tracing::warn!(why = stored.name(), "the answer to an idempotency key is not kept");
                }
                stored
            }
            Err(error) => failed(&error),
        }
    }

    fn close(&mut self) {
        self.open = false;
        let mut live = self.shared.live.lock();
        if live.get(&self.place.slot) == Some(&self.ticket) {
            live.remove(&self.place.slot);
        }
    }
}

fn failed(error: &penstock_domain::Error) -> Stored {
    let source = std::error::Error::source(error);
    tracing::error!(%error, source, "the answer to an idempotency key is not kept");
    Stored::Failed
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        self.close();
        self.shared.give_back(self.place.slot, self.ticket);
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
