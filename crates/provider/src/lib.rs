//! What a model back end is.
//!
//! What it is: the ports. A [`Provider`] has a name, a health and the abilities it really has ([`Chat`], [`Complete`],
//! [`Embed`], [`Count`]); an ability takes a [`Call`] and gives a stream of deltas.
//!
//! What it promises: one call shape for every ability, streaming or not, so that fail-over, time-outs and settling are
//! written once. Dropping the stream, or the future before it, cancels the work behind it.
//!
//! What it refuses to know: which vendor, which wire, which order of candidates.

mod alarm;
mod bell;
mod call;
mod deadline;

use std::future::Future;
use std::pin::Pin;

use futures_core::Stream;
use penstock_domain::{Delta, Error};

pub use alarm::Alarm;
pub use bell::{Bell, Turn};
pub use call::Call;
pub use deadline::{Timeouts, within};

/// An answer as it comes: see [`Delta`] for the order of its parts.
pub type Deltas = Pin<Box<dyn Stream<Item = Delta> + Send>>;

/// The future of a call. It resolves when the back end has accepted the request (for HTTP: a success status and its
/// headers), or with the error that the back end gave instead.
pub type Calling<'a> = Pin<Box<dyn Future<Output = Result<Deltas, Error>> + Send + 'a>>;

/// Whether a provider can be called now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Ready,
    /// Not yet: it is loading. Calls wait.
    Starting,
    /// It cannot, and why, and how to mend it. Shown by `/readyz`, `doctor` and the admin API.
    Unavailable(String),
}

/// A model back end under its name in the configuration.
pub trait Provider: Send + Sync {
    /// The kind in the configuration: `openai`, `local`, `mock`, ….
    fn kind(&self) -> &'static str;

    /// Whether it can be called now; must not block or perform IO.
    fn health(&self) -> Health {
        Health::Ready
    }

    /// How many credentials it has, at least 1. Which one a call uses, the caller says.
    fn credentials(&self) -> u32 {
        1
    }

    /// The ability to chat.
    fn chat(&self) -> Option<&dyn Chat> {
        None
    }

    /// The ability to continue a prompt.
    fn complete(&self) -> Option<&dyn Complete> {
        None
    }

    /// The ability to embed.
    fn embed(&self) -> Option<&dyn Embed> {
        None
    }

    /// The ability to count a chat's tokens without answering it.
    fn count(&self) -> Option<&dyn Count> {
        None
    }

    /// The ability to take a request as it is and answer it as the vendor does.
    fn relay(&self) -> Option<&dyn Relay> {
        None
    }
}

/// Chat: conversation in, answer out.
pub trait Chat: Send + Sync {
    /// Starts an answer.
    fn chat(&self, call: Call) -> Calling<'_>;
}

/// Completion: prompt in, continuation out.
pub trait Complete: Send + Sync {
    /// Starts a continuation.
    fn complete(&self, call: Call) -> Calling<'_>;
}

/// Counting: conversation in, its number of tokens out ([`Delta::Counted`] or [`Delta::Whole`]).
pub trait Count: Send + Sync {
    /// Starts counting.
    fn count(&self, call: Call) -> Calling<'_>;
}

/// Relaying: a request in as it came ([`penstock_domain::Body::passage`]), the vendor's answer out as
/// [`Delta::Relayed`]: its head first, then its bytes.
pub trait Relay: Send + Sync {
    /// Passes the request on.
    fn relay(&self, call: Call) -> Calling<'_>;
}

/// Embedding: texts in, vectors out ([`Delta::Vectors`] or [`Delta::Whole`], then usage).
pub trait Embed: Send + Sync {
    /// Starts an embedding.
    fn embed(&self, call: Call) -> Calling<'_>;
}
