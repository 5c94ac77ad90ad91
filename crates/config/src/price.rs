//! What models cost, as the file says it: USD per million tokens, by kind of token, for ever or from a day on.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use penstock_domain::{Price, Rates, Tariff};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::TimeText;

/// A price in USD per million tokens, read from the digits as they stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PriceText(pub Price);

impl<'de> Deserialize<'de> for PriceText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = PriceText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a price in USD per million tokens such as 1.25")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PriceText, E> {
                Price::per_million(text).map(PriceText).ok_or_else(|| {
                    E::custom(format_args!(
                        "expected USD per million tokens with at most six digits after the point and at most a \
                         million, found `{text}`"
                    ))
                })
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for PriceText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Price".into()
    }
    // Both types: a number is meant, and its digits are wanted as they were written.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["number", "string"],
            "title": "Price",
            "minimum": 0,
            "maximum": 1_000_000,
            "pattern": "^[0-9]{1,7}([.][0-9]{1,6})?$",
            "examples": ["1.25"]
        })
    }
}

/// What a model's tokens cost, in USD per million tokens. What has no price of its own costs what vendors bill for it:
/// cache reads and writes as input, reasoning as output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Prices")]
pub struct PriceRow {
    /// The first day (UTC), or the first moment, on which these prices hold. Without it they always have.
    #[serde(default)]
    pub from: Option<TimeText>,
    /// Of the prompt.
    pub input: PriceText,
    /// Of the answer. A model that only embeds needs none.
    #[serde(default)]
    pub output: Option<PriceText>,
    /// Of the part of the prompt that was read from the vendor's cache. Default: `input`.
    #[serde(default)]
    pub cached_input: Option<PriceText>,
    /// Of the part of the prompt that was written to the vendor's cache. Default: `input`.
    #[serde(default)]
    pub cache_write: Option<PriceText>,
    /// Of what was written to the cache for an hour. Default: `cache_write`.
    #[serde(default)]
    pub cache_write_hour: Option<PriceText>,
    /// Of the part of the answer that was spent on reasoning. Default: `output`.
    #[serde(default)]
    pub reasoning: Option<PriceText>,
    /// Other prices for requests with a long prompt, which are billed at them as a whole.
    #[serde(default)]
    pub long: Option<LongPrices>,
}

/// What the tokens of a request with a long prompt cost, in USD per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongPrices {
    /// A prompt of more tokens than this is long.
    #[schemars(range(min = 1))]
    pub over: u64,
    /// Of the prompt.
    pub input: PriceText,
    /// Of the answer.
    #[serde(default)]
    pub output: Option<PriceText>,
    /// Of what was read from the vendor's cache. Default: `input`.
    #[serde(default)]
    pub cached_input: Option<PriceText>,
    /// Of what was written to the vendor's cache. Default: `input`.
    #[serde(default)]
    pub cache_write: Option<PriceText>,
    /// Of what was written to the cache for an hour. Default: `cache_write`.
    #[serde(default)]
    pub cache_write_hour: Option<PriceText>,
    /// Of reasoning. Default: `output`.
    #[serde(default)]
    pub reasoning: Option<PriceText>,
}

/// One price for ever, or a list of prices by date.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum ModelPrice {
    /// The same at all times.
    Always(Box<PriceRow>),
    /// The last one whose `from` is not after a request's arrival holds; a request before all of them has no known price.
    Dated(#[schemars(length(min = 1))] Vec<PriceRow>),
}

impl PriceRow {
    fn tariff(&self) -> Tariff {
        let price = |text: Option<PriceText>| text.map(|text| text.0);
        let rates = Rates {
            input: self.input.0,
            output: price(self.output),
            cached_input: price(self.cached_input),
            cache_write: price(self.cache_write),
            cache_write_hour: price(self.cache_write_hour),
            reasoning: price(self.reasoning),
        };
        let long = self.long.map(|long| {
            let rates = Rates {
                input: long.input.0,
                output: price(long.output),
                cached_input: price(long.cached_input),
                cache_write: price(long.cache_write),
                cache_write_hour: price(long.cache_write_hour),
                reasoning: price(long.reasoning),
            };
            (long.over, rates)
        });
        Tariff { rates, long }
    }
}

impl ModelPrice {
    /// The tariffs with the moments from which they hold, the earliest first.
    pub fn tariffs(&self) -> Vec<(SystemTime, Tariff)> {
        let rows = match self {
            ModelPrice::Always(row) => std::slice::from_ref(row.as_ref()),
            ModelPrice::Dated(rows) => rows.as_slice(),
        };
        let since = |row: &PriceRow| row.from.map_or(SystemTime::UNIX_EPOCH, |from| from.0);
        let mut all: Vec<_> = rows.iter().map(|row| (since(row), row.tariff())).collect();
        all.sort_by_key(|(since, _)| *since);
        all
    }
}

#[cfg(test)]
mod tests;
