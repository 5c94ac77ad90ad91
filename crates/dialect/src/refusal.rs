//! What a vendor's error means: for the caller, and for routing.
//!
//! What it is: a [`Refusal`], an error status with its body, looked up in one table of rows ([`table`]): status, the
//! vendor's words, what it says → our code and the remedy. Errors inside a 200 go through the same table.
//!
//! What it promises: a vendor's refusal of *our* credential never looks like a refusal of the caller's; a vendor's text
//! reaches the caller only where the vendor judged the caller's own input, bounded and without control characters; what
//! else a vendor says is kept for the log, with everything that looks like a key blotted out.
//!
//! What it refuses to know: HTTP headers and clocks; which vendor it is. Gateways pass on each other's words, so every row
//! holds for everybody.

mod read;
mod table;
mod wait;

#[cfg(test)]
mod tests;

use std::time::Duration;

use penstock_domain::{Code, Error, Remedy, Retry};

use crate::json;
use read::{Said, read};
use table::{ROWS, STATUSES};
pub use wait::wait_of;

/// Longest vendor text that is shown or logged, in characters.
const MAX_TEXT: usize = 600;

/// An error status and what came with it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Refusal<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The kind of the error, where a header tells it.
    pub kind: Option<&'a str>,
    /// The wait that the vendor's headers ask for.
    pub wait: Option<Duration>,
    /// When the vendor's headers say that what is used up is there again.
    pub reset: Option<Duration>,
    /// The body, or as much of it as came.
    pub body: &'a [u8],
}

impl Refusal<'_> {
    /// What it means.
    pub fn meaning(&self) -> Error {
        let mut said = read(self.body);
        said.words.extend(self.kind.map(str::to_owned));
        self.judge(&said)
    }

    fn judge(&self, said: &Said) -> Error {
        let message = said.message.to_lowercase();
        let row = ROWS.iter().find(|row| row.fits(self.status, said, &message));
        let (code, remedy) =
            row.map_or((Code::UpstreamBadResponse, Remedy::Other), |row| (row.code, row.remedy));
        // Who asks for a wait believes that it helps, whatever else he says.
        let (code, remedy) = match (code, self.wait) {
            (Code::UpstreamQuotaExceeded, Some(_)) => (Code::UpstreamRateLimited, Remedy::Cool),
            _ => (code, remedy),
        };
        let error = match code {
            Code::UpstreamRejected | Code::ContextLengthExceeded | Code::ContentFiltered => told(code, said),
            _ => Error::new(code, sentence(code, self.status)).with_source(source(self.body)),
        };
        error.with_remedy(remedy).with_retry(self.retry(code, remedy, said))
    }

    /// When to ask again. What the message says is about this request; a reset is when the *whole* allowance is back, and
    /// mostly far too long a wait.
    fn retry(&self, code: Code, remedy: Remedy, said: &Said) -> Retry {
        let asked = self.wait.or(said.wait);
        let wait = match code {
            Code::UpstreamRateLimited if remedy != Remedy::Cool => return Retry::Never,
            Code::UpstreamRateLimited => asked.or_else(|| wait::in_message(&said.message)).or(self.reset),
            Code::UpstreamTimeout | Code::UpstreamError | Code::Overloaded => asked,
            _ => return Error::new(code, "").retry(),
        };
        wait.map_or(Retry::Maybe, Retry::After)
    }
}

/// What an error inside a 200 means: an `error` object of a body or an event.
pub(crate) fn in_band(body: &[u8]) -> Error {
    in_band_of("", body)
}

/// As [`in_band`], of a kind that something outside the body tells.
pub(crate) fn in_band_of(kind: &str, body: &[u8]) -> Error {
    let mut said = read(body);
    said.words.extend((!kind.is_empty()).then(|| kind.to_owned()));
    let status = said.status.filter(|s| (400..600).contains(s)).unwrap_or_else(|| status_of(&said));
    Refusal { status, body, ..Refusal::default() }.judge(&said)
}

/// The vendor answered with something that is not an answer.
pub(crate) fn bad_response(what: &str, found: &[u8]) -> Error {
    Error::new(Code::UpstreamBadResponse, format!("the provider's answer {what}")).with_source(source(found))
}

/// The vendor refused a prompt for this reason before it said anything, in a 200.
pub(crate) fn filtered(why: &str, found: &[u8]) -> Error {
    let say =
        format!("the provider rejected the request: its prompt was blocked ({})", json::bounded(why, 64));
    Error::new(Code::ContentFiltered, say).with_source(source(found))
}

/// The status that an error would have had, had it come before the answer.
fn status_of(said: &Said) -> u16 {
    let known = |word: &String| {
        STATUSES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, status)| *status)
    };
    said.words.iter().find_map(known).unwrap_or(500)
}

/// The vendor's judgement of the caller's input, in its own words.
fn told(code: Code, said: &Said) -> Error {
    let message = blotted(&json::bounded(&said.message, MAX_TEXT));
    let message = if message.is_empty() { "it gave no reason".to_owned() } else { message };
    let error = Error::new(code, format!("the provider rejected the request: {message}"));
    match &said.param {
        Some(param) => error.with_param(json::bounded(param, 128)),
        None => error,
    }
}

fn sentence(code: Code, status: u16) -> String {
    let (what, mend) = match code {
        Code::UpstreamAuth => (
            "the provider refused this gateway's credential",
            "; an operator has to check the provider's `api_key`",
        ),
        Code::UpstreamQuotaExceeded => (
            "the provider's account is out of quota",
            "; an operator has to raise it or use another provider",
        ),
        Code::UpstreamRateLimited => ("the provider limits the rate of this gateway", ""),
        Code::UpstreamTimeout => ("the provider did not answer in time", ""),
        Code::Overloaded => ("the provider is overloaded", "; send the request again a little later"),
        Code::UpstreamError => ("the provider answered with an error", ""),
        _ => ("the provider answered with something that is not an answer", ""),
    };
    format!("{what} (status {status}){mend}")
}

/// Vendor bytes for the log.
fn source(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..4 * MAX_TEXT).unwrap_or(body));
    blotted(&json::bounded(&text, MAX_TEXT))
}

/// Vendors repeat keys in their complaints (`Incorrect API key provided: sk-…`): words that look like keys go.
fn blotted(text: &str) -> String {
    const MARKS: [&str; 6] = ["sk-", "sk_", "gsk_", "AIza", "Bearer", "xai-"];
    if !MARKS.iter().any(|mark| text.contains(mark)) {
        return text.to_owned();
    }
    let word = |word: &str| -> String {
        let at = MARKS.iter().filter_map(|mark| word.find(mark)).min();
        match at {
            Some(at) if word.len() > at + 7 => format!("{}[key]", &word[..at]),
            _ => word.to_owned(),
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
