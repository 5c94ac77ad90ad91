//! The listener: accepts, bounds, watches and drains connections.

mod connection;
mod head;
mod pace;
mod socket;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::Edge;
use crate::drain::Phase;

pub(crate) use socket::Busy;

/// How long accepting rests when the process has run out of descriptors or memory.
const REST: Duration = Duration::from_millis(100);
/// How long streams have for their terminal error once the grace is over: for as long as some of them get it in every such turn,
/// and for so many turns at most. Thousands of them need more than one on a small machine.
const LAST_WORDS: Duration = Duration::from_millis(500);
const LAST_TURNS: usize = 6;

/// Serves until the edge's drain has ended.
///
/// When the drain begins, the listener closes, idle connections close, and answers in flight go on. When
/// `settings.drain` has passed, or [`crate::Drain::end`] is called, streams get `server_shutdown` in-band and waiting
/// requests 503; when for half a second none of them could be told, or three seconds later, what is left is dropped, and this
/// returns.
///
/// Must run inside a tokio runtime with time and IO enabled.
pub async fn serve(listener: TcpListener, edge: Edge) {
    let drain = edge.drain().clone();
    let most = edge.0.settings.max_connections.clamp(1, Semaphore::MAX_PERMITS);
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let slots = Arc::new(Semaphore::new(most as usize));
    let builders = Arc::new(connection::Builders::new(&edge.0.settings, &drain));
    let accepting = async {
        loop {
            // The slot comes first: beyond the cap connections wait in the kernel's queue instead of our memory.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _peer)) => {
                    let (edge, builders) = (edge.clone(), Arc::clone(&builders));
                    // Made inside, so that the task does not carry room for it twice.
                    tokio::spawn(async move {
                        connection::run(stream, edge, builders).await;
                        drop(slot);
                    });
                }
                Err(error) => refused_accept(&error).await,
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = drain.reaches(Phase::Draining) => {}
    }
    drop(listener);
    tracing::info!(open = most as usize - slots.available_permits(), "draining");
    let all_gone = || async {
        let _ = slots.acquire_many(most).await;
    };
    tokio::select! {
        () = all_gone() => {}
        () = drain.reaches(Phase::Over) => {}
        () = tokio::time::sleep(edge.0.settings.drain) => {}
    }
    drain.end();
    let open = most as usize - slots.available_permits();
    let over = Instant::now();
    for _ in 0..LAST_TURNS {
        let free = slots.available_permits();
        let gone = tokio::time::timeout(LAST_WORDS, all_gone()).await.is_ok();
        if gone || slots.available_permits() == free {
            break;
        }
    }
    drain.close();
    let _ = tokio::time::timeout(LAST_WORDS, all_gone()).await;
    tracing::info!(open, ms = over.elapsed().as_millis(), "the grace is over, and the connections are gone");
}

/// A peer that gave up while queued is nobody's trouble; anything else means that we ran out of something, and trying
/// again at once would only burn the processor.
pub(crate) async fn refused_accept(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
        tracing::error!(%error, "accepting connections rests: raise the limit of open files, or lower the load");
        tokio::time::sleep(REST).await;
    }
}
