//! How much somebody may ask for, and what it may cost.

use std::borrow::Cow;
use std::fmt;

use penstock_domain::Money;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::AlertAt;

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meter {
    /// Requests.
    Requests,
    /// Tokens of prompts.
    Input,
    /// Tokens of answers.
    Output,
    /// Both kinds of token together.
    Tokens,
}

impl Meter {
    /// What is counted, for sentences: `requests`, `input tokens`, ….
    pub const fn name(self) -> &'static str {
        match self {
            Meter::Requests => "requests",
            Meter::Input => "input tokens",
            Meter::Output => "output tokens",
            Meter::Tokens => "tokens",
        }
    }
}

/// The time to which a rate refers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}

impl Span {
    /// `minute`, `hour` or `day`.
    pub const fn name(self) -> &'static str {
        match self {
            Span::Minute => "minute",
            Span::Hour => "hour",
            Span::Day => "day",
        }
    }

    /// Its length in nanoseconds.
    pub const fn nanos(self) -> u64 {
        let seconds = match self {
            Span::Minute => 60,
            Span::Hour => 3_600,
            Span::Day => 86_400,
        };
        seconds * 1_000_000_000
    }
}

/// How much may be asked for. What is missing is not limited. A rate fills up evenly: a whole minute's, hour's or day's
/// worth may come at once, and what is used comes back bit by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests per minute.
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u32>,
    /// Requests per hour.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_hour: Option<u32>,
    /// Requests per day.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u32>,
    /// Tokens per minute, prompts and answers together.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Tokens per hour, prompts and answers together.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_hour: Option<u64>,
    /// Tokens per day, prompts and answers together.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Tokens of prompts per minute.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens_per_minute: Option<u64>,
    /// Tokens of prompts per hour.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens_per_hour: Option<u64>,
    /// Tokens of prompts per day.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens_per_day: Option<u64>,
    /// Tokens of answers per minute.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens_per_minute: Option<u64>,
    /// Tokens of answers per hour.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens_per_hour: Option<u64>,
    /// Tokens of answers per day.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens_per_day: Option<u64>,
    /// Requests at the same time.
    #[schemars(range(min = 1))]
    pub concurrent_requests: Option<u32>,
    /// The most tokens that one answer may have: who asks for more gets this bound, and is told.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
}

impl Limits {
    /// These limits, and `defaults` where these say nothing.
    #[must_use]
    pub fn or(self, defaults: Limits) -> Limits {
        Limits {
            requests_per_minute: self.requests_per_minute.or(defaults.requests_per_minute),
            requests_per_hour: self.requests_per_hour.or(defaults.requests_per_hour),
            requests_per_day: self.requests_per_day.or(defaults.requests_per_day),
            tokens_per_minute: self.tokens_per_minute.or(defaults.tokens_per_minute),
            tokens_per_hour: self.tokens_per_hour.or(defaults.tokens_per_hour),
            tokens_per_day: self.tokens_per_day.or(defaults.tokens_per_day),
            input_tokens_per_minute: self.input_tokens_per_minute.or(defaults.input_tokens_per_minute),
            input_tokens_per_hour: self.input_tokens_per_hour.or(defaults.input_tokens_per_hour),
            input_tokens_per_day: self.input_tokens_per_day.or(defaults.input_tokens_per_day),
            output_tokens_per_minute: self.output_tokens_per_minute.or(defaults.output_tokens_per_minute),
            output_tokens_per_hour: self.output_tokens_per_hour.or(defaults.output_tokens_per_hour),
            output_tokens_per_day: self.output_tokens_per_day.or(defaults.output_tokens_per_day),
            concurrent_requests: self.concurrent_requests.or(defaults.concurrent_requests),
            max_output_tokens: self.max_output_tokens.or(defaults.max_output_tokens),
        }
    }

    /// The rates that are limited.
    pub fn rates(&self) -> impl Iterator<Item = (Meter, Span, u64)> {
        let rows = [
            (Meter::Requests, Span::Minute, self.requests_per_minute.map(u64::from)),
            (Meter::Requests, Span::Hour, self.requests_per_hour.map(u64::from)),
            (Meter::Requests, Span::Day, self.requests_per_day.map(u64::from)),
            (Meter::Tokens, Span::Minute, self.tokens_per_minute),
            (Meter::Tokens, Span::Hour, self.tokens_per_hour),
            (Meter::Tokens, Span::Day, self.tokens_per_day),
            (Meter::Input, Span::Minute, self.input_tokens_per_minute),
            (Meter::Input, Span::Hour, self.input_tokens_per_hour),
            (Meter::Input, Span::Day, self.input_tokens_per_day),
            (Meter::Output, Span::Minute, self.output_tokens_per_minute),
            (Meter::Output, Span::Hour, self.output_tokens_per_hour),
            (Meter::Output, Span::Day, self.output_tokens_per_day),
        ];
        rows.into_iter().filter_map(|(meter, span, limit)| limit.map(|limit| (meter, span, limit)))
    }

    /// The members that are zero, by name: they would allow nothing.
    pub fn zeros(&self) -> Vec<String> {
        let rate = |(meter, span, _): (Meter, Span, u64)| {
            format!("{}_per_{}", meter.name().replace(' ', "_"), span.name())
        };
        let mut zeros: Vec<String> = self.rates().filter(|(_, _, limit)| *limit == 0).map(rate).collect();
        if self.concurrent_requests == Some(0) {
            zeros.push("concurrent_requests".to_owned());
        }
        if self.max_output_tokens == Some(0) {
            zeros.push("max_output_tokens".to_owned());
        }
        zeros
    }
}

/// The time after which a budget begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Per {
    /// The calendar day in UTC.
    Day,
    /// The calendar month in UTC.
    Month,
    /// Never.
    Lifetime,
}

impl Per {
    /// `day`, `month` or `lifetime`.
    pub const fn name(self) -> &'static str {
        match self {
            Per::Day => "day",
            Per::Month => "month",
            Per::Lifetime => "lifetime",
        }
    }
}

/// Money that may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// US dollars, with at most six digits after the point.
    pub usd: Usd,
    /// The time after which it begins anew.
    pub per: Per,
    /// The parts of it, in percent, at which the `webhooks` are told: `[50, 80, 100]` when left out, `[]` for none.
    #[serde(default, skip_serializing_if = "AlertAt::is_usual")]
    pub alert_at: AlertAt,
}

impl Budget {
    /// A budget with the usual parts at which somebody is told.
    pub fn new(usd: Usd, per: Per) -> Self {
        Self { usd, per, alert_at: AlertAt::default() }
    }

    /// How many micro-dollars a part of it is; a fraction of one counts as one.
    pub fn part(&self, percent: u8) -> u64 {
        let part = (u128::from(self.usd.0.micros()) * u128::from(percent)).div_ceil(100);
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

/// `5 USD per day`, `100 USD for good`.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per {
            Per::Lifetime => write!(f, "{} USD for good", self.usd),
            per => write!(f, "{} USD per {}", self.usd, per.name()),
        }
    }
}

/// An amount of US dollars, exact to the millionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usd(pub Money);

impl Usd {
    /// Reads `5`, `0.25`: digits with at most six after the point, more than nothing and at most a thousand million.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || whole.len() > 9 || part.len() > 6 {
            return None;
        }
        let scale = 10u64.pow((6 - part.len()) as u32);
        let micros = whole.parse::<u64>().ok()? * 1_000_000 + part.parse::<u64>().ok()? * scale;
        (micros > 0).then(|| Self(Money::from_micros(micros)))
    }
}

/// `5`, `0.25`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;
        impl Visitor<'_> for Amount {
            type Value = Usd;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of US dollars such as 5 or 0.25")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
                Usd::parse(text).ok_or_else(|| {
                    E::custom(format_args!(
                        "expected US dollars, more than 0, with at most nine digits before the point and six after it, \
                         found `{text}`"
                    ))
                })
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Usd, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Usd, E> {
                // The shortest digits that mean this number: those that were written.
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Amount)
    }
}

/// A number; every amount that can be read is exact in it.
impl serde::Serialize for Usd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = self.0.micros();
        match micros % 1_000_000 {
            0 => serializer.serialize_u64(micros / 1_000_000),
            _ => serializer.serialize_f64(micros as f64 / 1e6),
        }
    }
}

impl JsonSchema for Usd {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Usd".into()
    }
    // Both types: a number is meant, and its digits are wanted as they were written.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["number", "string"],
            "title": "US dollars",
            "exclusiveMinimum": 0,
            "maximum": 999_999_999,
            "pattern": "^[0-9]{1,9}([.][0-9]{1,6})?$",
            "examples": ["5"]
        })
    }
}

/// What all keys of the gateway together may ask for and spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Organisation {
    /// How much they may ask for together.
    pub limits: Limits,
    /// What they may spend together.
    pub budget: Option<Budget>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_and_written_exactly() {
        for (text, micros) in
            [("5", 5_000_000), ("0.25", 250_000), ("0.000001", 1), ("999999999", 999_999_999_000_000)]
        {
            let usd = Usd::parse(text).expect(text);
            assert_eq!((usd.0.micros(), usd.to_string().as_str()), (micros, text));
            let json = serde_json::to_value(usd).expect("a number");
            assert_eq!(serde_json::from_value::<Usd>(json).expect("read again"), usd, "{text}");
        }
        for bad in ["", "0", "-1", "1.", ".5", "1e3", "0.0000001", "1000000000"] {
            assert_eq!(Usd::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_key_does_not_say_comes_from_the_defaults() {
        let own = Limits { tokens_per_day: Some(5), ..Limits::default() };
        let defaults =
            Limits { tokens_per_day: Some(9), output_tokens_per_hour: Some(7), ..Limits::default() };
        let both = own.or(defaults);
        let rates: Vec<_> = both.rates().collect();
        assert_eq!(rates, [(Meter::Tokens, Span::Day, 5), (Meter::Output, Span::Hour, 7)]);
    }

    #[test]
    fn zeros_are_named_as_they_are_written() {
        let limits = Limits {
            input_tokens_per_minute: Some(0),
            requests_per_hour: Some(0),
            concurrent_requests: Some(0),
            ..Limits::default()
        };
        assert_eq!(limits.zeros(), ["requests_per_hour", "input_tokens_per_minute", "concurrent_requests"]);
    }
}
