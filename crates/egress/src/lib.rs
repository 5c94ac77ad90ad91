//! The guard of connections whose address somebody else may have a say in.
//!
//! What it is: [`Target`], an address that was read strictly; [`Reach`], which addresses may be connected to; and [`Egress`],
//! which sends one request to a target and brings the answer.
//!
//! What it promises: a name is resolved once, every address that it leads to is checked, and one of those that were checked is
//! connected to, with the name kept for TLS, so that between check and use nothing can change (DNS rebinding); an address that
//! is not public is refused unless a range allows it, whatever its spelling; nothing is sent in the clear over public networks;
//! no redirect is followed, no proxy asked; an answer is bounded in size and time; no error quotes more of a target than its
//! scheme, host and port.
//!
//! What it refuses to know: why somebody sends something, when to try again, credentials.

mod address;
mod send;
mod target;
mod trust;

pub use address::{Reach, forbidden};
pub use send::{Answer, Bounds, Egress, Fault, Looking, Resolve};
pub use target::Target;
