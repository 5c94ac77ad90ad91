//! May it run now.
//!
//! What it is: [`Admission`], which counts each key's requests in flight and its requests per minute, in memory, and
//! hands out [`Permit`]s; and [`rate`], the arithmetic behind it.
//!
//! What it promises: one short lock and two atomic operations per request; a refused request uses up nothing; a permit
//! gives its slot back however it ends; memory is bounded by the keys that were lately active.
//!
//! What it refuses to know: who the caller is (a key is a text), HTTP, the clock. Time is handed in.

mod admission;
pub mod rate;

pub use admission::{Admission, Permit};
pub use penstock_config::Limits;
pub use rate::Rate;
