//! HTTP in and out.
//!
//! What it is: the listener ([`serve`]), the route table ([`ROUTES`]), the checks that every request passes, the first
//! stage (decode) and the last (reply, whole or as events), and `Error` to status.
//!
//! What it promises: every request gets an id and exactly one well-formed answer or a closed connection; nothing that
//! a client sends, or refuses to send or to read, can hold more than a stated amount of memory or time; an answer
//! streams without a task or a channel, so that a client who leaves cancels the call behind it at once; bytes in the
//! asker's own dialect pass through untouched.
//!
//! What it refuses to know: vendors, keys' storage, the order of the stages between decode and reply.
//!
//! Some decisions a caller of the API may notice:
//! - A stream's status and headers go out when its first content is in hand, so that whatever fails before is a plain
//!   HTTP error. A stream that stays silent for `hold_max` (10 s) gets `200` and comment lines; from then on errors are
//!   in-band, and the headers that describe the answer are missing, because nothing is known of it yet.
//! - A failed stream ends with the dialect's error event and without `[DONE]`.
//! - A client that shuts down its sending side counts as gone.

mod decode;
mod drain;
mod edge;
mod error;
mod idempotency;
mod intake;
mod layers;
mod models;
pub mod openapi;
mod pages;
mod relay;
mod reply;
mod request_id;
mod responses;
mod routes;
mod server;
mod settings;
mod upload;
mod visitor;
mod waiting;

pub use drain::Drain;
pub use edge::Edge;
pub use openapi::{Row, rows};
pub use relay::ROWS as RELAY_ROWS;
pub use responses::Stored;
pub use routes::{Handler, ROUTES};
pub use server::serve;
pub use settings::{EdgeSettings, Extra, MetricsText, StoreHealth, Surface};
pub use waiting::wait;
