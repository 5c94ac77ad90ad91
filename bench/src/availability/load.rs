//! Steady load: requests that are due at fixed times, whatever became of those before.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::Trouble;
use crate::wire::{Connection, Reply};

/// What became of all requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    /// Answers that were whole, with status 200.
    pub(crate) good: u64,
    /// Everything else, by status; 0 is a connection that failed.
    pub(crate) bad: BTreeMap<u16, u64>,
    /// Calls, by what the gateway says.
    pub(crate) attempts: u64,
    /// Refusals that do not say whether to come back.
    pub(crate) mute: u64,
    /// Seconds that each reply took.
    pub(crate) seconds: Vec<f64>,
}

impl Tally {
    /// Notes one reply, or that there was none.
    pub(crate) fn count(&mut self, reply: Option<&Reply>, seconds: f64) {
        self.requests += 1;
        self.seconds.push(seconds);
        self.attempts += reply.map_or(0, Reply::attempts);
        match reply {
            Some(reply) if reply.status == 200 => self.good += 1,
            reply => {
                *self.bad.entry(reply.map_or(0, |reply| reply.status)).or_default() += 1;
                self.mute += u64::from(reply.is_none_or(|reply| reply.header("x-should-retry").is_none()));
            }
        }
    }

    pub(crate) fn failed(&self) -> u64 {
        self.requests - self.good
    }

    /// Successes in per cent.
    pub(crate) fn percent(&self) -> f64 {
        100.0 * self.good as f64 / self.requests.max(1) as f64
    }
}

/// How a load is given.
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) requests: u64,
    pub(crate) rate: f64,
    pub(crate) connections: usize,
}

/// The value below which this share of all values lies.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

impl Load {
    /// Sends the nth request that `make` gives, each when it is due, and hands every reply to `look`.
    pub(crate) async fn run(
        &self,
        make: impl Fn(u64) -> Rc<[u8]> + 'static,
        look: impl Fn(u64, Option<&Reply>, f64) + 'static,
    ) -> Result<Tally, Trouble> {
        let (next, tally) = (Rc::new(Cell::new(0_u64)), Rc::new(RefCell::new(Tally::default())));
        let (make, look) = (Rc::new(make), Rc::new(look));
        let begin = Instant::now();
        let (address, requests, rate) = (self.address, self.requests, self.rate);
        let workers: Vec<_> = (0..self.connections)
            .map(|_| {
                let (next, tally, make, look) =
                    (Rc::clone(&next), Rc::clone(&tally), Rc::clone(&make), Rc::clone(&look));
                tokio::task::spawn_local(async move {
                    let mut kept: Option<Connection> = None;
                    loop {
                        let turn = next.replace(next.get() + 1);
                        if turn >= requests {
                            return;
                        }
                        let due = begin + Duration::from_secs_f64(turn as f64 / rate);
                        if due > Instant::now() {
                            tokio::time::sleep_until(due.into()).await;
                        }
                        let sent = Instant::now();
                        let reply = exchange(&mut kept, address, &make(turn)).await;
                        let seconds = sent.elapsed().as_secs_f64();
                        look(turn, reply.as_ref(), seconds);
                        tally.borrow_mut().count(reply.as_ref(), seconds);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await?;
        }
        Ok(tally.take())
    }
}

/// One exchange over a connection that is kept while it works.
async fn exchange(kept: &mut Option<Connection>, address: SocketAddr, request: &[u8]) -> Option<Reply> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(address).await.ok()?,
    };
    let reply = connection.exchange(request).await.ok()?;
    if reply.header("connection") != Some("close") {
        *kept = Some(connection);
    }
    Some(reply)
}
