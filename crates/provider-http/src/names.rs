//! Where a vendor's name leads: name resolution that outlives an outage of the name servers.
//!
//! What it is: the system's resolver with a memory of one answer. A vendor has one host, so there is one entry.
//!
//! What it promises: an answer is used for ten seconds, and asked for anew when a connection to it fails. When asking fails
//! or takes long, the last answer serves for up to an hour: a vendor is not down because DNS is. One look-up at a time per
//! vendor, whoever waits for it. What it refuses to know: time-outs of connections; who asks.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tower::Service;

use crate::connector::BoxError;

/// How long an answer is used without asking: short, because vendors move traffic by their names.
const FRESH: Duration = Duration::from_secs(10);
/// How long an answer may stand in for one that cannot be had.
const STALE: Duration = Duration::from_secs(3600);
/// How long a look-up may take before an older answer is used.
const PATIENCE: Duration = Duration::from_millis(500);
/// Most addresses of one name that are tried.
const MOST: usize = 16;

/// Addresses; the port is not looked at.
type Addresses = Arc<[SocketAddr]>;
type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
/// What a look-up came to; `None` while it goes on.
type Outcome = Option<Result<Addresses, String>>;

/// Who knows addresses.
pub(crate) trait Lookup: Send + Sync + 'static {
    /// Asks for the addresses of a host.
    fn look(&self, host: &str) -> Looking;
}

/// The system's own resolver.
pub(crate) struct System;

impl Lookup for System {
    fn look(&self, host: &str) -> Looking {
        let name = Name::from_str(host);
        Box::pin(async move {
            let name = name.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            Ok(GaiResolver::new().call(name).await?.collect())
        })
    }
}

/// The resolver of one vendor.
#[derive(Clone)]
pub(crate) struct Names(Arc<Inner>);

struct Inner {
    lookup: Box<dyn Lookup>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    last: Option<(Addresses, Instant)>,
    /// A connection to the last answer failed.
    doubted: bool,
    /// The look-up that goes on now.
    asking: Option<watch::Receiver<Outcome>>,
}

impl Names {
    /// A resolver that knows nothing yet.
    pub(crate) fn over(lookup: impl Lookup) -> Self {
        Self(Arc::new(Inner { lookup: Box::new(lookup), known: Mutex::default() }))
    }

    /// The addresses of a host.
    async fn find(self, host: String) -> io::Result<Addresses> {
        let (old, asked) = {
            let mut known = self.0.known.lock();
            if let Some((addresses, at)) = &known.last
                && at.elapsed() < FRESH
                && !known.doubted
            {
                return Ok(Arc::clone(addresses));
            }
            let asked = known.asking.get_or_insert_with(|| self.ask(host)).clone();
            let old = known.last.as_ref().filter(|(_, at)| at.elapsed() < STALE);
            (old.map(|(addresses, _)| Arc::clone(addresses)), asked)
        };
        let patience = if old.is_some() { PATIENCE } else { Duration::MAX };
        let outcome = tokio::time::timeout(patience, outcome(asked)).await;
        match (outcome, old) {
            (Ok(Ok(addresses)), _) => Ok(addresses),
            (_, Some(old)) => Ok(old),
            (Ok(Err(why)), None) => Err(io::Error::other(why)),
            (Err(_), None) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Begins a look-up that ends even if nobody waits for it any more: the next connection profits.
    fn ask(&self, host: String) -> watch::Receiver<Outcome> {
        let (sender, receiver) = watch::channel(None);
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let found = inner.lookup.look(&host).await;
            let outcome = match found {
                Ok(addresses) if !addresses.is_empty() => Ok(addresses.into_iter().take(MOST).collect()),
                Ok(_) => Err("the name has no address".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            let mut known = inner.known.lock();
            known.asking = None;
            if let Ok(addresses) = &outcome {
                known.last = Some((Arc::clone(addresses), Instant::now()));
                known.doubted = false;
            }
            drop(known);
            // Nobody may be left to hear it.
            let _ = sender.send(Some(outcome));
        });
        receiver
    }

    /// After a connection failed that was begun at `since`: whether the name leads elsewhere by now. Only an answer from
    /// before can be wrong.
    pub(crate) async fn moved(&self, host: &str, since: Instant) -> bool {
        let old = {
            let mut known = self.0.known.lock();
            let Some((addresses, at)) = &known.last else { return false };
            if *at >= since {
                return false;
            }
            let addresses = Arc::clone(addresses);
            known.doubted = true;
            addresses
        };
        let found = self.clone().find(host.to_owned()).await;
        found.is_ok_and(|found| found != old)
    }
}

async fn outcome(mut asked: watch::Receiver<Outcome>) -> Result<Addresses, String> {
    let ended = asked.wait_for(Option::is_some).await;
    ended.ok().and_then(|outcome| outcome.clone()).unwrap_or_else(|| Err("the look-up broke off".to_owned()))
}

/// Addresses one by one.
pub(crate) struct Each {
    addresses: Addresses,
    next: usize,
}

impl Iterator for Each {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        let address = self.addresses.get(self.next).copied();
        self.next += 1;
        address
    }
}

impl Service<Name> for Names {
    type Response = Each;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Each, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let finding = self.clone().find(name.as_str().to_owned());
        Box::pin(async move { Ok(Each { addresses: finding.await?, next: 0 }) })
    }
}

#[cfg(test)]
mod tests;
