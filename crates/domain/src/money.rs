//! Money in whole micro-units, and the prices that tokens have: what a request cost, without ever being a float.
//!
//! A price is a whole number of pico-dollars per token (1 USD per million tokens is 1,000,000 of them), so that every
//! price that a vendor lists is exact. The cost of a request is summed in pico-dollars in 128 bits, which no count of
//! tokens can overflow, and rounded once, half up, to micro-dollars.

use std::fmt;

use crate::Usage;

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

    /// Both together: what is unknown in part is unknown.
    #[must_use]
    pub const fn plus(self, other: Cost) -> Self {
        match (self, other) {
            (Cost::Unknown, _) | (_, Cost::Unknown) => Cost::Unknown,
            (Cost::Known(mine), Cost::Known(other)) => Cost::Known(mine.plus(other)),
            (Cost::None, other) => other,
            (mine, Cost::None) => mine,
        }
    }
}

/// What one token costs, in pico-dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Price(u64);

/// Digits after the point that a price in USD per million tokens may have.
const DECIMALS: usize = 6;

impl Price {
    /// Nothing.
    pub const FREE: Price = Price(0);
    /// The largest price: a million USD per million tokens.
    pub const MAX: Price = Price(1_000_000_000_000);

    /// Reads a price in USD per million tokens: `1.25`, `0.125`, `10`. Digits with at most six after the point, at most
    /// a million; anything else is `None`.
    pub fn per_million(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || whole.len() > 7 || part.len() > DECIMALS {
            return None;
        }
        let scale = 10u64.pow((DECIMALS - part.len()) as u32);
        let picos = whole.parse::<u64>().ok()? * 1_000_000 + part.parse::<u64>().ok()? * scale;
        Some(Self(picos)).filter(|price| *price <= Self::MAX)
    }

    /// Pico-dollars per token.
    pub const fn picos(self) -> u64 {
        self.0
    }

    fn of(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }
}

/// USD per million tokens: `1.25`.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if part == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{part:06}").trim_end_matches('0'))
    }
}

/// The prices of one model by kind of token. A kind without a price of its own is billed as vendors do: what a prompt
/// cache read or wrote as input, reasoning as output, an hour of caching as five minutes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Of the prompt.
    pub input: Price,
    /// Of the answer; a model that only embeds has none.
    pub output: Option<Price>,
    /// Of what was read from a prompt cache.
    pub cached_input: Option<Price>,
    /// Of what was written to a prompt cache.
    pub cache_write: Option<Price>,
    /// Of what was written to a prompt cache for an hour.
    pub cache_write_hour: Option<Price>,
    /// Of reasoning.
    pub reasoning: Option<Price>,
}

impl Rates {
    /// What these tokens cost in pico-dollars; `None` when there are output tokens and no price for them. Parts that are
    /// larger than their whole are cut to it, so that no token is billed twice.
    fn picos(&self, usage: &Usage) -> Option<u128> {
        let part = |part: Option<u64>, whole: u64| part.unwrap_or(0).min(whole);
        let cached = part(usage.cached_input, usage.input);
        let written = part(usage.cache_write, usage.input - cached);
        let hour = part(usage.cache_write_hour, written);
        let reasoning = part(usage.reasoning, usage.output);
        let write = self.cache_write.unwrap_or(self.input);
        let input = self.input.of(usage.input - cached - written)
            + self.cached_input.unwrap_or(self.input).of(cached)
            + write.of(written - hour)
            + self.cache_write_hour.unwrap_or(write).of(hour);
        if usage.output == 0 {
            return Some(input);
        }
        let output = self.output?;
        Some(input + output.of(usage.output - reasoning) + self.reasoning.unwrap_or(output).of(reasoning))
    }
}

/// What one model costs at one time: its rates, and those of long prompts where the vendor has such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tariff {
    /// The rates.
    pub rates: Rates,
    /// The rates of a whole request whose input is longer than so many tokens.
    pub long: Option<(u64, Rates)>,
}

impl Tariff {
    /// Nothing costs anything.
    pub const FREE: Tariff = Tariff {
        rates: Rates {
            input: Price::FREE,
            output: Some(Price::FREE),
            cached_input: None,
            cache_write: None,
            cache_write_hour: None,
            reasoning: None,
        },
        long: None,
    };

    /// What these tokens cost, rounded once, half up, to a micro-dollar.
    pub fn cost(&self, usage: &Usage) -> Cost {
        let rates = match &self.long {
            Some((over, rates)) if usage.input > *over => rates,
            _ => &self.rates,
        };
        let Some(picos) = rates.picos(usage) else { return Cost::Unknown };
        let micros = (picos + 500_000) / 1_000_000;
        Cost::Known(Money::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests;
