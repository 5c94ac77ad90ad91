//! Reads the parameters of a query string and collects every mistake.

use std::time::SystemTime;

use axum::extract::Query;
use http::Uri;
use penstock_config::{DurationText, TimeText};
use penstock_domain::{Code, Error};
use penstock_identity::Flaw;
use penstock_observe::store::{Filter, Status};

use crate::problem::Refusal;

/// Longest accepted query string.
const MAX_QUERY: usize = 4 * 1024;
/// Longest accepted value.
const MAX_VALUE: usize = 256;

/// The parameters that are still to be read.
pub(crate) struct Parameters {
    rest: Vec<(String, String)>,
    known: Vec<&'static str>,
    flaws: Vec<Flaw>,
    now: SystemTime,
}

impl Parameters {
    pub(crate) fn new(uri: &Uri, now: SystemTime) -> Result<Self, Refusal> {
        let unreadable = |say| Err(Error::new(Code::InvalidValue, say).into());
        if uri.query().is_some_and(|query| query.len() > MAX_QUERY) {
            return unreadable("the query string is too long");
        }
        let Ok(Query(rest)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return unreadable("the query string cannot be read: expected name=value&name=value");
        };
        Ok(Self { rest, known: Vec::new(), flaws: Vec::new(), now })
    }

    /// Takes a parameter; one that is there twice is a mistake.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<Box<str>> {
        self.known.push(name);
        let mut found = self.rest.extract_if(.., |(have, _)| have == name).map(|(_, value)| value);
        let value = found.next()?;
        let again = found.count() > 0;
        if again {
            self.flaw(name, "is there twice".to_owned());
        } else if value.is_empty() || value.len() > MAX_VALUE {
            self.flaw(name, format!("expected 1 to {MAX_VALUE} bytes"));
        } else {
            return Some(value.into());
        }
        None
    }

    /// Takes a parameter and reads it; `expected` says what it should be.
    pub(crate) fn read<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = read(&text);
        if value.is_none() {
            self.flaw(name, format!("expected {expected}"));
        }
        value
    }

    /// A moment: an RFC 3339 time, or how long ago.
    pub(crate) fn time(&mut self, name: &'static str) -> Option<SystemTime> {
        let now = self.now;
        self.read(name, "a time such as 2027-01-31T12:00:00Z, or how long ago, such as 24h", |text| {
            let value = || serde_json::Value::from(text);
            if let Ok(time) = serde_json::from_value::<TimeText>(value()) {
                return Some(time.0);
            }
            let ago = serde_json::from_value::<DurationText>(value()).ok()?;
            now.checked_sub(ago.0)
        })
    }

    /// What records are asked for, apart from their time.
    pub(crate) fn filter(&mut self) -> Filter {
        Filter {
            key: self.text("key"),
            team: self.text("team"),
            model: self.text("model"),
            provider: self.text("provider"),
            code: self.text("code"),
            status: self.read("status", "ok, cancelled, refused or failed", |text| {
                Status::ALL.into_iter().find(|status| status.name() == text)
            }),
            tag: self.read("tag", "name:value", |text| {
                text.split_once(':').map(|(name, value)| (name.into(), value.into()))
            }),
            since: None,
            until: None,
        }
    }

    /// Notes a mistake.
    pub(crate) fn flaw(&mut self, name: &str, say: String) {
        self.flaws.push(Flaw { member: name.to_owned(), say });
    }

    /// Ends the reading: parameters that nobody took are mistakes.
    pub(crate) fn finish(mut self) -> Result<(), Refusal> {
        let unknown: Vec<String> = self.rest.iter().take(8).map(|(name, _)| name.clone()).collect();
        for name in unknown {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            self.flaw(&shown, format!("unknown parameter: expected one of {}", self.known.join(", ")));
        }
        if self.flaws.is_empty() { Ok(()) } else { Err(self.flaws.into()) }
    }
}
