//! What can go wrong between us and a vendor, in sentences that anybody may read.
//!
//! What it promises: no host, no header, no vendor text in a sentence; the cause stays in `source`, for the log.

use std::error::Error as StdError;
use std::time::Duration;

use penstock_domain::{Code, Error, Remedy};

use crate::connector::ConnectLate;
use crate::pool::Failed;

pub(crate) fn connect_late(limit: Duration) -> Error {
    let say = format!("no connection to the provider could be opened within {} ms", limit.as_millis());
    Error::new(Code::UpstreamUnreachable, say)
}

pub(crate) fn first_token_late(limit: Duration) -> Error {
    let say = format!(
        "the provider accepted the request and did not begin its answer within {} ms",
        limit.as_millis()
    );
    Error::new(Code::UpstreamTimeout, say)
}

pub(crate) fn idle_late(limit: Duration) -> Error {
    let say = format!("the provider's answer fell silent for {} ms", limit.as_millis());
    Error::new(Code::UpstreamIdleTimeout, say)
}

pub(crate) fn total_late(limit: Duration) -> Error {
    let say = format!("the provider did not complete its answer within {} ms", limit.as_millis());
    Error::new(Code::UpstreamTimeout, say)
}

pub(crate) fn deadline() -> Error {
    Error::new(Code::DeadlineExceeded, "the deadline of the request passed before the answer was complete")
}

pub(crate) fn cut(cause: hyper::Error) -> Error {
    Error::new(Code::UpstreamStreamCut, "the provider's answer broke off before it was complete")
        .with_source(cause)
}

pub(crate) fn bad(say: impl Into<String>) -> Error {
    Error::new(Code::UpstreamBadResponse, say)
}

pub(crate) fn redirect(status: u16) -> Error {
    // The location may carry a token, and following it could carry ours away.
    bad(format!(
        "the provider answered with a redirect, status {status}, which is never followed: set base_url to its final address"
    ))
}

/// A request that got no answer.
pub(crate) fn unanswered(error: Failed, connect: Duration) -> Error {
    if caused_by::<ConnectLate>(&error) {
        return connect_late(connect);
    }
    // A connection that had served before and broke without a byte is no proof against the vendor behind it.
    let remedy = if error.was_used() { Remedy::Same } else { Remedy::Other };
    let (code, say) = if error.is_connect() {
        let tls = caused_by::<rustls::Error>(&error);
        let say = if tls {
            "no secure connection to the provider could be opened: check its certificate, its name and the trusted authorities"
        } else {
            "no connection to the provider could be opened: check that it runs and that base_url is right"
        };
        (Code::UpstreamUnreachable, say)
    } else if parse_failed(&error) {
        (Code::UpstreamBadResponse, "the provider's answer is not HTTP as expected")
    } else {
        (Code::UpstreamUnreachable, "the provider closed the connection before it answered")
    };
    Error::new(code, say).with_remedy(remedy).with_source(error)
}

type Cause<'a> = &'a (dyn StdError + 'static);

fn causes<'a>(error: Cause<'a>) -> impl Iterator<Item = Cause<'a>> {
    std::iter::successors(Some(error), |&error: &Cause<'a>| {
        // An io::Error hides the error that it wraps behind that error's own source.
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as Cause<'a>),
            None => error.source(),
        }
    })
}

fn caused_by<E: StdError + 'static>(error: &Failed) -> bool {
    causes(error).any(|cause| cause.is::<E>())
}

fn parse_failed(error: &Failed) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse))
}
