//! The stages, one file each. Their order is [`crate::Flow::run`]'s business alone.

mod admit;
mod authenticate;
mod call;
mod prepare;
mod route;
pub(crate) mod settle;
mod tokens;

pub(crate) use admit::{Admitted, admit, confirm, may_ask};
pub(crate) use authenticate::authenticate;
pub(crate) use call::call;
pub(crate) use prepare::prepare;
pub(crate) use route::{Routed, route};
pub(crate) use settle::settle;
