//! Query strings of the routes of stored responses.

use std::borrow::Cow;

use penstock_domain::{Code, Error};

use crate::routes;

/// The members of a query string.
pub(super) struct Query<'q>(Vec<(Cow<'q, str>, Cow<'q, str>)>);

/// The most members that are looked at.
const MAX_MEMBERS: usize = 32;

impl<'q> Query<'q> {
    /// Reads a query string.
    ///
    /// # Errors
    /// `invalid_value` for what is no text.
    pub(super) fn read(query: Option<&'q str>) -> Result<Self, Error> {
        let bad = || Error::new(Code::InvalidValue, "the query string has an escape that is no text");
        let members = query.unwrap_or_default().split('&').filter(|member| !member.is_empty());
        let read = members.take(MAX_MEMBERS).map(|member| {
            let (name, value) = member.split_once('=').unwrap_or((member, ""));
            Some((routes::parameter(name)?, routes::parameter(value)?))
        });
        read.map(|member| member.ok_or_else(bad)).collect::<Result<_, _>>().map(Self)
    }

    /// A member's value; the last one counts.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// A yes or no; missing is no.
    ///
    /// # Errors
    /// `invalid_value` for anything else.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.get(name) {
            None | Some("false" | "") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(wrong(name, "must be true or false")),
        }
    }

    /// A number within bounds.
    ///
    /// # Errors
    /// `invalid_value` for anything else.
    pub(super) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Error> {
        let read = |text: &str| text.parse().ok().filter(|number| (least..=most).contains(number));
        let bad = || wrong(name, &format!("must be a whole number from {least} to {most}"));
        self.get(name).map(|text| read(text).ok_or_else(bad)).transpose()
    }
}

/// A member with a wrong value.
pub(super) fn wrong(name: &str, say: &str) -> Error {
    Error::new(Code::InvalidValue, format!("{name} {say}")).with_param(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_decoded_and_checked() {
        let query = Query::read(Some("limit=5&include%5B%5D=a.b&stream=true&&order=&limit=7")).unwrap();
        assert_eq!(query.get("include[]"), Some("a.b"));
        assert_eq!(query.number("limit", 1, 100).unwrap(), Some(7));
        assert!(query.flag("stream").unwrap() && !query.flag("nothing").unwrap());
        for bad in ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=1.5"] {
            let error = Query::read(Some(bad)).unwrap().number("limit", 1, 100).unwrap_err();
            assert_eq!((error.code(), error.param()), (Code::InvalidValue, Some("limit")), "{bad}");
        }
        assert!(Query::read(Some("stream=1")).unwrap().flag("stream").is_err());
        assert!(Query::read(Some("a=%ff")).is_err());
        assert_eq!(Query::read(None).unwrap().number("limit", 1, 100).unwrap(), None);
    }
}
