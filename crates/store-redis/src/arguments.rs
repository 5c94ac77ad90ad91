//! Questions as Redis takes them: see the heads of the scripts.

use penstock_admission::Need;
use penstock_admission::shared::{Changes, Phase, Share};
use penstock_config::{Meter, Per, Span};
use redis::Cmd;

use crate::{account, call, scripts};

/// The largest number of tokens or micro-dollars that is said: no sum of a few of them reaches 2^53.
const MOST: u64 = 1 << 50;
/// What a level may come to: two full buckets and as much again.
const ROOM: u64 = (1 << 53) / 4;

/// How finely a rate leaks: milliseconds of a tick, and ticks of its span. As fine as whole numbers below 2^53 allow.
pub(crate) fn ticks(span: Span, limit: u64) -> (u64, u64) {
    let whole = span.nanos() / 1_000_000;
    let fits = |step: &u64| limit.checked_mul(whole / step).is_some_and(|level| level <= ROOM);
    let step = [1, 10, 100, 1_000, 60_000].into_iter().find(fits).unwrap_or(60_000);
    (step, whole / step)
}

/// A limit that is so high that it limits nothing is said as one that can be counted.
fn limit(span: Span, limit: u64) -> u64 {
    limit.min(ROOM / (span.nanos() / 1_000_000 / 60_000).max(1))
}

fn field(meter: Meter, span: Span) -> &'static str {
    match (meter, span) {
        (Meter::Requests, Span::Minute) => "rqm",
        (Meter::Requests, Span::Hour) => "rqh",
        (Meter::Requests, Span::Day) => "rqd",
        (Meter::Input, Span::Minute) => "rim",
        (Meter::Input, Span::Hour) => "rih",
        (Meter::Input, Span::Day) => "rid",
        (Meter::Output, Span::Minute) => "rom",
        (Meter::Output, Span::Hour) => "roh",
        (Meter::Output, Span::Day) => "rod",
        (Meter::Tokens, Span::Minute) => "rtm",
        (Meter::Tokens, Span::Hour) => "rth",
        (Meter::Tokens, Span::Day) => "rtd",
    }
}

pub(crate) fn reserve(requests: &str, (epoch, number): (&str, &str), shares: &[Share], need: &Need) -> Cmd {
    let mut asked = call(&scripts().reserve, 1 + shares.len());
    asked.arg(requests);
    for share in shares {
        asked.arg(account(&share.place));
    }
    asked.arg(epoch).arg(number);
    amount(&mut asked, need);
    for share in shares {
        let limits = &share.allowance.limits;
        asked.arg(limits.concurrent_requests.map_or(-1, i64::from));
        match share.allowance.budget {
            None => asked.arg(0).arg(0),
            Some(budget) => {
                let per = match budget.per {
                    Per::Day => 1,
                    Per::Month => 2,
                    Per::Lifetime => 3,
                };
                asked.arg(per).arg(budget.usd.0.micros().min(MOST))
            }
        };
        asked.arg(limits.rates().count());
        for (meter, span, most) in limits.rates() {
            let most = limit(span, most);
            let (step, ticks) = ticks(span, most);
            asked.arg(field(meter, span)).arg(most).arg(ticks).arg(step);
        }
    }
    asked
}

fn amount(asked: &mut Cmd, need: &Need) {
    asked.arg(need.input.min(MOST)).arg(need.output.min(MOST)).arg(need.micros.min(MOST));
}

pub(crate) fn put(requests: &str, epoch: &str, changes: &Changes) -> Cmd {
    let mut asked = call(&scripts().put, 1);
    asked.arg(requests).arg(epoch).arg(u8::from(changes.complete));
    asked.arg(changes.debts.as_ref().map_or_else(String::new, |(turn, _)| turn.to_string()));
    for seed in &changes.seeds {
        let (day, month) = seed.period;
        asked.arg("s").arg(account(&seed.place)).arg(day).arg(month).arg(seed.names.len());
        for (name, sums) in &seed.names {
            asked.arg(&**name);
            asked.arg(sums.lifetime.min(MOST)).arg(sums.day.min(MOST)).arg(sums.month.min(MOST));
        }
    }
    for (place, name, total) in &changes.totals {
        asked.arg("t").arg(account(place)).arg(&**name).arg((*total).min(MOST));
    }
    for put in &changes.puts {
        let phase = match put.phase {
            Phase::Held => 0,
            Phase::Ended => 1,
            Phase::Gone => 2,
        };
        asked.arg("p").arg(put.number).arg(phase);
        amount(&mut asked, &put.amount);
        asked.arg(put.shares.len());
        for share in put.shares.iter() {
            asked.arg(account(&share.place));
        }
    }
    for (place, debt) in changes.debts.iter().flat_map(|(_, debts)| debts) {
        asked.arg("d").arg(account(place)).arg(debt.requests.min(MOST));
        asked.arg(debt.input.min(MOST)).arg(debt.output.min(MOST));
    }
    asked
}
