//! OpenAI responses, both ways: as a server speaks them and as a vendor does.
//!
//! What it promises: requests into the shared words and back, answers, typed events and errors likewise; the pure part
//! of conversation state (what a request adds to, what an answer leaves behind). What it refuses to know: where state is
//! kept, and who asks whom.

mod item;
pub mod state;
