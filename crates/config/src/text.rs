//! Settings that are written as text: secrets, durations, sizes, points in time.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use penstock_domain::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A secret in the settings. Read from text, never written: there is no `Serialize`, and `Debug` hides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretText(Secret);

impl SecretText {
    /// Wraps a value.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(Secret::new(value))
    }

    /// The secret, still wrapped.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// The secret, still wrapped.
    pub fn into_secret(self) -> Secret {
        self.0
    }

    /// The secret itself: see [`Secret::expose`].
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SecretText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret as text")
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<SecretText, E> {
                Ok(SecretText::new(value))
            }
            fn visit_string<E: de::Error>(self, value: String) -> Result<SecretText, E> {
                Ok(SecretText::new(value))
            }
        }
        deserializer.deserialize_string(Text)
    }
}

impl JsonSchema for SecretText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "writeOnly": true, "minLength": 1})
    }
}

macro_rules! text_setting {
    ($name:ident, $inner:ty, $expecting:literal, $parse:path, $title:literal, $schema:tt) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, value: &str) -> Result<$name, E> {
                        $parse(value).map($name).ok_or_else(|| {
                            E::custom(format_args!(concat!("expected ", $expecting, ", found `{}`"), value))
                        })
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $title.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

/// A length of time written with its unit: `500ms`, `30s`, `5m`, `2h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationText(pub Duration);

text_setting!(DurationText, Duration, "a duration such as 500ms, 30s or 5m", parse_duration, "Duration", {
    "type": "string",
    "title": "Duration",
    "pattern": "^[0-9]{1,12}(ms|s|m|h|d)$",
    "examples": ["30s"]
});

/// A number of bytes written with its unit: `512B`, `64KiB`, `20MiB`, `1GiB`, or decimal `kB`, `MB`, `GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

text_setting!(ByteSize, u64, "a size such as 64KiB or 20MiB", parse_size, "Size", {
    "type": "string",
    "title": "Size",
    "pattern": "^[0-9]{1,9} ?(B|KiB|MiB|GiB|kB|MB|GB)$",
    "examples": ["20MiB"]
});

/// A point in time: RFC 3339 (`2027-01-31T12:00:00Z`) or a day (`2027-01-31`, its beginning in UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeText(pub SystemTime);

text_setting!(TimeText, SystemTime, "a time such as 2027-01-31 or 2027-01-31T12:00:00Z", parse_time, "Time", {
    "type": "string",
    "title": "Time",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?$",
    "examples": ["2027-01-31T12:00:00Z"]
});

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_number(text)?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}

pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    number.checked_mul(match unit.strip_prefix(' ').unwrap_or(unit) {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    })
}

pub(crate) fn parse_time(text: &str) -> Option<SystemTime> {
    let stamp = match text.parse::<jiff::Timestamp>() {
        Ok(stamp) => stamp,
        Err(_) => text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(),
    };
    Some(SystemTime::from(stamp))
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => f.write_str("0s"),
            m if m % 3_600_000 == 0 => write!(f, "{}h", m / 3_600_000),
            m if m % 60_000 == 0 => write!(f, "{}m", m / 60_000),
            m if m % 1000 == 0 => write!(f, "{}s", m / 1000),
            m => write!(f, "{m}ms"),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n > 0 && n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n > 0 && n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

// Schemas carry defaults, so the two that have defaults can be written; a secret cannot.
impl serde::Serialize for DurationText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl serde::Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_a_unit_and_never_overflow() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_size("20MiB"), Some(20 << 20));
        assert_eq!(parse_size("1 GB"), Some(1_000_000_000));
        for bad in ["", "30", "s", "-1s", "1.5s", "1 week", "18446744073709551615d", "99999999999999999999s"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        for bad in ["", "20", "MiB", "18446744073709551615GiB", "1 MiB "] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        assert_eq!(parse_time("1970-01-02"), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)));
        assert_eq!(parse_time("1970-01-01T01:00:00+01:00"), Some(SystemTime::UNIX_EPOCH));
        assert_eq!(parse_time("2027-02-30"), None);
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for text in ["0s", "1500ms", "30s", "5m", "2h"] {
            assert_eq!(DurationText(parse_duration(text).unwrap()).to_string(), text);
        }
        for text in ["0B", "5B", "64KiB", "20MiB", "1GiB"] {
            assert_eq!(ByteSize(parse_size(text).unwrap()).to_string(), text);
        }
    }

    #[test]
    fn a_secret_setting_prints_nothing() {
        assert!(!format!("{:?}", SecretText::new("sk-1")).contains("sk-1"));
    }
}
