//! Where a request goes.
//!
//! What it is: the [`Catalogue`] of model names that clients ask for, the [`Fleet`] of targets that serve them with what
//! was learnt of each, and the [`Plan`] of one request: which target is tried next, and why.
//!
//! What it promises: decisions only, no IO, no clock: time is handed in. Names are looked up without allocation. A name
//! that is not in the catalogue goes nowhere, and no plan leaves the regions that its request may use.
//!
//! What it refuses to know: what a provider is, and how it is called.

mod account;
mod away;
mod budget;
mod catalogue;
mod choice;
mod cusum;
mod draft;
mod fleet;
mod flight;
mod lanes;
mod latency;
mod limit;
mod model;
mod outcome;
mod plan;
mod prices;
mod provision;
mod random;
mod relay;
mod sketch;
mod standing;
mod target;

pub use catalogue::Catalogue;
pub use fleet::{Fleet, TargetReport};
pub use flight::Flight;
pub use model::{Bounds, Deployment, Model, Policy, Pricing};
pub use plan::{Ask, Candidate, Considered, Pick, Plan, Unroutable, Why};
pub use prices::{PriceList, Prices};
pub use relay::RelayRule;
pub use target::Target;
