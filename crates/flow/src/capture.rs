//! Content for the records of teams that have capture on. Whoever has it off pays for nothing here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use penstock_domain::{Delta, Request};
use penstock_observe::{Captured, Form};

/// Teams whose requests and answers are kept, and for how long.
#[derive(Debug, Clone, Default)]
pub struct Captures(HashMap<Arc<str>, Duration>);

impl Captures {
    /// Keeps the content of these teams for so long.
    pub fn new(teams: impl IntoIterator<Item = (Arc<str>, Duration)>) -> Self {
        Self(teams.into_iter().collect())
    }

    /// How long the content of a team is kept; `None` when it is not.
    pub(crate) fn retention(&self, team: Option<&str>) -> Option<Duration> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(team?).copied()
    }
}

/// What has been said so far in one request.
pub(crate) struct Capturing(Captured, Vec<u8>);

impl Capturing {
    pub(crate) fn begin(request: &Request, retention: Duration) -> Box<Self> {
        let body = request.body.bytes();
        let request_cut = body.len() > Captured::MAX;
        // A slice would keep all of a long body in memory.
        let request = if request_cut { Bytes::copy_from_slice(&body[..Captured::MAX]) } else { body.clone() };
        let captured = Captured {
            request,
            request_cut,
            answer: Bytes::new(),
            form: Form::default(),
            answer_cut: false,
            retention,
        };
        Box::new(Self(captured, Vec::new()))
    }

    pub(crate) fn see(&mut self, delta: &Delta) {
        match delta {
            Delta::Raw(raw) => {
                self.0.form = Form::Events(raw.dialect);
                self.keep(&raw.bytes);
            }
            Delta::Whole(whole) => {
                self.0.form = Form::Body(whole.dialect);
                self.keep(&whole.bytes);
            }
            Delta::Text { text, .. } | Delta::Reasoning { text, .. } | Delta::Refusal { text, .. } => {
                self.keep(text.as_bytes());
            }
            Delta::ToolCall { name, arguments, .. } => {
                // The first piece of a call has its name.
                if let Some(name) = name {
                    self.keep(b"\n");
                    self.keep(name.as_bytes());
                    self.keep(b" ");
                }
                self.keep(arguments.as_bytes());
            }
            _ => {}
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = Captured::MAX - self.1.len();
        self.0.answer_cut |= bytes.len() > room;
        self.1.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(crate) fn end(self) -> Captured {
        Captured { answer: self.1.into(), ..self.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_teams_that_are_named_are_captured() {
        let captures = Captures::new([("support".into(), Duration::from_secs(7))]);
        assert_eq!(captures.retention(Some("support")), Some(Duration::from_secs(7)));
        assert_eq!((captures.retention(Some("other")), captures.retention(None)), (None, None));
        assert_eq!(Captures::default().retention(Some("support")), None);
    }
}
