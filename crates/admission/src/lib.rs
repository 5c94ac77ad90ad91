//! May it run now, and who pays.
//!
//! What it is: [`Admission`], which keeps an account for every key, team and model and one for the organisation: requests in
//! flight, rates of requests and tokens, money; [`Permit`], the right to run, which holds what a request may use until it is
//! settled; [`ledger`], the port under which every such reservation and its end are kept; and the prediction of how long an
//! answer will be.
//!
//! What it promises: a request takes from all of its accounts or from none; a refused request uses up nothing; what was held
//! goes back in exactly one way, however the permit ends; numbers are whole, so that no token and no micro-dollar is lost or
//! invented; memory is bounded by the keys that were lately active or have spent something.
//!
//! What it refuses to know: who the caller is (an account is a name), HTTP, SQL, the clock. Time is handed in.

mod account;
mod admission;
mod alert;
mod bucket;
pub mod fair;
pub mod ledger;
mod permit;
mod predict;
mod quota;
mod refuse;
mod rules;
pub mod shared;

pub use admission::{Admission, Claim, Output, Standing};
pub use alert::Crossing;
pub use penstock_config::{Budget, Limits};
pub use permit::{Permit, Truth};
pub use quota::{Question, Quota, Short, Stake};
pub use rules::{Allowance, Gauge, Level, Need, Now, Rate, Rules};
