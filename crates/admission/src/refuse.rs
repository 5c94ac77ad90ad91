//! Refusals in words: which limit, whose, how much is left, and when it will be enough.

use std::time::Duration;

use penstock_config::Meter;
use penstock_domain::{Code, Error, Money, Retry};

use crate::account::Lack;
use crate::rules::Level;
use penstock_domain::calendar;

/// The error of a request that lacks something.
#[cold]
pub(crate) fn error(level: Level, name: &str, lack: Lack) -> Error {
    let who = owner(level, name);
    match lack {
        Lack::Slots(limit) => Error::new(
            Code::ConcurrencyLimitExceeded,
            format!("{who} may have {limit} requests in flight and has them: wait until one has ended"),
        ),
        Lack::Rate { meter, bucket, left, ask, wait } => {
            let (limit, span) = (bucket.limit, bucket.span.name());
            let Some(wait) = wait else {
                let say = format!(
                    "this request may need {ask} {}, and {who} may use {limit} per {span}: it never fits; ask for fewer \
                     tokens (max_tokens), shorten the prompt, or ask the operator for a higher limit",
                    meter.name()
                );
                return Error::new(Code::RateLimitExceeded, say).with_retry(Retry::Never);
            };
            let seconds = wait.as_secs_f64();
            let say = if meter == Meter::Requests {
                format!(
                    "{who} may make {limit} requests per {span} and has used them up: try again in {seconds:.1} s"
                )
            } else {
                let what = meter.name();
                format!(
                    "{who} may use {limit} {what} per {span}: {left} are left and this request may need {ask}, try again in \
                     {seconds:.1} s"
                )
            };
            Error::new(Code::RateLimitExceeded, say).with_retry(Retry::After(wait))
        }
        Lack::Money { budget, left, ask, renewed } => {
            let until = match renewed {
                Some(when) => format!("it begins anew on {} (UTC)", calendar::date(when)),
                None => "ask the operator for more".to_owned(),
            };
            let say = if left == 0 {
                format!("the budget of {who} ({budget}) is spent; {until}")
            } else {
                let (left, ask) = (Money::from_micros(left), Money::from_micros(ask));
                format!(
                    "the budget of {who} ({budget}) has {left} USD left and this request may cost {ask}; {until}"
                )
            };
            Error::new(Code::BudgetExceeded, say)
        }
    }
}

/// The error of a request whose price nobody knows, where a budget holds.
#[cold]
pub(crate) fn unpriced(level: Level, name: &str) -> Error {
    let say = format!(
        "a budget holds for {}, and it cannot be kept because no price is known for what is asked: the operator has to set \
         models.NAME.price, 0 for hardware of their own",
        owner(level, name)
    );
    Error::new(Code::PriceUnknown, say)
}

/// The error of an answer that has used what it may.
#[cold]
pub(crate) fn cut(level: Level, name: &str, money: bool) -> Error {
    let (code, what) =
        if money { (Code::BudgetExceeded, "budget") } else { (Code::RateLimitExceeded, "rate of tokens") };
    let say = format!(
        "this answer grew longer than was foreseen and the {what} of {} has no more to lend, so it ends here; a request that \
         names max_tokens is never cut off like this",
        owner(level, name)
    );
    Error::new(code, say)
}

/// The error of a request that other gateways left no room for, though there is some by now.
#[cold]
pub(crate) fn behind_others() -> Error {
    let say = "requests at other gateways have used this limit up: try again in 0.1 s";
    Error::new(Code::RateLimitExceeded, say).with_retry(Retry::After(Duration::from_millis(100)))
}

/// The error of an answer that has used what all gateways together may lend.
#[cold]
pub(crate) fn cut_by_all() -> Error {
    let say = "this answer grew longer than was foreseen and its limits have no more to lend at any gateway, so it ends here; \
               a request that names max_tokens is never cut off like this";
    Error::new(Code::RateLimitExceeded, say)
}

/// The error of a request whose end could not be kept.
#[cold]
pub(crate) fn behind() -> Error {
    let say = "the ledger cannot be written and too much waits for it: try again later, and see the log";
    Error::new(Code::StoreUnavailable, say)
}

fn owner(level: Level, name: &str) -> String {
    match level {
        Level::Key => "this key".to_owned(),
        Level::Team => format!("the team {name}"),
        Level::Organisation => "the organisation".to_owned(),
        Level::Model => format!("the model {name}"),
        Level::Provider => format!("the provider {name}"),
    }
}
