//! From logits to deltas: one token drawn, the grammar that forbids some, the text that may already leave, the tool calls
//! in it. All of it is plain Rust on numbers and bytes; nothing here knows the engine's thread, slots or memory.

mod calls;
mod grammar;
mod sampler;
mod text;

pub(crate) use calls::{Calls, Found};
pub(crate) use grammar::{Grammars, forced_call, schema_of_format};
pub(crate) use llguidance::Matcher;
pub(crate) use sampler::{Drawn, Rules, Sampler, Scratch};
pub(crate) use text::Text;
