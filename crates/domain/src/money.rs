//! Money in whole micro-units: what a request cost, added up without ever being a float.

use std::fmt;

/// An amount in millionths of a US dollar. Arithmetic saturates; the largest amount fits a signed 64-bit column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(u64);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);
    /// The largest amount: about nine trillion dollars.
    pub const MAX: Money = Money(i64::MAX as u64);

    /// So many millionths of a US dollar; more than [`Money::MAX`] is cut to it.
    pub const fn from_micros(micros: u64) -> Self {
        if micros > Self::MAX.0 { Self::MAX } else { Self(micros) }
    }

    /// The amount in millionths of a US dollar.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Money) -> Self {
        Self::from_micros(self.0.saturating_add(other.0))
    }
}

/// Dollars with six digits after the point: `0.001234`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// What one request cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cost {
    /// No provider was called, so there was nothing to pay for.
    #[default]
    None,
    /// This much.
    Known(Money),
    /// A provider was called and a price is missing. Unknown is not zero.
    Unknown,
}

impl Cost {
    /// The amount, where it is known.
    pub const fn known(self) -> Option<Money> {
        match self {
            Cost::Known(money) => Some(money),
            Cost::None | Cost::Unknown => None,
        }
    }
}
