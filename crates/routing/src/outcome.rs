//! What a failed attempt says about its target.

use std::time::Duration;

use penstock_domain::{Code, Error, Kind, Remedy, Retry};

/// What a failed attempt says about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is sick, or on its way there.
    Failed,
    /// It has more work than it can take.
    Overloaded,
    /// This credential is to be left alone for this model, for a while.
    Cool(Option<Duration>),
    /// This credential is of no use; `account` when that holds for all its models for certain.
    Retire { account: bool },
    /// It is well: it answered that the request is at fault.
    Answered,
    /// The asker's time was over, which may be the target's fault if it had enough of it.
    OutOfTime,
    /// Nothing.
    Nothing,
}

/// Reads an error.
pub(crate) fn outcome(error: &Error) -> Outcome {
    match (error.remedy(), error.code()) {
        (Remedy::Cool, _) => Outcome::Cool(match error.retry() {
            Retry::After(wait) => Some(wait),
            Retry::Maybe | Retry::Never => None,
        }),
        (Remedy::Retire, code) => Outcome::Retire { account: code == Code::UpstreamQuotaExceeded },
        (Remedy::Larger | Remedy::Filtered, _) => Outcome::Answered,
        // Anybody can ask for what a target cannot do: that must not cost it its good name.
        (Remedy::Same | Remedy::Other, Code::Unsupported) => Outcome::Nothing,
        (Remedy::Same | Remedy::Other, Code::Overloaded) => Outcome::Overloaded,
        (Remedy::Same | Remedy::Other, _) => Outcome::Failed,
        (Remedy::None, Code::DeadlineExceeded) => Outcome::OutOfTime,
        (Remedy::None, Code::UpstreamRejected) => Outcome::Answered,
        (Remedy::None, code) => match code.kind() {
            Kind::NotFound => Outcome::Answered,
            _ => Outcome::Nothing,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_target_s_own_fault_speaks_against_it() {
        let of = |code| outcome(&Error::new(code, "x"));
        assert_eq!(of(Code::UpstreamError), Outcome::Failed);
        assert_eq!(of(Code::UpstreamTimeout), Outcome::Failed);
        assert_eq!(of(Code::Overloaded), Outcome::Overloaded);
        assert_eq!(of(Code::UpstreamRateLimited), Outcome::Cool(None));
        assert_eq!(of(Code::UpstreamAuth), Outcome::Retire { account: false });
        assert_eq!(of(Code::UpstreamQuotaExceeded), Outcome::Retire { account: true });
        for code in [Code::UpstreamRejected, Code::ContextLengthExceeded, Code::ContentFiltered] {
            assert_eq!(of(code), Outcome::Answered, "{code}");
        }
        for code in [Code::Unsupported, Code::ServerShutdown, Code::InvalidRequest] {
            assert_eq!(of(code), Outcome::Nothing, "{code}");
        }
        assert_eq!(of(Code::DeadlineExceeded), Outcome::OutOfTime);
    }
}
